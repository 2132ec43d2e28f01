from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnlens.data.corpus import Corpus, Row
from attnlens.data.folder import folder_rows, read_folder
from attnlens.data.manifest import read_manifest, write_manifest
from attnlens.data.read import read_corpus, read_rows
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput

Clip = Callable[..., Path]


def problems(path: Path) -> list[tuple[str, str, str | None]]:
    return [(item.kind, item.where, item.id) for item in folder_rows(path) if isinstance(item, Problem)]


def texts(corpus: Corpus) -> dict[str, str]:
    return {utterance.id: utterance.text for utterance in corpus}


def test_a_text_file_beside_each_recording(tmp_path: Path, clip: Clip) -> None:
    for name in ("a.wav", "deep/b.flac", "deep/c.OGG"):
        clip(name)
    (tmp_path / "a.txt").write_bytes("\ufeffmba'éichapa\r\n\r\nche\r\n".encode())
    (tmp_path / "deep/b.txt").write_text("nde", encoding="utf-8")
    (tmp_path / "deep/c.txt").write_text("ha", encoding="utf-8")
    corpus = read_folder(tmp_path, language="gn")
    assert texts(corpus) == {"a": "mba'éichapa che", "deep/b": "nde", "deep/c": "ha"}
    assert corpus["deep/b"].audio.source == tmp_path / "deep/b.flac"
    assert [len(utterance.audio.load()) for utterance in corpus] == [16_000] * 3


def test_sub_folders_are_splits_under_any_of_their_names(tmp_path: Path, clip: Clip) -> None:
    for place in ("train/ana", "pool", "dev", "Valid", "validation", "test", "more"):
        name = place.replace("/", "-").lower()
        clip(f"{place}/{name}.wav")
        (tmp_path / place / f"{name}.txt").write_text(name)
    corpus = read_folder(tmp_path, language="gn", split="test")
    assert [utterance.id for utterance in corpus.pool] == ["pool/pool", "train/ana/train-ana"]
    assert [utterance.id for utterance in corpus.dev] == ["Valid/valid", "dev/dev", "validation/validation"]
    assert [utterance.id for utterance in corpus.test] == ["more/more", "test/test"]


def test_one_list_for_a_folder(tmp_path: Path, clip: Clip) -> None:
    for name in ("agent.wav", "digits/1.wav", "a.b.wav", "10:30.wav"):
        clip(name)
    lines = ["; made in 2004", "agent: Say: yes", "", "digits/1.wav: one", "a.b.wav: dots", "10:30: half past ten"]
    (tmp_path / "transcripts.txt").write_text("\n".join(lines), encoding="utf-8")
    assert texts(read_folder(tmp_path, language="en")) == {
        "agent": "Say: yes",
        "digits/1": "one",
        "a.b": "dots",
        "10:30": "half past ten",
    }


def test_lists_with_tabs_count_from_their_own_folder(tmp_path: Path, clip: Clip) -> None:
    clip("test/a.wav")
    clip("pool/a.wav")
    (tmp_path / "test/transcripts.tsv").write_text("a\tche: ha\n", encoding="utf-8")
    (tmp_path / "transcripts.tsv").write_text("pool/a.wav\tnde\n", encoding="utf-8")
    assert texts(read_folder(tmp_path, language="gn")) == {"pool/a": "nde", "test/a": "che: ha"}


def test_librispeech_layout_gives_speakers_and_recordings(tmp_path: Path, clip: Clip) -> None:
    clip("84/121123/84-121123-0000.flac")
    clip("84/121123/84-121123-0001.flac")
    (tmp_path / "84/121123/84-121123.trans.txt").write_text("84-121123-0000 GO DO YOU HEAR\n84-121123-0001 BUT\n")
    corpus = read_folder(tmp_path, language="en", split="dev")
    assert texts(corpus) == {"84-121123-0000": "GO DO YOU HEAR", "84-121123-0001": "BUT"}
    assert {(utterance.speaker, utterance.recording) for utterance in corpus.dev} == {("84", "84-121123")}


def test_what_does_not_pair_up_is_told_and_skipped_only_on_request(tmp_path: Path, clip: Clip) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        clip(name)
    (tmp_path / "e.m4a").write_bytes(b"\0")
    lines = ["a: che", "gone: nde", "no separator", "c:", "d: ha"]
    (tmp_path / "transcripts.txt").write_text("\n".join(lines), encoding="utf-8")
    assert problems(tmp_path) == [
        ("unsupported-audio", "e.m4a", "e"),
        ("missing-file", "transcripts.txt:2", "gone"),
        ("bad-row", "transcripts.txt:3", None),
        ("missing-text", "b.wav", "b"),
        ("empty-text", "c.wav", "c"),
    ]
    with pytest.raises(BadInput, match=r"(?s)5 problems.*no gone\.\*.*looked for b\.txt"):
        read_folder(tmp_path, language="gn")
    corpus = read_folder(tmp_path, language="gn", on_bad="skip")
    assert texts(corpus) == {"a": "che", "d": "ha"}
    assert len(corpus.skipped) == 5


