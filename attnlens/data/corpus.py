"""Utterances of one language with named splits, and how every reader builds them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from attnlens.data.audio import Audio
from attnlens.data.utterance import Problem, Utterance
from attnlens.errors import BadInput, listing

__all__ = [
    "SPLITS",
    "SPLIT_NAMES",
    "Corpus",
    "OnBad",
    "Row",
    "Split",
    "chosen_language",
    "distinct",
    "gather",
    "languages",
    "make_row",
]

Split = Literal["pool", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_NAMES: dict[str, Split] = {
    "pool": "pool",
    "train": "pool",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""What other corpora call the three splits."""

OnBad = Literal["refuse", "skip"]
AT_MOST = 5


@dataclass(frozen=True, repr=False)
class Corpus:
    """What a run reads: demonstrations come from ``pool``, choices are made on ``dev``, results are told on ``test``.

    Ids are unique over all splits, so that an id alone names an utterance. ``skipped`` lists what a reader left out
    because it was told to (``on_bad="skip"``); it is empty otherwise.

    >>> import numpy as np
    >>> clip = Audio.from_array(np.zeros(16000))
    >>> corpus = Corpus("greetings", "gn", {"pool": (Utterance("u1", clip, "mba'éichapa", "gn"),)})
    >>> corpus
    Corpus('greetings', language='gn', pool=1, dev=0, test=0)
    >>> corpus["u1"].text
    "mba'éichapa"
    """

    name: str
    language: str
    splits: Mapping[Split, tuple[Utterance, ...]]
    skipped: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for split, utterances in self.splits.items():
            if split not in SPLITS:
                raise BadInput(
                    f"corpus {self.name!r} has an unknown split",
                    given=repr(split),
                    present=listing(SPLITS),
                    fix="use these three names",
                )
            for utterance in utterances:
                if utterance.id in seen:
                    raise BadInput(
                        f"the id {utterance.id!r} occurs twice in corpus {self.name!r}",
                        given=f"splits {seen[utterance.id]} and {split}",
                        fix="make ids unique; `attnlens data check` lists all duplicates",
                    )
                if utterance.language != self.language:
                    raise BadInput(
                        f"corpus {self.name!r} mixes languages",
                        given=f"{utterance.id!r} is {utterance.language!r}, the corpus is {self.language!r}",
                        fix="read one corpus per language (language=...)",
                    )
                seen[utterance.id] = split

    @property
    def pool(self) -> tuple[Utterance, ...]:
        """Utterances that demonstrations may be drawn from."""
        return self.splits.get("pool", ())

    @property
    def dev(self) -> tuple[Utterance, ...]:
        """Utterances on which anything tunable is tuned."""
        return self.splits.get("dev", ())

    @property
    def test(self) -> tuple[Utterance, ...]:
        """Utterances that results are reported on, and nothing else looks at."""
        return self.splits.get("test", ())

    @cached_property
    def _by_id(self) -> dict[str, Utterance]:
        return {utterance.id: utterance for utterance in self}

    def __getitem__(self, utterance_id: str) -> Utterance:
        if utterance_id not in self._by_id:
            raise BadInput(
                f"no utterance {utterance_id!r} in corpus {self.name!r}",
                present=listing(self._by_id, at_most=6) or "nothing: the corpus is empty",
                fix="pass one of its ids",
            )
        return self._by_id[utterance_id]

    def __iter__(self) -> Iterator[Utterance]:
        for utterances in self.splits.values():
            yield from utterances

    def __len__(self) -> int:
        return sum(len(utterances) for utterances in self.splits.values())

    def __repr__(self) -> str:
        # The generated repr would print every utterance of a corpus that may hold a hundred thousand.
        counts = ", ".join(f"{split}={len(self.splits.get(split, ()))}" for split in SPLITS)
        skipped = f", skipped={len(self.skipped)}" if self.skipped else ""
        return f"Corpus({self.name!r}, language={self.language!r}, {counts}{skipped})"


@dataclass(frozen=True)
class Row:
    """One usable line of a source, before it is known which language is wanted; ``language`` may still be empty."""

    where: str
    split: Split
    utterance: Utterance


