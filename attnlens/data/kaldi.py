"""Kaldi data folders: ``wav.scp`` and ``text``, with ``segments``, ``utt2spk`` and ``utt2lang`` where they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnlens.data.corpus import SPLIT_NAMES, Corpus, OnBad, Row, Split, gather, make_row
from attnlens.data.records import numbered_lines
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, listing

__all__ = ["is_kaldi", "kaldi_rows", "read_kaldi"]

SEGMENT_FIELDS = 4


def read_kaldi(
    path: str | Path, *, language: str | None = None, on_bad: OnBad = "refuse", split: Split = "pool"
) -> Corpus:
    """Read a corpus from a Kaldi or ESPnet data folder, so that an existing recipe's data needs no conversion.

    Commands in ``wav.scp`` (``sox ... |``) are refused: no shell is run.

    Parameters
    ----------
    path
        A folder with ``wav.scp`` and ``text``, or one whose sub-folders (train, dev, test, ...) have them. Relative
        audio paths start from the folder of ``wav.scp``, or, as Kaldi has it, from the current directory.
    language
        The language to read; needed where there is no ``utt2lang``.
    on_bad
        Whether bad entries refuse the folder, or are left out and listed in ``corpus.skipped``.
    split
        The split of a folder that holds ``wav.scp`` itself.

    >>> import tempfile, numpy as np, soundfile
    >>> folder = Path(tempfile.mkdtemp()) / "greetings"
    >>> folder.mkdir()
    >>> soundfile.write(folder / "tape.wav", np.zeros(48000), 16000)
    >>> _ = (folder / "wav.scp").write_text("tape tape.wav")
    >>> _ = (folder / "segments").write_text("ana-1 tape 0.5 1.25")
    >>> _ = (folder / "text").write_text("ana-1 mba'eichapa")
    >>> _ = (folder / "utt2spk").write_text("ana-1 ana")
    >>> utterance = read_kaldi(folder, language="gn")["ana-1"]
    >>> utterance.speaker, utterance.recording, utterance.audio.start, utterance.audio.end
    ('ana', 'tape', 0.5, 1.25)
    """
    path = Path(path)
    rows = kaldi_rows(path, split=split)
    return gather(rows, name=path.resolve().name, source=path, language=language, on_bad=on_bad)


def is_kaldi(path: Path) -> bool:
    """Say whether a folder, or one right below it, looks like Kaldi's."""
    return (path / "wav.scp").is_file() or any(path.glob("*/wav.scp"))


def kaldi_rows(path: Path, *, split: Split = "pool") -> Iterator[Row | Problem]:
    """Yield a row for every utterance of a Kaldi folder, or what is wrong with it."""
    if not path.is_dir():
        raise BadInput("there is no such folder", given=path, fix="check the path")
    if (path / "wav.scp").is_file():
        yield from _Folder(path, "").rows(split)
        return
    found = sorted(path.glob("*/wav.scp"))
    if not found:
        raise BadInput("there is no wav.scp", given=path, present=_names(path), fix="pass the folder that holds it")
    for file in found:
        name = file.parent.name
        if name.casefold() in SPLIT_NAMES:
            yield from _Folder(file.parent, f"{name}/").rows(SPLIT_NAMES[name.casefold()])
        else:
            detail = f"the folder {name!r} is no split ({listing(SPLIT_NAMES)}); read it by its own path"
            yield Problem("unknown-split", f"{name}/", None, detail)


@dataclass(frozen=True)
class _Entry:
    """The value of one key and the place that says so."""

    value: str
    where: str