def test_two_different_transcripts_of_one_recording_leave_it_out(tmp_path: Path, clip: Clip) -> None:
    for name in ("a.wav", "b.wav"):
        clip(name)
    (tmp_path / "a.txt").write_text("che")
    (tmp_path / "transcripts.txt").write_text("a: nde\nb: ha\nb: ha\n")
    assert problems(tmp_path) == [("duplicate-id", "transcripts.txt:1", "a")]
    assert texts(read_folder(tmp_path, language="gn", on_bad="skip")) == {"b": "ha"}


def test_two_recordings_of_one_name_are_told(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    clip("a.flac")
    (tmp_path / "a.txt").write_text("che")
    with pytest.raises(BadInput, match=r"already taken at a\.flac"):
        read_folder(tmp_path, language="gn")


def test_transcripts_that_are_not_utf8_are_told(tmp_path: Path, clip: Clip) -> None:
    for name in ("a.wav", "b.wav"):
        clip(name)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "transcripts.txt").write_bytes(b"# a remark\nb: caf\xe9\n")
    assert [(kind, where) for kind, where, _ in problems(tmp_path)][:2] == [
        ("not-utf8", "a.txt:1"),
        ("not-utf8", "transcripts.txt:2"),
    ]


def test_other_files_are_listed_and_hidden_ones_are_not_read(tmp_path: Path, clip: Clip) -> None:
    for name in ("a.wav", "._a.wav", ".cache/b.wav"):
        clip(name)
    for name in ("a.txt", "README.txt", "LICENSE", "a.TextGrid"):
        (tmp_path / name).write_text("che")
    assert problems(tmp_path) == [("unused", tmp_path.name, None)]
    (told,) = (item for item in folder_rows(tmp_path) if isinstance(item, Problem))
    assert told.detail == "files that are not read: 1 LICENSE, 1 .txt, 1 .TextGrid"
    assert texts(read_folder(tmp_path, language="gn")) == {"a": "che"}


def test_links_are_followed_and_circles_end(tmp_path: Path, clip: Clip) -> None:
    clip("disk/a.wav")
    (tmp_path / "disk/a.txt").write_text("che")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "test").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/again").symlink_to(corpus)
    assert texts(read_folder(corpus, language="gn")) == {"test/a": "che"}


def test_a_folder_says_what_it_lacks(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        read_folder(tmp_path / "gone", language="gn")
    with pytest.raises(BadInput, match="no audio files"):
        read_folder(tmp_path, language="gn")
    clip("a.wav")
    (tmp_path / "a.txt").write_text("che")
    with pytest.raises(BadInput, match="does not say which language"):
        read_folder(tmp_path)


def test_a_folder_becomes_a_manifest(tmp_path: Path, clip: Clip) -> None:
    clip("test/a.wav")
    (tmp_path / "test/a.txt").write_text("che")
    corpus = read_folder(tmp_path, language="gn")
    again = read_manifest(write_manifest(corpus, tmp_path / "manifest.jsonl"))
    assert again.splits == corpus.splits
    # From now on the manifest says what the folder holds.
    assert read_corpus(tmp_path) == again


def test_the_reader_is_found_by_looking(tmp_path: Path, clip: Clip) -> None:
    clip("plain/a.wav")
    (tmp_path / "plain/a.txt").write_text("che")
    clip("kaldi/a.wav")
    (tmp_path / "kaldi/wav.scp").write_text("k a.wav\n")
    (tmp_path / "kaldi/text").write_text("k nde\n")
    clip("table/a.wav")
    (tmp_path / "table/manifest.tsv").write_text("id\taudio\ttext\nt\ta.wav\tha\n")
    assert texts(read_corpus(tmp_path / "plain", language="gn")) == {"a": "che"}
    assert texts(read_corpus(tmp_path / "kaldi", language="gn")) == {"k": "nde"}
    assert texts(read_corpus(tmp_path / "table", language="gn")) == {"t": "ha"}
    assert texts(read_corpus(str(tmp_path / "table/manifest.tsv"), language="gn", split="test")) == {"t": "ha"}
    assert [item.split for item in read_rows(tmp_path / "plain", split="dev") if isinstance(item, Row)] == ["dev"]


def test_what_no_reader_takes_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest\.jsonl \(\.csv, \.tsv\), wav\.scp or audio"):
        read_corpus(tmp_path / "gone")
    for name in ("manifest.csv", "manifest.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match="more than one manifest"):
        read_corpus(tmp_path)
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "dataset_info.json").touch()
    with pytest.raises(BadInput, match="load_from_disk"):
        read_corpus(saved)
