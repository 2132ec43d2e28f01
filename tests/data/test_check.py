from __future__ import annotations

import io
import json
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from attnlens.cli.data import app
from attnlens.cli.output import out
from attnlens.data import check as checking
from attnlens.data.audio import Audio
from attnlens.data.check import CheckReport, check, fix
from attnlens.data.corpus import Corpus
from attnlens.data.manifest import read_manifest
from attnlens.data.utterance import PROBLEMS, Problem, Utterance
from attnlens.errors import BadInput

Clip = Callable[..., Path]
Jsonl = Callable[..., Path]
Noise = Callable[..., Any]

GOOD = {"id": "u1", "audio": "a.wav", "text": "mba'éichapa", "language": "gn"}


def found(report: CheckReport) -> list[tuple[str, str, str | None]]:
    return [(problem.kind, problem.where, problem.id) for problem in report.problems]


def truncated_flac(noise: Noise) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(2), 16_000, format="FLAC")
    return stream.getvalue()[: len(stream.getvalue()) // 2]


def wav(samples: Any, subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16_000, format="WAV", subtype=subtype)
    return stream.getvalue()


def with_nan(noise: Noise) -> bytes:
    samples = noise()
    samples[8_000] = np.nan
    return wav(samples, "FLOAT")


def clipped(noise: Noise, *, gain: float = 1.0, subtype: str = "PCM_16") -> bytes:
    tone = 1.3 * np.sin(np.arange(16_000) * 0.05)
    return wav(np.clip(tone, -1, 1) * gain, subtype)


def huge_header(noise: Noise) -> bytes:
    content = bytearray(wav(noise()))
    content[4:8] = struct.pack("<I", 2**31 - 8)
    content[40:44] = struct.pack("<I", 2**31 - 44)
    return bytes(content)


BROKEN: list[tuple[str, str, Callable[[Noise], bytes], str]] = [
    ("truncated FLAC", "undecodable-audio", truncated_flac, "cannot be decoded"),
    ("no audio at all", "undecodable-audio", lambda _: b"this is no audio", "cannot be decoded"),
    ("an empty file", "undecodable-audio", lambda _: b"", "cannot be decoded"),
    ("a header of 2 GB", "undecodable-audio", huge_header, "promises 2147483604 bytes"),
    ("zero-length WAV", "empty-audio", lambda _: wav(np.zeros(0)), "holds no samples"),
    ("NaN samples", "nan-audio", with_nan, "not numbers"),
    ("zeros", "silent-audio", lambda _: wav(np.zeros(16_000)), "all samples are 0"),
    ("hum at -66 dBFS", "silent-audio", lambda noise: wav(noise() / 200), "-66 dBFS"),
    ("31 seconds", "too-long", lambda noise: wav(noise(31)), "31.0 s, the limit is 30 s"),
    ("50 milliseconds", "too-short", lambda noise: wav(noise(0.05)), "0.050 s"),
    ("clipped", "clipped-audio", clipped, "at full scale"),
    ("clipped at 8 bits", "clipped-audio", lambda noise: clipped(noise, subtype="PCM_U8"), "at full scale"),
]


@pytest.mark.parametrize("case", BROKEN, ids=[case[0] for case in BROKEN])
def test_broken_recordings(
    tmp_path: Path, clip: Clip, jsonl: Jsonl, make_noise: Noise, case: tuple[str, str, Callable[[Noise], bytes], str]
) -> None:
    _, kind, make, words = case
    clip("a.wav")
    (tmp_path / "b.wav").write_bytes(make(make_noise))
    report = check(jsonl(GOOD, GOOD | {"id": "u2", "audio": "b.wav", "text": "y"}))
    assert found(report) == [(kind, "corpus.jsonl:2", "u2")]
    assert words in report.problems[0].detail
    assert [row.utterance.id for row in report.usable()] == (["u1", "u2"] if report.warnings else ["u1"])


def bits8(_: Noise, path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(100, 156, 16_000, dtype=np.uint8).tobytes())


def wide(noise: Noise, path: Path) -> None:
    soundfile.write(path, noise(1, rate=96_000, channels=2), 96_000, format="WAV", subtype="PCM_24")


def misnamed(noise: Noise, path: Path) -> None:
    soundfile.write(path, noise(), 16_000, format="FLAC")


def normalised(noise: Noise, path: Path) -> None:
    samples = noise()
    samples[100] = 1.0
    soundfile.write(path, samples, 16_000, format="WAV")


@pytest.mark.parametrize("write", [bits8, wide, misnamed, normalised])
def test_unusual_recordings_that_are_fine(
    tmp_path: Path, jsonl: Jsonl, make_noise: Noise, write: Callable[[Noise, Path], None]
) -> None:
    write(make_noise, tmp_path / "a.wav")
    report = check(jsonl(GOOD))
    assert report.problems == ()
    assert report.splits["pool"].hours == pytest.approx(1 / 3600)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"audio": "gone.wav"}, "missing-file"),
        ({"text": " "}, "empty-text"),
        ({"id": "u1"}, "duplicate-id"),
        ({"split": "eval"}, "unknown-split"),
        ({"start": "soon"}, "bad-value"),
        ({"start": 0.5, "end": 9.0}, "bad-cut"),
        ({"start": 3.0}, "bad-cut"),
        ({"text": "x" * 41}, "fast-text"),
        ({"text": "caf\ufffd"}, "odd-characters"),
        ({"text": "ca\x00f"}, "odd-characters"),
        ({"language": None}, "no-language"),
        ({"audio": "a.wav"}, "duplicate-audio"),
        ({"audio": "a.wav", "split": "test"}, "audio-in-two-splits"),
        ({"text": "MBA'ÉICHAPA!", "split": "test"}, "text-in-two-splits"),
    ],
)
def test_broken_rows(clip: Clip, jsonl: Jsonl, change: dict[str, Any], kind: str) -> None:
    clip("a.wav")
    clip("b.wav")
    record = GOOD | {"id": "u2", "audio": "b.wav", "text": "peteĩ"} | change
    report = check(jsonl(GOOD, {name: value for name, value in record.items() if value is not None}))
    line = 1 if kind.endswith("two-splits") else 2
    assert found(report) == [(kind, f"corpus.jsonl:{line}", "u2" if line == 2 and kind != "duplicate-id" else "u1")]


