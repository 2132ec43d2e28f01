"""How wrong transcripts are: edits per utterance, corpus WER and CER, and the capped mean under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.alignment import Split, Unit, align, normalised, splitter
from attnlens.errors import BadInput, listing

__all__ = ["ErrorCounts", "count_errors", "edit_distance"]

Counts = NDArray[np.int64]
_COLUMN = {"substitute": 0, "delete": 1, "insert": 2}


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorCounts:
    """The edits that turn each reference into its hypothesis, as integers [utterances]: what every statistic takes.

    ``length`` counts the units of the reference. ``normaliser`` says what was compared.
    """

    ids: tuple[str, ...]
    unit: Unit
    normaliser: str
    length: Counts
    substitutions: Counts
    deletions: Counts
    insertions: Counts

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def errors(self) -> Counts:
        """All edits of each utterance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """The corpus error rate: all edits over all units of the references. It may exceed 1."""
        if not self.length.sum():
            raise BadInput(
                "an error rate needs references: nothing was said",
                given=f"{len(self)} references without {self.unit}",
                present=f"{int(self.errors.sum())} {self.unit} inserted",
                fix="report the insertions, or add utterances with text",
            )
        return float(self.errors.sum() / self.length.sum())

    @property
    def capped_utterance_rate(self) -> float:
        """The mean over utterances of min(1, edits / units): another number than the corpus rate, and never above 1.

        Long failures count as one utterance each. An empty reference counts 0 when nothing was put there, else 1.
        """
        if not len(self):
            raise BadInput("a mean over no utterances", fix="pass at least one")
        shares = self.errors / np.maximum(self.length, 1)
        return float(np.minimum(1.0, shares).mean())

    def folded(self, times: int) -> ErrorCounts:
        """Return one line per utterance where each stands ``times`` times, one block of all utterances after another.

        Edits and units are summed: the rate stays what it was, and the utterance is again what is drawn.

        >>> counts = count_errors(["ka to", "su", "ka to", "su"], ["ka do", "su", "ka to", "su"]).folded(2)
        >>> counts.errors.tolist(), counts.length.tolist(), counts.rate
        ([1, 0], [4, 2], 0.16666666666666666)
        """
        if times < 1 or len(self) % times:
            raise BadInput("blocks of different sizes", given=f"{len(self)} lines in {times} blocks")
        summed = {
            name: getattr(self, name).reshape(times, -1).sum(0)
            for name in ("length", "substitutions", "deletions", "insertions")
        }
        return ErrorCounts(ids=self.ids[: len(self) // times], unit=self.unit, normaliser=self.normaliser, **summed)

    def __str__(self) -> str:
        name = "WER" if self.unit == "words" else "CER"
        empty = int((self.length == 0).sum())
        parts = (
            f"{int(self.substitutions.sum()):,} substituted, {int(self.deletions.sum()):,} deleted, "
            f"{int(self.insertions.sum()):,} inserted"
        )
        told = f"{name} {100 * self.rate:.2f} % ({parts}; {int(self.length.sum()):,} {self.unit} in {len(self):,} "
        told += f"utterances, normaliser {self.normaliser})"
        return told + (f"; {empty} references are empty" if empty else "")


def count_errors(
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    ids: Sequence[str] | None = None,
) -> ErrorCounts:
    """Count what is wrong with each hypothesis, in words or in characters as a reader counts them.

    An empty reference is legal: whatever stands in its hypothesis is inserted. Whether characters include spaces is
    decided once, from the script of all references.

    Parameters
    ----------
    normaliser
        Applied to both sides; see ``attnlens ls normalisers``.
    ids
        Names of the utterances; by default their places.

    >>> counts = count_errors(["ka to mi", "su"], ["ka do", "su"])
    >>> counts.errors.tolist(), counts.rate
    ([2, 0], 0.5)
    >>> print(count_errors(["ñuka"], ["nuka"], unit="characters"))
    CER 25.00 % (1 substituted, 0 deleted, 0 inserted; 4 characters in 1 utterances, normaliser basic-unicode)
    """
    names = tuple(map(str, range(len(references)))) if ids is None else tuple(ids)
    left, right = normalised(references, normaliser), normalised(hypotheses, normaliser)
    _paired(left, right, names)
    split = splitter(unit, left)
    found = _counted(left, right, split)
    return ErrorCounts(
        ids=names,
        unit=unit,
        normaliser=normaliser,
        length=np.array([len(split(text)) for text in left], dtype=np.int64),
        substitutions=found[:, 0],
        deletions=found[:, 1],
        insertions=found[:, 2],
    )


def edit_distance(one: str, other: str) -> int:
    """Return the least number of code points to put in, take out or replace between two texts, nothing normalised.

    >>> edit_distance("kitten", "sitting")
    3
    """
    return int(_counted([one], [other], list).sum())


def _counted(left: Sequence[str], right: Sequence[str], split: Split) -> Counts:
    """Return substitutions, deletions and insertions of each pair [pairs, 3]."""
    counts = np.zeros((len(left), 3), dtype=np.int64)
    for row, chunks in zip(counts, align(left, right, split), strict=True):
        for chunk in chunks:
            if chunk.kind != "equal":
                row[_COLUMN[chunk.kind]] += max(chunk.length, chunk.other)
    return counts


def _paired(references: Sequence[str], hypotheses: Sequence[str], ids: Sequence[str]) -> None:
    if not len(references) == len(hypotheses) == len(ids):
        raise BadInput(
            "references and hypotheses are not the same utterances",
            given=f"{len(references)} references, {len(hypotheses)} hypotheses, {len(ids)} ids",
            fix="pass one hypothesis for each reference, empty where nothing was recognised",
        )
    if len(set(ids)) < len(ids):
        twice = [one for one in dict.fromkeys(ids) if list(ids).count(one) > 1]
        raise BadInput("an utterance stands twice", given=listing(twice, at_most=6), fix="keep one of each")