@dataclass(frozen=True)
class _Folder:
    path: Path
    prefix: str

    def rows(self, split: Split) -> Iterator[Row | Problem]:
        if not (self.path / "text").is_file():
            raise BadInput(
                "there is no file named text", given=self.path, present=_names(self.path), fix="add the transcripts"
            )
        tables: dict[str, dict[str, _Entry]] = {}
        for name in ("wav.scp", "text", "segments", "utt2spk", "utt2lang"):
            tables[name] = {}
            yield from self._read(name, tables[name])
        cut = (self.path / "segments").is_file()
        for key, entry in tables["segments" if cut else "wav.scp"].items():
            yield from self._row(key, entry, tables, split, cut=cut)
        for key, entry in tables["text"].items():
            if key not in tables["segments" if cut else "wav.scp"]:
                detail = f"a transcript without audio: {'segments' if cut else 'wav.scp'} has no {key!r}"
                yield Problem("missing-file", entry.where, key, detail)

    def _read(self, name: str, table: dict[str, _Entry]) -> Iterator[Problem]:
        file = self.path / name
        for number, line, problem in numbered_lines(file) if file.is_file() else ():
            where = f"{self.prefix}{name}:{number}"
            if problem:
                yield Problem(problem.kind, where, None, problem.detail)
            elif line.strip():
                key, *rest = line.split(maxsplit=1)
                if key in table:
                    yield Problem("duplicate-id", where, key, f"the id is already taken at {table[key].where}")
                else:
                    table[key] = _Entry("".join(rest).strip(), where)

    def _row(
        self, key: str, entry: _Entry, tables: dict[str, dict[str, _Entry]], split: Split, *, cut: bool
    ) -> Iterator[Row | Problem]:
        start = end = None
        tape, source = key, entry.value
        if cut:
            try:
                tape, start, end = _segment(entry.value)
            except ValueError as error:
                yield Problem("bad-row", entry.where, key, str(error))
                return
            if tape not in tables["wav.scp"]:
                yield Problem("missing-file", entry.where, key, f"wav.scp has no recording {tape!r}")
                return
            source = tables["wav.scp"][tape].value
        reason = _unsupported(source)
        if reason:
            yield Problem("unsupported-audio", entry.where, key, reason)
            return
        if key not in tables["text"]:
            yield Problem("missing-text", entry.where, key, f"text has no {key!r}")
            return
        speaker = tables["utt2spk"].get(key)
        language = tables["utt2lang"].get(key)
        yield from make_row(
            entry.where,
            split=split,
            id=key,
            audio=self._located(source),
            text=tables["text"][key].value,
            language=language.value if language else "",
            # Kaldi writes the utterance's own id where the speaker is unknown.
            speaker=speaker.value if speaker and speaker.value != key else None,
            recording=tape if cut else None,
            start=start,
            end=end,
        )

    def _located(self, source: str) -> Path:
        beside = self.path / source
        return beside if beside.is_file() or not Path(source).is_file() else Path(source)


def _segment(value: str) -> tuple[str, float, float | None]:
    parts = value.split()
    if len(parts) != SEGMENT_FIELDS - 1:
        raise ValueError(f"a segment reads `utterance recording start end`; there are {len(parts) + 1} fields")
    tape, *times = parts
    try:
        start, end = map(float, times)
    except ValueError:
        raise ValueError(f"start and end should be numbers of seconds, not {' and '.join(times)}") from None
    if not (-1 <= start < float("inf") and -1 <= end < float("inf")):
        raise ValueError(f"start and end should be numbers of seconds, not {' and '.join(times)}")
    # An end of -1 is Kaldi's way to say: until the recording ends.
    return tape, start, None if end == -1 else end


def _unsupported(source: str) -> str | None:
    if not source:
        return "no audio is named"
    if source.endswith("|"):
        return f"a command, and no shell is run: {source}; convert the recordings to files first"
    if source == "-":
        return "standard input cannot be read twice; name a file"
    if re.search(r"\.ark:\d+$", source):
        return f"a position in a Kaldi archive: {source}; copy the recordings to files first"
    return None


def _names(path: Path) -> str:
    return listing(sorted(entry.name for entry in path.iterdir()), at_most=8) or "nothing"
