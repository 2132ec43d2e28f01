"""Is this corpus fit for use? Everything is read once and everything that is wrong is told."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attnlens.data.audio import digest_of
from attnlens.data.corpus import SPLITS, Corpus, Row, Split, chosen_language, distinct, languages
from attnlens.data.decode import UndecodableAudio
from attnlens.data.manifest import require_writable, write_rows
from attnlens.data.overlap import overlaps
from attnlens.data.read import read_rows
from attnlens.data.utterance import Problem
from attnlens.errors import AttnlensError, BadInput, listing

__all__ = ["CheckReport", "Progress", "SplitSummary", "check", "fix", "fix_targets"]

Progress = Literal["auto", "never"]

SHORTEST = 0.1
SILENCE = 1e-3
"""Root mean square of -60 dBFS."""
FULL_SCALE = 0.99
"""Just below what 8 bits reach; a sample above it is at full scale."""
CLIPPED_RUN = 3
CLIPPED_SHARE = 0.001
FASTEST = 40.0
PATIENCE = 2.0
UNHEARD = 600.0
"""Clips longer than this many seconds (and than the limit) are reported without decoding them whole."""


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds. Speakers and recordings are counted where they are named; hours where audio decodes."""

    utterances: int
    hours: float
    speakers: int
    recordings: int
    languages: Mapping[str, int]