def test_recordings_that_cannot_be_heard_are_told_by_their_own_kind(clip: Clip, make_noise: Noise) -> None:
    path = clip("a.wav")
    # A reader would have seen the first of these, unless the file went away in between.
    clips = {
        "missing-file": Audio(path.with_name("gone.wav")),
        "empty-audio": Audio(path, 0.5, 0.50001),
        "bad-cut": Audio(path, 1.5),
        "nan-audio": Audio.from_array(np.full(16_000, np.nan)),
        "undecodable-audio": Audio.from_bytes(b"no audio"),
    }
    utterances = [Utterance(kind, audio, f"text of {kind}", "gn") for kind, audio in clips.items()]
    report = check(Corpus("made", "gn", {"pool": tuple(utterances)}))
    assert [(problem.kind, problem.id) for problem in report.problems] == [(kind, kind) for kind in clips]
    assert report.usable() == ()


def test_a_clip_that_an_edit_refuses_is_told_and_not_raised(make_noise: Noise) -> None:
    short = Audio.from_array(make_noise(0.15)).edited("chunk-shuffle")
    report = check(Corpus("made", "gn", {"pool": (Utterance("u1", short, "che", "gn"),)}))
    assert [(problem.kind, problem.id) for problem in report.problems] == [("undecodable-audio", "u1")]
    assert "too short to shuffle" in report.problems[0].detail


