"""Manifests: one utterance a line, as JSONL, CSV or TSV."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from attnlens.data.corpus import SPLIT_NAMES, SPLITS, Corpus, OnBad, Row, Split, gather, make_row
from attnlens.data.records import REQUIRED, SUFFIXES, Record, missing_column, records
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, listing

__all__ = ["manifest_rows", "read_manifest", "require_writable", "write_manifest", "write_rows"]


def read_manifest(
    path: str | Path, *, language: str | None = None, on_bad: OnBad = "refuse", split: Split = "pool"
) -> Corpus:
    r"""Read a corpus from a manifest: the format to convert to when in doubt.

    Parameters
    ----------
    path
        A ``.jsonl``, ``.csv`` or ``.tsv`` file with the columns id, audio and text, and optionally language, speaker,
        recording, question (asked about the clip, where text is not its transcript), start, end (seconds) and split.
        Audio paths are relative to the manifest's folder.
    language
        The language to read. Rows that name no language are taken to be of it.
    on_bad
        Whether bad rows refuse the manifest, or are left out and listed in ``corpus.skipped``.
    split
        The split of rows that name none.

    >>> import tempfile, numpy as np, soundfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    >>> line = '{"id": "u1", "audio": "a.wav", "text": "mba\'eichapa", "language": "gn", "split": "test"}'
    >>> _ = (folder / "mine.jsonl").write_text(line, encoding="utf-8")
    >>> read_manifest(folder / "mine.jsonl")
    Corpus('mine', language='gn', pool=0, dev=0, test=1)
    """
    path = Path(path)
    # `manifest.jsonl` says nothing about the corpus; its folder does.
    name = path.resolve().parent.name if path.stem == "manifest" else path.stem
    return gather(manifest_rows(path, split=split), name=name, source=path, language=language, on_bad=on_bad)


def manifest_rows(path: Path, *, split: Split = "pool") -> Iterator[Row | Problem]:
    """Yield every row of a manifest, or what is wrong with it, in file order: what the reader and the check share."""
    if path.suffix.lower() not in SUFFIXES:
        advice = "save it as JSONL, one object per line" if path.suffix.lower() == ".json" else "rename or convert it"
        raise BadInput(
            f"a manifest is told by its suffix, and {path.suffix or 'none'} is not one of them",
            given=path,
            present=listing(SUFFIXES),
            fix=advice,
        )
    if not path.is_file():
        raise BadInput("there is no such manifest", given=path, fix="check the path")
    for record in records(path):
        if isinstance(record, Problem):
            yield record
        else:
            yield from _row(path, *record, default_split=split)


def _row(path: Path, line: int, record: Record, *, default_split: Split) -> Iterator[Row | Problem]:
    where = f"{path.name}:{line}"
    fields = _Fields(record, where)
    key, audio, text = (fields.text(column) for column in REQUIRED)
    language, speaker, recording = (fields.text(column) for column in ("language", "speaker", "recording"))
    start, end = fields.seconds("start"), fields.seconds("end")
    named = fields.text("split")
    split = SPLIT_NAMES.get(named.casefold(), None) if named else default_split
    if split is None:
        known = listing(SPLIT_NAMES)
        fields.complain("unknown-split", "split", f"unknown split {named!r}; known: {known}")
    for column, value in (("id", key), ("audio", audio)):
        if not value and column not in fields.bad:
            fields.complain("bad-value", column, f"{column} is empty")
    yield from fields.problems
    if not fields.bad.isdisjoint(REQUIRED):
        return
    row = make_row(
        where,
        split=split or default_split,
        id=key,
        audio=path.parent / audio,
        text=text,
        language=language,
        speaker=speaker or None,
        recording=recording or None,
        question=fields.text("question") or None,
        start=start,
        end=end,
    )
    # A row may be wrong in its fields and in its text or file: all of it is told at once.
    yield from (item for item in row if isinstance(item, Problem) or not fields.problems)


@dataclass
class _Fields:
    """Reads typed values out of a record and collects what is wrong with them."""

    record: Record
    where: str
    problems: list[Problem] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for column in REQUIRED:
            if column not in self.record:
                self.complain("missing-column", column, missing_column(column, self.record))

    def text(self, column: str) -> str:
        value = self.record.get(column)
        if value is None:
            return ""
        # Ids such as 17 come as numbers from JSON; a number as a transcript is a conversion that went wrong.
        if isinstance(value, int) and not isinstance(value, bool) and column in {"id", "speaker", "recording"}:
            return str(value)
        if not isinstance(value, str):
            self.complain("bad-value", column, f"{column} should be a string, not {json.dumps(value)[:40]}")
            return ""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.complain("bad-value", column, f"{column} holds half a surrogate pair, which is no character")
            return ""
        return value.strip()

    def seconds(self, column: str) -> float | None:
        value = self.record.get(column)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            seconds = math.nan
        if math.isfinite(seconds):
            return seconds
        self.complain("bad-value", column, f"{column} should be a number of seconds, not {value!r}")
        return None

    def complain(self, kind: str, column: str, detail: str) -> None:
        self.bad.add(column)
        key = self.record.get("id")
        self.problems.append(Problem(kind, self.where, str(key) if isinstance(key, str | int) else None, detail))


def write_manifest(corpus: Corpus, path: str | Path, *, existing: Literal["refuse", "replace"] = "refuse") -> Path:
    """Write a corpus as a JSONL manifest, for a corpus read from another format or made in Python.

    Audio paths are written relative to the manifest when they lie below its folder, and absolute otherwise.

    >>> import tempfile, numpy as np, soundfile
    >>> from attnlens.data.folder import read_folder
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    >>> _ = (folder / "a.txt").write_text("mba'eichapa", encoding="utf-8")
    >>> path = write_manifest(read_folder(folder, language="gn"), folder / "corpus.jsonl")
    >>> print(path.read_text(encoding="utf-8"), end="")
    {"id": "a", "audio": "a.wav", "text": "mba'eichapa", "language": "gn", "split": "pool"}
    """
    rows = [Row("", split, utterance) for split in SPLITS for utterance in corpus.splits.get(split, ())]
    return write_rows(rows, Path(path), existing=existing)


def write_rows(rows: Iterable[Row], path: Path, *, existing: Literal["refuse", "replace"] = "refuse") -> Path:
    """Write rows as a JSONL manifest; nothing is left half-written."""
    require_writable(path, existing=existing)
    lines = [json.dumps(_record(row, path), ensure_ascii=False) + "\n" for row in rows]
    draft = path.with_name(path.name + ".part")
    draft.write_text("".join(lines), encoding="utf-8", newline="\n")
    draft.replace(path)
    return path


def require_writable(path: Path, *, existing: Literal["refuse", "replace"] = "refuse") -> None:
    """Refuse a path that no manifest can be written to."""
    if path.suffix.lower() != ".jsonl":
        raise BadInput("manifests are written as JSONL", given=path, fix=f"name it {path.with_suffix('.jsonl').name}")
    if existing == "refuse" and path.exists():
        raise BadInput("the file is already there", given=path, fix="choose another name, or pass existing='replace'")
    if not path.parent.is_dir():
        raise BadInput("there is no such folder to write to", given=path.parent, fix="make it first")


def _record(row: Row, path: Path) -> dict[str, object]:
    utterance, audio = row.utterance, row.utterance.audio
    if not isinstance(audio.source, Path) or audio.edits:
        raise BadInput(
            f"the audio of {utterance.id!r} is not a plain file, and a manifest can only point to files",
            given=repr(audio),
            fix="save the clips as audio files first",
        )
    record = {
        "id": utterance.id,
        "audio": _relative(audio.source, path.parent),
        "text": utterance.text,
        "language": utterance.language or None,
        "speaker": utterance.speaker,
        "recording": utterance.recording,
        "question": utterance.question,
        "start": audio.start,
        "end": audio.end,
        "split": row.split,
    }
    return {name: value for name, value in record.items() if value is not None}


def _relative(audio: Path, folder: Path) -> str:
    # Without resolving links: a linked corpus should stay linked.
    full, base = Path(os.path.abspath(audio)), Path(os.path.abspath(folder))  # noqa: PTH100
    return (full.relative_to(base) if full.is_relative_to(base) else full).as_posix()