@dataclass(frozen=True)
class CheckReport:
    """What a corpus holds and what is wrong with it; the result of :func:`check`.

    ``characters`` counts every character of the transcripts, commonest first. ``rows`` are the rows that could be read,
    with or without problems; :meth:`usable` are those without errors.
    """

    source: str
    limit_seconds: float
    splits: Mapping[Split, SplitSummary]
    characters: Mapping[str, int] = field(repr=False)
    problems: tuple[Problem, ...]
    rows: tuple[Row, ...] = field(repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that make a row unusable."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Problems that want a look."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    def usable(self) -> tuple[Row, ...]:
        """Return the rows without errors: what a clean manifest holds."""
        # By place and not by id: of two rows with one id only the second is at fault.
        bad = {problem.where for problem in self.errors}
        return tuple(row for row in self.rows if row.where not in bad)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON output has them."""
        return {
            "source": self.source,
            "limit_seconds": self.limit_seconds,
            "splits": {
                split: {**vars(summary), "languages": dict(summary.languages)} for split, summary in self.splits.items()
            },
            "characters": dict(self.characters),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "kinds": dict(Counter(problem.kind for problem in self.problems)),
            "problems": [problem.to_dict() for problem in self.problems],
        }


def check(
    source: str | Path | Corpus,
    *,
    limit_seconds: float = 30.0,
    language: str | None = None,
    split: Split = "pool",
    progress: Progress = "auto",
) -> CheckReport:
    """Read a corpus once, audio and text, and report everything that is wrong with it rather than the first thing.

    Parameters
    ----------
    source
        A path in any format that :func:`~attnlens.data.read.read_corpus` reads, or a corpus.
    limit_seconds
        The longest clip that the model reads.
    language
        Look at the rows of this language only. Rows that name no language are taken to be of it.
    split
        The split of rows that name none.
    progress
        Whether a slow check shows a progress bar on a terminal.

    >>> import tempfile, soundfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> soundfile.write(folder / "a.wav", np.zeros(16000), 16000)
    >>> _ = (folder / "a.txt").write_text("mba'eichapa", encoding="utf-8")
    >>> report = check(folder, language="gn")
    >>> [problem.kind for problem in report.problems]
    ['silent-audio']
    """
    if not limit_seconds > 0:
        raise BadInput("the limit is a number of seconds above 0", given=limit_seconds, fix="leave it at 30")
    rows, problems = _read(source, language, split)
    seconds: dict[str, float] = {}
    digests: dict[str, str] = {}
    for row in _tracked(rows, progress):
        problems += _heard(row, limit_seconds, seconds, digests)
        problems += _said(row, seconds.get(row.utterance.id))
    problems += overlaps(rows, digests=digests)
    characters = Counter(char for row in rows for char in row.utterance.text)
    return CheckReport(
        source=repr(source) if isinstance(source, Corpus) else str(source),
        limit_seconds=limit_seconds,
        splits={part: _summary(rows, part, seconds) for part in SPLITS if any(row.split == part for row in rows)},
        characters=dict(characters.most_common()),
        problems=tuple(problems),
        rows=tuple(rows),
    )


def fix(report: CheckReport, path: str | Path) -> Path:
    """Write a manifest of the rows without errors, and beside it ``<path>.removed.tsv`` with what was left out and why.

    Never overwrites anything, least of all the manifest that was checked.
    """
    path, removed = fix_targets(path)
    rows = report.usable()
    if not rows:
        raise BadInput(
            "no row is without errors, so there is no clean manifest to write",
            given=report.source,
            present=listing(sorted({problem.kind for problem in report.errors})),
            fix="correct these first",
        )
    write_rows(rows, path)
    lines = [("where", "id", "kind", "detail")]
    lines += [(problem.where, problem.id or "", problem.kind, problem.detail) for problem in report.errors]
    text = "".join("\t".join(" ".join(cell.split()) for cell in line) + "\n" for line in lines)
    removed.write_text(text, encoding="utf-8", newline="\n")
    return path


def fix_targets(path: str | Path) -> tuple[Path, Path]:
    """Return the two files that :func:`fix` would write, or refuse them: ask before a check that takes an hour."""
    path = Path(path)
    removed = path.with_name(path.name + ".removed.tsv")
    for file in (path, removed):
        if file.exists():
            raise BadInput("the file is already there", given=file, fix="choose another name for the clean manifest")
    require_writable(path)
    return path, removed


def _read(source: str | Path | Corpus, language: str | None, split: Split) -> tuple[list[Row], list[Problem]]:
    if isinstance(source, Corpus):
        items: Iterable[Row | Problem] = [
            Row(f"{part}[{index}]", part, utterance)
            for part, utterances in source.splits.items()
            for index, utterance in enumerate(utterances)
        ]
        problems, name = list(source.skipped), source.name
    else:
        items, problems, name = read_rows(source, split=split), [], Path(source).name
    rows: list[Row] = []
    for item in distinct(items):
        if isinstance(item, Row):
            rows.append(item)
        else:
            problems.append(item)
    if language is not None and rows:
        chosen_language(languages(rows), language, name)
        rows = [_in_language(row, language) for row in rows if row.utterance.language in {language, ""}]
    silent = [row for row in rows if not row.utterance.language]
    if silent and len(silent) == len(rows):
        problems.append(Problem("no-language", name, None, "no language is named anywhere; reading needs language=..."))
    else:
        problems += [Problem("no-language", row.where, row.utterance.id, "no language is named here") for row in silent]
    return rows, problems


def _in_language(row: Row, language: str) -> Row:
    return replace(row, utterance=replace(row.utterance, language=language))


def _heard(row: Row, limit: float, seconds: dict[str, float], digests: dict[str, str]) -> Iterator[Problem]:
    key, audio = row.utterance.id, row.utterance.audio

    def problem(kind: str, detail: str) -> Problem:
        return Problem(kind, row.where, key, detail)

    try:
        length = audio.seconds
        if length > max(limit, UNHEARD):
            seconds[key] = length
            yield problem("too-long", f"{length:,.1f} s, the limit is {limit:g} s; the samples were not looked at")
            return
        samples = audio.load()
    except AttnlensError as error:
        # An edit may refuse a clip as well, with an error that is not about decoding.
        kind = error.problem if isinstance(error, UndecodableAudio) else "undecodable-audio"
        yield problem(kind, ": ".join(filter(None, (error.message, error.given, error.present))))
        return
    seconds[key] = length
    if length > limit:
        yield problem("too-long", f"{length:,.1f} s, the limit is {limit:g} s")
    if length < SHORTEST:
        yield problem("too-short", f"{length:.3f} s")
    found = list(_signal(samples))
    yield from (problem(*one) for one in found)
    if "silent-audio" not in dict(found):
        # Not Audio.digest: that one would decode the file a second time.
        digests[key] = digest_of(samples)


def _signal(samples: NDArray[np.float32]) -> Iterator[tuple[str, str]]:
    """Yield kind and detail of what is wrong with samples [n]."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    if rms < SILENCE:
        yield "silent-audio", "all samples are 0" if rms == 0 else f"{20 * np.log10(rms):.0f} dBFS on average"
    share = _clipped_share(samples)
    if share > CLIPPED_SHARE:
        yield "clipped-audio", f"{share:.1%} of the samples are at full scale, {CLIPPED_RUN} or more in a row"


def _clipped_share(samples: NDArray[np.float32]) -> float:
    # One sample at full scale is how a normalised recording ends up; a plateau is what clipping leaves.
    full: NDArray[np.bool_] = np.abs(samples) >= FULL_SCALE
    if len(full) < CLIPPED_RUN:
        return 0.0
    starts: NDArray[np.bool_] = np.logical_and.reduce(sliding_window_view(full, CLIPPED_RUN), axis=1)
    inside = np.zeros(len(full), dtype=bool)
    for shift in range(CLIPPED_RUN):
        inside[shift : shift + len(starts)] |= starts
    return float(inside.mean())


def _said(row: Row, seconds: float | None) -> Iterator[Problem]:
    text, key = row.utterance.text, row.utterance.id
    odd = sorted({char for char in text if char == "\ufffd" or unicodedata.category(char) in {"Cc", "Cn", "Co"}})
    if odd:
        names = listing(f"U+{ord(char):04X}" for char in odd)
        yield Problem("odd-characters", row.where, key, f"the text holds {names}")
    if seconds is not None and seconds >= SHORTEST and len(text) / seconds > FASTEST:
        detail = f"{len(text)} characters in {seconds:.2f} s are {len(text) / seconds:.0f} per second"
        yield Problem("fast-text", row.where, key, detail)


def _summary(rows: Sequence[Row], split: Split, seconds: Mapping[str, float]) -> SplitSummary:
    own = [row.utterance for row in rows if row.split == split]
    return SplitSummary(
        utterances=len(own),
        hours=sum(seconds.get(utterance.id, 0.0) for utterance in own) / 3600,
        speakers=len({utterance.speaker for utterance in own} - {None}),
        recordings=len({utterance.recording for utterance in own} - {None}),
        languages=dict(Counter(utterance.language for utterance in own).most_common()),
    )


def _tracked(rows: Sequence[Row], progress: Progress) -> Iterator[Row]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if progress == "never" or not console.is_terminal:
        yield from rows
        return
    begun, shown = time.monotonic(), False
    bar = Bar(console=console, transient=True)
    task = bar.add_task("reading the recordings", total=len(rows))
    try:
        for row in rows:
            yield row
            bar.advance(task)
            # A bar that flashes up for half a second is noise.
            if not shown and time.monotonic() - begun > PATIENCE:
                bar.start()
                shown = True
    finally:
        if shown:
            bar.stop()
