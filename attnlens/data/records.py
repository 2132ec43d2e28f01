"""The records of a manifest file, JSONL, CSV or TSV, line by line, and what is wrong with those that cannot be read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from attnlens.data.utterance import Problem
from attnlens.errors import closest, listing

__all__ = ["COLUMNS", "REQUIRED", "SUFFIXES", "Record", "missing_column", "numbered_lines", "records"]

REQUIRED = ("id", "audio", "text")
COLUMNS = (*REQUIRED, "language", "speaker", "recording", "question", "start", "end", "split")
SUFFIXES = (".jsonl", ".csv", ".tsv")

# What other tools call the same thing; suggested, never guessed.
SYNONYMS = {
    "id": ("utt_id", "utt", "key", "segment_id", "name"),
    "audio": ("path", "file", "filename", "file_name", "wav", "audio_path", "audio_filepath", "audio_file"),
    "text": ("transcript", "transcription", "sentence", "normalized_text", "label"),
}

Record = dict[str, object]
"""One line of a manifest: column -> value, as the file has it."""


def records(path: Path) -> Iterator[tuple[int, Record] | Problem]:
    r"""Yield line number and record of every line of a manifest, or what is wrong with it; the suffix tells the format.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.tsv"
    >>> _ = path.write_text("id\taudio\ttext\nu1\ta.wav\tiporã\n", encoding="utf-8")
    >>> list(records(path))
    [(2, {'id': 'u1', 'audio': 'a.wav', 'text': 'iporã'})]
    """
    return _json_records(path) if path.suffix.lower() == ".jsonl" else _table_records(path)


def numbered_lines(path: Path) -> Iterator[tuple[int, str, Problem | None]]:
    """Yield number, text and encoding problem of every line; all text files of all formats are read through here."""
    # Split at line feeds only: str.splitlines would also split at U+2028 and U+0085, which transcripts may hold.
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line, problem = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, None
            utf16 = number == 1 and line[:2] in {b"\xff\xfe", b"\xfe\xff"}
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                hint = "it is UTF-16" if utf16 else f"byte {line[error.start]:#04x} at position {error.start + 1}"
                command = f"iconv -f {'UTF-16' if utf16 else 'LATIN1'} -t UTF-8"
                detail = f"the line is not UTF-8 ({hint}); convert the file, for instance with {command}"
                text, problem = (
                    line.decode("utf-8", "replace"),
                    Problem("not-utf8", f"{path.name}:{number}", None, detail),
                )
            yield number, text, problem
            if problem and utf16:
                return


def _json_records(path: Path) -> Iterator[tuple[int, Record] | Problem]:
    unused: set[str] = set()
    for number, line, problem in numbered_lines(path):
        where = f"{path.name}:{number}"
        if problem:
            yield problem
            continue
        if not line.strip():
            continue
        record = _parsed(line, where)
        yield record if isinstance(record, Problem) else (number, record)
        new = (
            []
            if isinstance(record, Problem)
            else [name for name in record if name not in COLUMNS and name not in unused]
        )
        if new:
            unused.update(new)
            yield _unused(where, new)


def _parsed(line: str, where: str) -> Record | Problem:
    try:
        record = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        return Problem("bad-row", where, None, f"not valid JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Problem("bad-row", where, None, f"not usable JSON: {error}")
    if isinstance(record, dict):
        return record
    advice = "; a manifest has one object per line, not one list" if isinstance(record, list) else ""
    return Problem("bad-row", where, None, f"a JSON object was expected, not {type(record).__name__}{advice}")


def _once(pairs: list[tuple[str, object]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the key {listing(map(repr, repeated))} occurs twice")
    return record


def _table_records(path: Path) -> Iterator[tuple[int, Record] | Problem]:
    cells = _csv_cells(path) if path.suffix.lower() == ".csv" else _tsv_cells(path)
    header: list[str] | None = None
    for item in cells:
        if isinstance(item, Problem):
            yield item
            if header is None:
                return
            continue
        number, values = item
        where = f"{path.name}:{number}"
        if header is None:
            header = [name.strip() for name in values]
            problems = list(_header_problems(header, where))
            yield from problems
            if any(problem.severity == "error" for problem in problems):
                return
        elif len(values) != len(header):
            yield Problem("bad-row", where, None, f"{len(values)} fields where the header has {len(header)}")
        else:
            yield number, {name: value for name, value in zip(header, values, strict=True) if value or name in REQUIRED}


def _header_problems(header: list[str], where: str) -> Iterator[Problem]:
    for column in REQUIRED:
        if column not in header:
            yield Problem("missing-column", where, None, missing_column(column, header))
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        yield Problem("bad-row", where, None, f"the header names {listing(map(repr, repeated))} twice")
    unused = [name for name in header if name not in COLUMNS]
    if unused:
        yield _unused(where, unused)


def _csv_cells(path: Path) -> Iterator[tuple[int, list[str]] | Problem]:
    broken: dict[int, Problem] = {}

    def lines() -> Iterator[str]:
        for number, line, problem in numbered_lines(path):
            if problem:
                broken[number] = problem
            yield line

    reader = csv.reader(lines(), strict=True)
    while True:
        first = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            span = f" (rows {first} to {reader.line_num} were taken for one)" if reader.line_num > first else ""
            yield Problem("bad-row", f"{path.name}:{first}", None, f"not valid CSV: {error}{span}")
            continue
        bad = [broken[number] for number in range(first, reader.line_num + 1) if number in broken]
        if bad:
            yield from bad
        elif values:
            yield first, values


def _tsv_cells(path: Path) -> Iterator[tuple[int, list[str]] | Problem]:
    # Tab-separated files in the wild quote nothing (Common Voice) or quote as spreadsheets do; a csv reader told to
    # honour quotes swallows every line up to the next quotation mark of the first kind.
    for number, line, problem in numbered_lines(path):
        if problem:
            yield problem
        elif line.strip():
            yield number, [_unquoted(cell) for cell in line.rstrip("\r\n").split("\t")]


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def missing_column(column: str, present: Iterable[str]) -> str:
    """Say that a required column is not there, what is, and which of those may be meant."""
    names = list(present)
    folded = {name.casefold().strip(): name for name in names}
    near = next((folded[other] for other in SYNONYMS[column] if other in folded), None) or closest(column, names)
    advice = f"; rename {near!r} to {column!r}" if near else ""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        advice = "; the file looks separated by another character than its suffix says"
    return f"no column {column!r}; there are: {listing(map(repr, names)) or 'none'}{advice}"


def _unused(where: str, names: Iterable[str]) -> Problem:
    return Problem("unused", where, None, f"columns that are not read: {listing(map(repr, names))}")