def make_row(
    where: str,
    *,
    split: Split,
    id: str,  # noqa: A002
    audio: Path | Audio,
    text: str,
    language: str = "",
    speaker: str | None = None,
    recording: str | None = None,
    question: str | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[Row | Problem]:
    """Yield the row that these values make, or everything that is wrong with them; the one door of all file readers.

    The file is looked for and not opened: a reader must stay fast on a hundred thousand rows.
    """
    problems = []
    text = text.strip()
    if not text:
        problems.append(Problem("empty-text", where, id, "the text is empty"))
    if start is not None and not 0 <= start < math.inf:
        problems.append(Problem("bad-value", where, id, f"start should be seconds from 0 on, not {start:g}"))
    if end is not None and not end > (start or 0.0):
        problems.append(Problem("bad-value", where, id, f"end {end:g} is not after start {start or 0.0:g}"))
    missing = _missing(audio) if isinstance(audio, Path) else None
    if missing:
        problems.append(Problem("missing-file", where, id, missing))
    if problems:
        yield from problems
        return
    clip = Audio(audio, start, end) if isinstance(audio, Path) else replace(audio, start=start, end=end)
    yield Row(where, split, Utterance(id, clip, text, language, speaker, recording, question))


def _missing(path: Path) -> str | None:
    try:
        if path.is_file():
            return None
        return f"not a file but a folder: {path}" if path.is_dir() else f"no such file: {path}"
    except OSError as error:
        return f"not reachable ({error.strerror}): {path}"


def distinct(rows: Iterable[Row | Problem]) -> Iterator[Row | Problem]:
    """Pass rows on, except that an id's second occurrence becomes a problem that names the first."""
    seen: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Problem):
            yield row
        elif row.utterance.id in seen:
            detail = f"the id is already taken at {seen[row.utterance.id]}"
            yield Problem("duplicate-id", row.where, row.utterance.id, detail)
        else:
            seen[row.utterance.id] = row.where
            yield row


def gather(rows: Iterable[Row | Problem], *, name: str, source: object, language: str | None, on_bad: OnBad) -> Corpus:
    """Build the corpus of one language from a reader's rows; refuse what is wrong, or list it when told to skip it."""
    usable: list[Row] = []
    bad: list[Problem] = []
    for row in distinct(rows):
        if isinstance(row, Row):
            usable.append(row)
        elif row.severity == "error":
            bad.append(row)
    if bad and (on_bad == "refuse" or not usable):
        raise _refusal(bad, source, on_bad)
    if not usable:
        raise BadInput(
            f"there are no utterances in {source}", fix="check the path; every format is described in the docs"
        )
    wanted = chosen_language(languages(usable), language, source)
    splits: dict[Split, list[Utterance]] = {split: [] for split in SPLITS}
    for row in usable:
        if row.utterance.language in {wanted, ""}:
            splits[row.split].append(_in_language(row.utterance, wanted))
    return Corpus(name, wanted, {split: tuple(found) for split, found in splits.items() if found}, tuple(bad))


def _in_language(utterance: Utterance, language: str) -> Utterance:
    """Return the utterance with the language that the caller named for rows that name none."""
    if utterance.language:
        return utterance
    return replace(utterance, language=language)


def languages(rows: Iterable[Row]) -> Counter[str]:
    """Count rows per language; the key "" stands for rows that name none."""
    return Counter(row.utterance.language for row in rows)


def chosen_language(counts: Mapping[str, int], language: str | None, source: object) -> str:
    """Return the one language to read, or refuse with those that are there."""
    named = {code: count for code, count in counts.items() if code}
    present = listing(
        [f"{code} ({count:,} rows)" for code, count in sorted(named.items())]
        + ([f"none named ({counts['']:,} rows)"] if counts.get("") else [])
    )
    if language is not None:
        if not language.strip():
            raise BadInput(
                "the language is empty", given=repr(language), present=present, fix="pass a code such as 'gn'"
            )
        if language not in named and not counts.get(""):
            raise BadInput(f"no rows of language {language!r} in {source}", present=present, fix="pass one of these")
        return language
    if not named:
        raise BadInput(f"{source} does not say which language it is", fix="pass language=..., a code such as 'gn'")
    if len(counts) > 1:
        raise BadInput(
            f"{source} holds several languages and a corpus has one",
            present=present,
            fix="pass language=... for one of these",
        )
    return next(iter(named))


def _refusal(bad: list[Problem], source: object, on_bad: OnBad) -> BadInput:
    shown = [str(problem) for problem in bad[:AT_MOST]]
    if len(bad) > AT_MOST:
        shown.append(f"and {len(bad) - AT_MOST:,} more")
    rows = f"{len(bad):,} problem{'s' if len(bad) > 1 else ''}"
    return BadInput(
        f"{rows} in {source}" if on_bad == "refuse" else f"nothing usable is left of {source}: {rows}",
        present=("\n" + " " * 11).join(shown),
        fix="correct these rows (`attnlens data check` lists all); on_bad='skip' leaves them out and lists them"
        if on_bad == "refuse"
        else "correct these rows (`attnlens data check` lists all)",
    )