def test_broken_lines_and_files(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    cases = {
        "missing-column": b"id,audio,sentence\nu1,a.wav,che\n",
        "bad-row": b"id,audio,text,language\nu1,a.wav\nu2,a.wav,che,gn\n",
        "not-utf8": b"id,audio,text,language\nu1,a.wav,caf\xe9,gn\nu2,a.wav,che,gn\n",
        "unused": b"\xef\xbb\xbfid,audio,text,language,mood\r\nu2,a.wav,che,gn,glad\r\n",
    }
    for kind, content in cases.items():
        path = tmp_path / "corpus.csv"
        path.write_bytes(content)
        report = check(path)
        assert [problem.kind for problem in report.problems if problem.kind != "unused"] == [kind] * (kind != "unused")
        assert ("unused" in [problem.kind for problem in report.problems]) == (kind in {"unused", "missing-column"})
        assert len(report.rows) == (kind != "missing-column")


def test_folders_are_checked_through_the_same_door(tmp_path: Path, clip: Clip) -> None:
    clip("talk/a.wav")
    clip("talk/b.wav")
    (tmp_path / "talk/a.txt").write_text("che")
    (tmp_path / "talk/c.amr").touch()
    assert found(check(tmp_path / "talk")) == [
        ("unsupported-audio", "c.amr", "c"),
        ("missing-text", "b.wav", "b"),
        ("no-language", "talk", None),
    ]


def test_speakers_and_recordings_over_splits(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav", seconds=2)
    common = GOOD | {"speaker": "ana", "recording": "tape"}
    report = check(jsonl(common | {"end": 1}, common | {"id": "u2", "text": "che", "start": 1, "split": "test"}))
    assert found(report) == [
        ("speaker-in-two-splits", "speaker ana", None),
        ("recording-in-two-splits", "recording tape", None),
    ]
    assert report.errors == ()


def test_every_kind_of_problem_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in PROBLEMS if f'"{kind}"' not in source] == []


def test_the_summary_counts(clip: Clip, jsonl: Jsonl) -> None:
    for name, seconds in (("a.wav", 1), ("b.wav", 2), ("c.wav", 3)):
        clip(name, seconds=seconds)
    report = check(
        jsonl(
            GOOD | {"speaker": "ana"},
            GOOD | {"id": "u2", "audio": "b.wav", "text": "aab", "speaker": "ana", "recording": "r"},
            GOOD | {"id": "u3", "audio": "c.wav", "text": "peteĩ", "language": "quy", "split": "test"},
        )
    )
    assert report.problems == ()
    pool, test = report.splits["pool"], report.splits["test"]
    assert (pool.utterances, pool.speakers, pool.recordings, pool.languages) == (2, 1, 1, {"gn": 2})
    assert (test.utterances, test.speakers, test.recordings, test.languages) == (1, 0, 0, {"quy": 1})
    assert [pool.hours, test.hours] == pytest.approx([3 / 3600, 3 / 3600])
    assert report.characters["a"] == 5
    assert list(report.characters.values()) == sorted(report.characters.values(), reverse=True)
    again = json.loads(json.dumps(report.to_dict()))
    assert again["splits"]["pool"]["languages"] == {"gn": 2}
    assert (again["errors"], again["warnings"], again["problems"]) == (0, 0, [])
    assert list(check(Path(report.source), language="quy").splits) == ["test"]
    with pytest.raises(BadInput, match="no rows of language 'qu'"):
        check(Path(report.source), language="qu")


def test_everything_is_told_and_not_only_the_first(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    (tmp_path / "b.wav").write_bytes(b"no audio")
    rows = [GOOD, GOOD | {"id": "u2", "audio": "b.wav", "text": "\x07" * 9}, GOOD | {"id": "u3", "text": ""}]
    report = check(jsonl(*rows, GOOD))
    assert found(report) == [
        ("empty-text", "corpus.jsonl:3", "u3"),
        ("duplicate-id", "corpus.jsonl:4", "u1"),
        ("undecodable-audio", "corpus.jsonl:2", "u2"),
        ("odd-characters", "corpus.jsonl:2", "u2"),
    ]
    assert report.to_dict()["kinds"] == dict.fromkeys(
        ["empty-text", "duplicate-id", "undecodable-audio", "odd-characters"], 1
    )


def test_the_same_samples_count_as_the_same_in_any_container(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    samples, rate = soundfile.read(clip("a.wav"), dtype="int16")
    soundfile.write(tmp_path / "b.flac", samples, rate)
    report = check(jsonl(GOOD, GOOD | {"id": "u2", "audio": "b.flac", "text": "che", "split": "test"}))
    assert [kind for kind, _, _ in found(report)] == ["audio-in-two-splits"]


def test_silence_is_not_also_a_duplicate(tmp_path: Path, jsonl: Jsonl) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(wav(np.zeros(16_000)))
    report = check(jsonl(GOOD, GOOD | {"id": "u2", "audio": "b.wav", "text": "che", "split": "test"}))
    assert {kind for kind, _, _ in found(report)} == {"silent-audio"}


def test_the_limit_is_the_callers(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav", seconds=2)
    assert check(jsonl(GOOD), limit_seconds=2).problems == ()
    assert [kind for kind, _, _ in found(check(jsonl(GOOD), limit_seconds=1.9))] == ["too-long"]
    with pytest.raises(BadInput, match="seconds above 0"):
        check(jsonl(GOOD), limit_seconds=0)


def test_hours_of_audio_are_told_from_the_header(clip: Clip, jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch) -> None:
    clip("a.wav", seconds=3)
    monkeypatch.setattr(checking, "UNHEARD", 2.0)
    monkeypatch.setattr(Audio, "load", lambda _: pytest.fail("decoded"))
    (problem,) = check(jsonl(GOOD), limit_seconds=1).problems
    assert (problem.kind, problem.detail) == ("too-long", "3.0 s, the limit is 1 s; the samples were not looked at")


def test_every_recording_is_decoded_once(clip: Clip, jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch) -> None:
    clip("a.wav")
    loads: list[Audio] = []
    load = Audio.load
    monkeypatch.setattr(Audio, "load", lambda audio: loads.append(audio) or load(audio))  # type: ignore[func-returns-value]
    check(jsonl(GOOD, GOOD | {"id": "u2", "start": 0.5}))
    assert len(loads) == 2


def test_a_corpus_in_memory_is_checked_with_what_was_skipped(make_noise: Noise) -> None:
    utterances = tuple(Utterance(f"u{n}", Audio.from_array(make_noise(seed=0)), f"{n}" * 9, "gn") for n in range(2))
    skipped = Problem("empty-text", "train[7]", "u7", "the text is empty")
    report = check(Corpus("made", "gn", {"pool": utterances[:1], "test": utterances[1:]}, (skipped,)))
    assert found(report) == [("empty-text", "train[7]", "u7"), ("audio-in-two-splits", "pool[0]", "u0")]
    assert report.source.startswith("Corpus('made'")


def test_fix_writes_the_good_rows_and_lists_the_others(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    clip("b.wav", seconds=2)
    source = jsonl(
        GOOD,
        GOOD | {"text": "the same id"},
        GOOD
        | {"id": "u3", "audio": "b.wav", "text": "x\ty", "speaker": "ana", "start": 0.5, "end": 1.5, "split": "dev"},
        GOOD | {"id": "u4", "audio": "gone.wav"},
    )
    before = source.read_bytes()
    clean = fix(check(source), tmp_path / "clean.jsonl")
    corpus = read_manifest(clean)
    assert [(utterance.id, utterance.text) for utterance in corpus] == [("u1", "mba'éichapa"), ("u3", "x\ty")]
    assert corpus["u3"] == Utterance("u3", Audio(tmp_path / "b.wav", 0.5, 1.5), "x\ty", "gn", "ana")
    assert [kind for kind, _, _ in found(check(clean))] == ["odd-characters"]
    lines = (tmp_path / "clean.jsonl.removed.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[:3] for line in lines] == [
        ["where", "id", "kind"],
        ["corpus.jsonl:2", "u1", "duplicate-id"],
        ["corpus.jsonl:4", "u4", "missing-file"],
    ]
    assert source.read_bytes() == before


def test_fix_gives_every_row_the_language_that_was_named(tmp_path: Path, clip: Clip) -> None:
    clip("talk/a.wav")
    (tmp_path / "talk/a.txt").write_text("che")
    clean = fix(check(tmp_path / "talk", language="gn"), tmp_path / "clean.jsonl")
    assert read_manifest(clean).language == "gn"


def test_fix_overwrites_nothing(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    source = jsonl(GOOD)
    report = check(source)
    for name in (source.name, "clean.jsonl"):
        (tmp_path / "clean.jsonl.removed.tsv").write_text("precious")
        with pytest.raises(BadInput, match="already there"):
            fix(report, tmp_path / name)
    assert not (tmp_path / "clean.jsonl").exists()
    assert (tmp_path / "clean.jsonl.removed.tsv").read_text() == "precious"
    with pytest.raises(BadInput, match=r"(?s)no row is without errors.*missing-file"):
        fix(check(jsonl(GOOD | {"audio": "gone.wav"})), tmp_path / "other.jsonl")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def call(*arguments: str, as_json: bool = False) -> Any:
        monkeypatch.setattr(out, "json", as_json)
        return CliRunner().invoke(app, ["check", *arguments])

    return call


def test_the_command_prints_a_table(clip: Clip, jsonl: Jsonl, cli: Callable[..., Any]) -> None:
    clip("a.wav")
    clip("b.wav")
    result = cli(str(jsonl(GOOD, GOOD | {"id": "u2", "audio": "b.wav", "text": "peteĩ [red] ha", "split": "test"})))
    assert result.exit_code == 0, result.output
    for words in ("pool", "test", "gn 1", "no problems", "characters, commonest first", "[ 1"):
        assert words in result.output


def test_the_command_ends_with_3_when_there_are_errors(
    tmp_path: Path, clip: Clip, jsonl: Jsonl, cli: Callable[..., Any]
) -> None:
    clip("a.wav")
    source = jsonl(GOOD, *(GOOD | {"id": f"u{number}", "audio": "gone[b].wav"} for number in range(2, 40)))
    result = cli(str(source), "--fix", str(tmp_path / "clean.jsonl"))
    assert result.exit_code == 3
    for words in ("missing-file", "38", "corpus.jsonl:2", "gone[b].wav", "and 18 more", "1 rows without errors are in"):
        assert words in result.output
    assert len(read_manifest(tmp_path / "clean.jsonl")) == 1


def test_a_name_that_is_taken_is_refused_before_anything_is_read(
    tmp_path: Path, clip: Clip, jsonl: Jsonl, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip("a.wav")
    source = jsonl(GOOD)
    monkeypatch.setattr(Audio, "load", lambda _: pytest.fail("decoded"))
    for name, words in (
        (source.name, "already there"),
        ("clean.csv", "as JSONL"),
        ("no/clean.jsonl", "no such folder"),
    ):
        refusal = cli(str(source), "--fix", str(tmp_path / name)).exception
        assert isinstance(refusal, BadInput)
        assert words in str(refusal)


def test_warnings_alone_end_with_0(clip: Clip, jsonl: Jsonl, cli: Callable[..., Any]) -> None:
    clip("a.wav")
    result = cli(str(jsonl(GOOD | {"mood": "glad"})), "--max-seconds", "1")
    assert (result.exit_code, "unused" in result.output) == (0, True)
    assert cli(str(jsonl(GOOD)), "--max-seconds", "0.5").exit_code == 3


def test_the_command_prints_json(tmp_path: Path, clip: Clip, jsonl: Jsonl, cli: Callable[..., Any]) -> None:
    clip("a.wav")
    source = jsonl(GOOD, GOOD | {"id": "u2", "audio": "gone.wav"})
    result = cli(str(source), "--language", "gn", "--fix", str(tmp_path / "clean.jsonl"), as_json=True)
    answer = json.loads(result.output)
    assert (result.exit_code, answer["errors"], answer["kinds"]) == (3, 1, {"missing-file": 1})
    assert answer["problems"][0]["severity"] == "error"
    assert answer["fixed"] == {
        "manifest": str(tmp_path / "clean.jsonl"),
        "rows": 1,
        "removed": str(tmp_path / "clean.jsonl.removed.tsv"),
    }


def test_progress_is_shown_on_a_terminal_once_it_takes_long(
    clip: Clip, jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip("a.wav")
    rows = jsonl(GOOD)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    check(rows)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(checking, "PATIENCE", 0.0)
    check(rows, progress="never")
    assert capsys.readouterr() == ("", "")
    check(rows)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "reading the recordings" in shown.err
    monkeypatch.delenv("FORCE_COLOR")
    check(rows)
    assert capsys.readouterr() == ("", "")
