from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.data.audio import Audio
from attnlens.data.corpus import Corpus
from attnlens.data.manifest import manifest_rows, read_manifest, write_manifest
from attnlens.data.utterance import Problem, Utterance
from attnlens.errors import BadInput

Clip = Callable[..., Path]
Jsonl = Callable[..., Path]

GOOD = {"id": "u1", "audio": "a.wav", "text": "mba'éichapa", "language": "gn"}


def problems(path: Path) -> list[tuple[str, str, str | None]]:
    return [(item.kind, item.where, item.id) for item in manifest_rows(path) if isinstance(item, Problem)]


def details(path: Path) -> str:
    return "\n".join(item.detail for item in manifest_rows(path) if isinstance(item, Problem))


def test_every_column_of_jsonl_arrives(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    clip("audio/a.wav", seconds=2)
    record = GOOD | {
        "audio": "audio/a.wav",
        "speaker": "ana",
        "recording": "tape-1",
        "start": 0.5,
        "end": 1.5,
        "split": "dev",
    }
    corpus = read_manifest(jsonl(record))
    assert (corpus.name, corpus.language, corpus.pool, corpus.test, corpus.skipped) == ("corpus", "gn", (), (), ())
    expected = Utterance("u1", Audio(tmp_path / "audio/a.wav", 0.5, 1.5), "mba'éichapa", "gn", "ana", "tape-1")
    assert corpus.dev == (expected,)
    assert len(corpus["u1"].audio.load()) == 16_000


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_tables_say_the_same_as_jsonl(tmp_path: Path, clip: Clip, jsonl: Jsonl, suffix: str) -> None:
    clip("a.wav")
    mark = "," if suffix == ".csv" else "\t"
    lines = [
        ("id", "audio", "text", "language", "speaker", "recording", "start", "end", "split"),
        ("u1", "a.wav", '"che, ""ha"" nde"', "gn", "", "", "0.25", "", "train"),
        ("u2", "a.wav", "nde", "gn", "ana", "", "", " 0.5 ", "TEST"),
    ]
    table = tmp_path / f"corpus{suffix}"
    table.write_text("\n".join(mark.join(line) for line in lines), encoding="utf-8")
    same = jsonl(
        GOOD | {"text": 'che, "ha" nde', "start": 0.25, "split": "pool"},
        GOOD | {"id": "u2", "text": "nde", "speaker": "ana", "end": 0.5, "split": "test"},
    )
    assert read_manifest(table) == read_manifest(same)


def test_the_split_of_rows_that_name_none_is_the_callers(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    path = jsonl(GOOD, GOOD | {"id": "u2", "split": "validation"})
    assert [utterance.id for utterance in read_manifest(path).pool] == ["u1"]
    assert [utterance.id for utterance in read_manifest(path, split="test").test] == ["u1"]
    assert [utterance.id for utterance in read_manifest(path, split="test").dev] == ["u2"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_byte_order_mark_and_windows_line_ends_change_nothing(
    tmp_path: Path, clip: Clip, suffix: str, mark: bytes, ending: str
) -> None:
    clip("a.wav")
    if suffix == ".jsonl":
        lines = [json.dumps(GOOD), "", json.dumps(GOOD | {"id": "u2"}), ""]
    else:
        comma = "," if suffix == ".csv" else "\t"
        lines = [comma.join(GOOD), comma.join(GOOD.values()), "", comma.join((GOOD | {"id": "u2"}).values()), ""]
    path = tmp_path / f"corpus{suffix}"
    path.write_bytes(mark + ending.join(lines).encode())
    assert problems(path) == []
    assert [(utterance.id, utterance.text) for utterance in read_manifest(path)] == [
        ("u1", "mba'éichapa"),
        ("u2", "mba'éichapa"),
    ]


def test_a_comma_separated_text_may_hold_commas_quotes_and_line_feeds(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    path = tmp_path / "corpus.csv"
    path.write_text('id,audio,text\nu1,a.wav,"che, ""ha""\nnde"\nu2,a.wav,\n', encoding="utf-8")
    corpus = read_manifest(path, language="gn", on_bad="skip")
    assert corpus["u1"].text == 'che, "ha"\nnde'
    # Line numbers count lines of the file, as an editor does.
    assert problems(path) == [("empty-text", "corpus.csv:4", "u2")]


@pytest.mark.parametrize("text", ['"', 'che "ha', '"che" ha', "'che'", '""'])
def test_a_quotation_mark_in_a_tab_separated_text_swallows_nothing(tmp_path: Path, clip: Clip, text: str) -> None:
    clip("a.wav")
    path = tmp_path / "corpus.tsv"
    path.write_text(f"id\taudio\ttext\nu1\ta.wav\tx{text}\nu2\ta.wav\tche\n", encoding="utf-8")
    assert [utterance.text for utterance in read_manifest(path, language="gn")] == [f"x{text}", "che"]


def test_rare_line_separators_inside_a_text_do_not_split_it(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    text = "che\u2028ha\u0085nde"
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps(GOOD | {"text": text}, ensure_ascii=False), encoding="utf-8")
    assert read_manifest(path)["u1"].text == text


BROKEN: list[tuple[str, dict[str, Any] | str, str, str]] = [
    ("broken JSON", '{"id": "u2", "audio": "a.wav"', "bad-row", "not valid JSON"),
    ("a list", "[1, 2]", "bad-row", "not one list"),
    ("a key twice", '{"id": "u2", "id": "u3", "audio": "a.wav", "text": "x"}', "bad-row", "'id' occurs twice"),
    ("deep nesting", "[" * 100_000, "bad-row", "not usable JSON"),
    ("no text", {"text": None}, "empty-text", "empty"),
    ("blank text", {"text": " \t"}, "empty-text", "empty"),
    ("a number as text", {"text": 17}, "bad-value", "should be a string, not 17"),
    ("half a surrogate", {"text": "\ud800"}, "bad-value", "surrogate"),
    ("no id", {"id": ""}, "bad-value", "id is empty"),
    ("no audio", {"audio": ""}, "bad-value", "audio is empty"),
    ("a start that is no number", {"start": "soon"}, "bad-value", "not 'soon'"),
    ("a start that is true", {"start": True}, "bad-value", "not True"),
    ("a start that is NaN", {"start": "nan"}, "bad-value", "not 'nan'"),
    ("a start below 0", {"start": -1}, "bad-value", "from 0 on, not -1"),
    ("an end before its start", {"start": 2, "end": 1}, "bad-value", "end 1 is not after start 2"),
    ("an unknown split", {"split": "eval"}, "unknown-split", "'eval'; known: pool, train, dev"),
    ("a missing file", {"audio": "gone.wav"}, "missing-file", "no such file"),
    ("a folder as audio", {"audio": "."}, "missing-file", "not a file but a folder"),
    ("a name too long for any disk", {"audio": "a" * 5000}, "missing-file", "not reachable"),
    ("a duplicate id", {"id": "u1"}, "duplicate-id", "already taken at corpus.jsonl:1"),
]


@pytest.mark.parametrize(("record", "kind", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_every_bad_row_is_told_with_its_line_and_skipped_only_on_request(
    tmp_path: Path, clip: Clip, record: dict[str, Any] | str, kind: str, words: str
) -> None:
    clip("a.wav")
    line = record if isinstance(record, str) else json.dumps(GOOD | {"id": "u2"} | record)
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join([json.dumps(GOOD), line, json.dumps(GOOD | {"id": "u9"})]), encoding="utf-8")
    with pytest.raises(BadInput) as refusal:
        read_manifest(path)
    assert "corpus.jsonl:2" in str(refusal.value)
    assert words in str(refusal.value)
    skipped = read_manifest(path, on_bad="skip")
    assert [utterance.id for utterance in skipped] == ["u1", "u9"]
    assert [(problem.kind, problem.where) for problem in skipped.skipped] == [(kind, "corpus.jsonl:2")]
    assert "skipped=1" in repr(skipped)


def test_a_row_tells_all_that_is_wrong_with_it(jsonl: Jsonl) -> None:
    path = jsonl(GOOD | {"text": "", "audio": "gone.wav", "start": "soon", "split": "eval"})
    assert sorted(kind for kind, _, _ in problems(path)) == ["bad-value", "empty-text", "missing-file", "unknown-split"]


def test_a_number_may_be_an_id(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    assert read_manifest(jsonl(GOOD | {"id": 17, "speaker": 3}))["17"].speaker == "3"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("id,audio,sentence", "rename 'sentence' to 'text'"),
        ("id,audio,txt", "rename 'txt' to 'text'"),
        ("id,audio_filepath,text", "rename 'audio_filepath' to 'audio'"),
        ("ID,audio,text", "rename 'ID' to 'id'"),
        ("id;audio;text", "separated by another character"),
        ("id,audio,text,text", "names 'text' twice"),
    ],
)
def test_a_header_without_a_column_says_which_there_are(tmp_path: Path, header: str, words: str) -> None:
    path = tmp_path / "corpus.csv"
    path.write_text(f"{header}\nu1,a.wav,che\n", encoding="utf-8")
    assert words in details(path)
    assert problems(path)[0][1] == "corpus.csv:1"
    with pytest.raises(BadInput, match=r"corpus\.csv:1"):
        read_manifest(path, language="gn")


def test_a_record_without_a_column_says_which_there_are(jsonl: Jsonl) -> None:
    path = jsonl({"id": "u1", "path": "a.wav", "transcript": "che"})
    kinds = [kind for kind, _, _ in problems(path)]
    assert kinds == ["missing-column", "missing-column", "unused"]
    assert "rename 'path' to 'audio'" in details(path)
    assert "rename 'transcript' to 'text'" in details(path)


def test_rows_with_too_few_or_too_many_fields_are_told(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"corpus{suffix}"
        rows = ["id,audio,text", "u1,a.wav", "u2,a.wav,che", "u3,a.wav,che,ha"]
        path.write_text("\n".join(rows).replace(",", mark), encoding="utf-8")
        assert problems(path) == [("bad-row", f"{path.name}:2", None), ("bad-row", f"{path.name}:4", None)]


def test_a_quote_that_is_never_closed_says_which_rows_it_swallowed(tmp_path: Path, clip: Clip) -> None:
    clip("a.wav")
    path = tmp_path / "corpus.csv"
    path.write_text('id,audio,text\nu1,a.wav,che\nu2,a.wav,"ha\nu3,a.wav,nde\n', encoding="utf-8")
    assert problems(path) == [("bad-row", "corpus.csv:3", None)]
    assert "rows 3 to 4" in details(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_a_row_that_is_not_utf8_is_told_and_the_others_are_read(tmp_path: Path, clip: Clip, suffix: str) -> None:
    clip("a.wav")
    if suffix == ".jsonl":
        lines = [json.dumps(GOOD | {"id": f"u{number}"}, ensure_ascii=False) for number in range(3)]
        bad = 2
    else:
        mark = "," if suffix == ".csv" else "\t"
        lines = [mark.join(GOOD), *(mark.join((GOOD | {"id": f"u{number}"}).values()) for number in range(3))]
        bad = 3
    path = tmp_path / f"corpus{suffix}"
    encoded = [line.encode("latin-1" if number == bad else "utf-8") for number, line in enumerate(lines, start=1)]
    path.write_bytes(b"\n".join(encoded))
    assert problems(path) == [("not-utf8", f"{path.name}:{bad}", None)]
    assert "0xe9" in details(path)
    assert [utterance.id for utterance in read_manifest(path, on_bad="skip")] == ["u0", "u2"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv"])
def test_utf16_is_recognised_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    path.write_text("id,audio,text\nu1,a.wav,che\nu2,a.wav,che\n", encoding="utf-16")
    assert [kind for kind, _, _ in problems(path)] == ["not-utf8"]
    assert "UTF-16" in details(path)


def test_columns_that_are_not_read_are_listed_and_do_no_harm(tmp_path: Path, clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    path = jsonl(GOOD | {"duration": 1.0}, GOOD | {"id": "u2", "duration": 1.0, "mood": "glad"})
    assert problems(path) == [("unused", "corpus.jsonl:1", None), ("unused", "corpus.jsonl:2", None)]
    assert len(read_manifest(path)) == 2
    assert read_manifest(path).skipped == ()


def test_several_languages_are_refused_until_one_is_named(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    path = jsonl(GOOD, GOOD | {"id": "u2", "language": "quy"}, GOOD | {"id": "u3", "language": "quy"})
    with pytest.raises(BadInput, match=r"several languages(.|\n)*gn \(1 rows\), quy \(2 rows\)"):
        read_manifest(path)
    assert [utterance.id for utterance in read_manifest(path, language="quy")] == ["u2", "u3"]
    with pytest.raises(BadInput, match="no rows of language 'qu'"):
        read_manifest(path, language="qu")


def test_a_manifest_without_language_takes_the_callers(clip: Clip, jsonl: Jsonl) -> None:
    clip("a.wav")
    record = {name: value for name, value in GOOD.items() if name != "language"}
    path = jsonl(record)
    with pytest.raises(BadInput, match="does not say which language"):
        read_manifest(path)
    assert read_manifest(path, language="gn")["u1"].language == "gn"
    with pytest.raises(BadInput, match="the language is empty"):
        read_manifest(path, language=" ")
    mixed = jsonl(record, GOOD | {"id": "u2", "language": "quy"}, name="mixed.jsonl")
    with pytest.raises(BadInput, match=r"none named \(1 rows\)"):
        read_manifest(mixed)
    assert [utterance.id for utterance in read_manifest(mixed, language="gn")] == ["u1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("corpus.json", "one object per line"), ("corpus.xlsx", "rename or convert"), ("gone.csv", "no such manifest")],
)
def test_other_files_are_refused_with_advice(tmp_path: Path, name: str, words: str) -> None:
    if not name.startswith("gone"):
        (tmp_path / name).write_text("[]")
    with pytest.raises(BadInput, match=words):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize("text", ["", "\n\n", "id,audio,text\n"])
def test_an_empty_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "corpus.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match="no utterances"):
        read_manifest(path, language="gn")


def test_nothing_usable_is_refused_even_when_skipping(jsonl: Jsonl) -> None:
    with pytest.raises(BadInput, match="nothing usable is left"):
        read_manifest(jsonl(GOOD), on_bad="skip")


def test_many_problems_are_cut_with_their_number(jsonl: Jsonl) -> None:
    with pytest.raises(BadInput, match=r"(?s)9 problems in.*and 4 more"):
        read_manifest(jsonl(*(GOOD | {"id": f"u{number}"} for number in range(9))))


def test_reading_does_not_open_the_audio(tmp_path: Path, jsonl: Jsonl) -> None:
    (tmp_path / "a.wav").write_bytes(b"this is no audio")
    assert len(read_manifest(jsonl(GOOD))) == 1


def test_the_name_comes_from_the_folder_when_the_file_says_nothing(tmp_path: Path, clip: Clip) -> None:
    clip("guarani/a.wav")
    path = tmp_path / "guarani" / "manifest.jsonl"
    path.write_text(json.dumps(GOOD))
    assert read_manifest(path).name == "guarani"


def test_what_is_written_reads_back_the_same(tmp_path: Path, clip: Clip) -> None:
    inside, outside = clip("made/audio/a.wav"), clip("elsewhere/b.wav")
    corpus = Corpus(
        "made",
        "gn",
        {
            "pool": (Utterance("u1", Audio(inside, 0.25, 0.75), 'che "ha"\tnde', "gn", "ana", "tape"),),
            "test": (Utterance("u2", Audio(outside), "\u2028é", "gn"),),
        },
    )
    path = write_manifest(corpus, tmp_path / "made" / "made.jsonl")
    assert read_manifest(path).pool == corpus.pool
    written = [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]
    assert [record["audio"] for record in written] == ["audio/a.wav", outside.as_posix()]
    assert sorted(file.name for file in path.parent.iterdir()) == ["audio", "made.jsonl"]


def test_writing_overwrites_only_when_told_to(tmp_path: Path, clip: Clip) -> None:
    corpus = Corpus("made", "gn", {"pool": (Utterance("u1", Audio(clip("a.wav")), "che", "gn"),)})
    path = tmp_path / "made.jsonl"
    path.write_text("precious")
    with pytest.raises(BadInput, match="already there"):
        write_manifest(corpus, path)
    assert path.read_text() == "precious"
    assert len(read_manifest(write_manifest(corpus, path, existing="replace"))) == 1
    with pytest.raises(BadInput, match="written as JSONL"):
        write_manifest(corpus, tmp_path / "made.csv")
    with pytest.raises(BadInput, match="no such folder"):
        write_manifest(corpus, tmp_path / "no" / "made.jsonl")


def test_audio_that_is_no_plain_file_cannot_be_written(
    tmp_path: Path, clip: Clip, make_noise: Callable[..., Any]
) -> None:
    for audio in (Audio.from_array(make_noise()), Audio(clip("a.wav")).edited("reverse")):
        corpus = Corpus("made", "gn", {"pool": (Utterance("u1", audio, "che", "gn"),)})
        with pytest.raises(BadInput, match="not a plain file"):
            write_manifest(corpus, tmp_path / "made.jsonl")
        assert not (tmp_path / "made.jsonl").exists()


def test_a_corpus_names_what_it_does_not_have(clip: Clip) -> None:
    utterance = Utterance("u1", Audio(clip("a.wav")), "che", "gn")
    corpus = Corpus("made", "gn", {"pool": (utterance,)})
    with pytest.raises(BadInput, match=r"(?s)no utterance 'u2'.*u1"):
        corpus["u2"]
    with pytest.raises(BadInput, match="unknown split"):
        Corpus("made", "gn", {"eval": (utterance,)})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match="occurs twice"):
        Corpus("made", "gn", {"pool": (utterance,), "test": (utterance,)})
    with pytest.raises(BadInput, match="mixes languages"):
        Corpus("made", "quy", {"pool": (utterance,)})


# Anything Unicode but lone surrogates, without the edges that reading strips.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text == text.strip() != ""
)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_any_text_survives_writing_and_reading(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.wav").touch()
    audio = Audio(folder / "a.wav")
    utterances = tuple(Utterance(f"u{number}", audio, text, "gn") for number, text in enumerate(texts))
    corpus = Corpus("made", "gn", {"pool": utterances})
    assert read_manifest(write_manifest(corpus, folder / "made.jsonl")).pool == utterances


@settings(derandomize=True, max_examples=200, deadline=None)
@given(content=st.binary(max_size=60) | st.text('{}[]":,ab\t\n\r\x00 ', max_size=40).map(str.encode))
def test_no_bytes_make_a_reader_crash(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for suffix, head in ((".jsonl", b""), (".csv", b"id,audio,text\n"), (".tsv", b"id\taudio\ttext\n")):
        path = folder / f"fuzz{suffix}"
        path.write_bytes(head + content)
        with pytest.raises(BadInput):
            read_manifest(path, language="gn")
