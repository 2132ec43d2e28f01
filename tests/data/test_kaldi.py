from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnlens.data.audio import Audio
from attnlens.data.kaldi import kaldi_rows, read_kaldi
from attnlens.data.utterance import Problem, Utterance
from attnlens.errors import BadInput

Clip = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, clip: Clip) -> Callable[..., Path]:
    """Write a Kaldi folder: its files as keyword arguments, `wav_scp` for wav.scp."""

    def write(name: str = "data", **files: str) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True, exist_ok=True)
        clip(f"{name}/tape.wav", seconds=4)
        for file, text in files.items():
            (path / file.replace("_scp", ".scp")).write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path) -> list[tuple[str, str, str | None]]:
    return [(item.kind, item.where, item.id) for item in kaldi_rows(path) if isinstance(item, Problem)]


def test_whole_recordings(folder: Callable[..., Path]) -> None:
    path = folder(wav_scp="u1 tape.wav\n", text="u1 mba'éichapa  che\n", utt2spk="u1 u1\n")
    corpus = read_kaldi(path, language="gn", split="test")
    # The utterance's own id as its speaker is how Kaldi says that the speaker is unknown.
    assert corpus.test == (Utterance("u1", Audio(path / "tape.wav"), "mba'éichapa  che", "gn"),)


def test_segments_speakers_and_languages(folder: Callable[..., Path]) -> None:
    path = folder(
        wav_scp="tape tape.wav\n",
        segments="ana-1 tape 0.5 1.25\nana-2 tape 2 -1\nbo-1 tape 0 1\n",
        text="ana-1 che\nana-2 nde\nbo-1 yes\n",
        utt2spk="ana-1 ana\nana-2 ana\nbo-1 bo\n",
        utt2lang="ana-1 gn\nana-2 gn\nbo-1 en\n",
    )
    corpus = read_kaldi(path, language="gn")
    assert corpus.pool == (
        Utterance("ana-1", Audio(path / "tape.wav", 0.5, 1.25), "che", "gn", "ana", "tape"),
        Utterance("ana-2", Audio(path / "tape.wav", 2.0), "nde", "gn", "ana", "tape"),
    )
    assert [len(utterance.audio.load()) for utterance in corpus] == [12_000, 32_000]
    with pytest.raises(BadInput, match="several languages"):
        read_kaldi(path)


def test_folders_named_after_splits(folder: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        folder(name, wav_scp=f"{name}-1 tape.wav\n", text=f"{name}-1 che\n")
    corpus = read_kaldi(tmp_path, language="gn")
    assert [utterance.id for utterance in (*corpus.pool, *corpus.dev, *corpus.test)] == ["train-1", "dev-1", "test-1"]
    folder("train_sp", wav_scp="x tape.wav\n", text="x che\n")
    assert problems(tmp_path) == [("unknown-split", "train_sp/", None)]
    with pytest.raises(BadInput, match="read it by its own path"):
        read_kaldi(tmp_path, language="gn")


def test_paths_start_from_the_folder_or_as_in_kaldi_from_here(
    folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder("recipe/data/train", text="u1 che\nu2 nde\n")
    (path / "wav.scp").write_text(f"u1 data/train/tape.wav\nu2 {path / 'tape.wav'}\n")
    assert problems(path) == [("missing-file", "wav.scp:1", "u1")]
    monkeypatch.chdir(tmp_path / "recipe")
    assert problems(path) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("sox tape.wav -t wav - |", "no shell is run"),
        ("cat tape.wav|", "no shell is run"),
        ("raw.ark:1042", "Kaldi archive"),
        ("-", "standard input"),
        ("", "no audio is named"),
    ],
)
@pytest.mark.parametrize("segments", ["", "u1 u1 0 1\n"])
def test_what_is_no_file_is_refused_with_the_reason(
    folder: Callable[..., Path], source: str, words: str, segments: str
) -> None:
    files = {"wav_scp": f"u1 {source}\nu2 tape.wav\n", "text": "u1 che\nu2 nde\n"}
    if segments:
        files["segments"] = segments + "u2 u2 0 1\n"
    path = folder(**files)
    assert problems(path) == [("unsupported-audio", "segments:1" if segments else "wav.scp:1", "u1")]
    with pytest.raises(BadInput, match=words):
        read_kaldi(path, language="gn")
    assert [utterance.id for utterance in read_kaldi(path, language="gn", on_bad="skip")] == ["u2"]


def test_everything_that_does_not_fit_together_is_told(folder: Callable[..., Path]) -> None:
    path = folder(
        wav_scp="tape tape.wav\ngone gone.wav\ntape other.wav\n",
        segments="\n".join(
            [
                "u1 tape 0 1",
                "u2 tape 1",
                "u3 tape one two",
                "u4 tape 0 nan",
                "u5 reel 0 1",
                "u6 tape 2 1",
                "u7 tape 0 1",
                "u8 tape 0 1",
                "u9 gone 0 1",
                "u10 tape -0.5 1",
            ]
        ),
        text="u1 che\nu6 ha\nu8\nu9 nde\nu10 ha\nu11 lost\n",
        utt2spk="u1 ana\nu1 bo\n",
    )
    assert problems(path) == [
        ("duplicate-id", "wav.scp:3", "tape"),
        ("duplicate-id", "utt2spk:2", "u1"),
        ("bad-row", "segments:2", "u2"),
        ("bad-row", "segments:3", "u3"),
        ("bad-row", "segments:4", "u4"),
        ("missing-file", "segments:5", "u5"),
        ("bad-value", "segments:6", "u6"),
        ("missing-text", "segments:7", "u7"),
        ("empty-text", "segments:8", "u8"),
        ("missing-file", "segments:9", "u9"),
        ("bad-value", "segments:10", "u10"),
        ("missing-file", "text:6", "u11"),
    ]
    corpus = read_kaldi(path, language="gn", on_bad="skip")
    assert [(utterance.id, utterance.speaker) for utterance in corpus] == [("u1", "ana")]


def test_lines_that_are_not_utf8_are_told(folder: Callable[..., Path]) -> None:
    path = folder(wav_scp="u1 tape.wav\nu2 tape.wav\n")
    (path / "text").write_bytes(b"u1 caf\xe9\nu2 che\n")
    assert problems(path) == [("not-utf8", "text:1", None), ("missing-text", "wav.scp:1", "u1")]


def test_a_folder_says_what_it_lacks(folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        read_kaldi(tmp_path / "gone")
    with pytest.raises(BadInput, match=r"(?s)no wav\.scp.*nothing"):
        read_kaldi(tmp_path)
    with pytest.raises(BadInput, match=r"(?s)no file named text.*tape\.wav, wav\.scp"):
        read_kaldi(folder(wav_scp="u1 tape.wav\n"))
