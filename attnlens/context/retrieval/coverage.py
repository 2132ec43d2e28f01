"""Demonstrations that together contain what the hypothesis is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.base import Ranking
from attnlens.context.retrieval.eligible import Task, comparable, hypotheses
from attnlens.context.retrieval.progress import tracked
from attnlens.context.retrieval.scores import DECIMALS
from attnlens.context.retrieval.text import TextRetriever

if TYPE_CHECKING:
    from scipy.sparse import csc_array

__all__ = ["CoverageRetriever", "units"]

SIZES = (1, 2, 3)
"""First every character of the hypothesis is to be seen once, then every pair, then every triple."""

ROWS = 64
"""Queries whose similarities to the whole pool are held at a time."""


def units(text: str, size: int) -> set[str]:
    """Return the character n-grams of a text's words, white space left out.

    >>> sorted(units("To be", 2))
    ['be', 'to']
    """
    return {word[at : at + size] for word in comparable(text).split() for at in range(len(word) - size + 1)}


@dataclass(frozen=True, kw_only=True)
class CoverageRetriever(TextRetriever):
    """Choose greedily so that the demonstrations show every character of the hypothesis, rather than its like thrice.

    Each step takes the item with the most characters of the hypothesis that no chosen item has; once none is left that
    the pool has, pairs are covered, then triples, then text similarity alone decides. Ties go to the greater similarity
    of texts (in the space of ``encoder``), then to the earlier item.

    A score is the share newly covered, plus 2 while covering characters and 1 while covering pairs; without anything
    left to cover it is the cosine less 1.
    """

    version: ClassVar[int] = 1

    def ranking(self, task: Task) -> list[Ranking]:
        """Rank each query by its own greedy search."""
        texts = hypotheses(task.queries)
        similarities = self.compare(texts, task.pool, distance="cosine")
        levels = [_Level.of([utterance.text for utterance in task.pool], size) for size in SIZES]
        rankings = []
        for row, text in enumerate(tracked(texts, total=len(texts), what="covering hypotheses")):
            if row % ROWS == 0:
                block = similarities.block(slice(row, min(row + ROWS, len(texts))), slice(0, len(task.pool)))
            rankings.append(_greedy(task, row, [_Need(level, text) for level in levels], block[row % ROWS]))
        return rankings


@dataclass(frozen=True)
class _Level:
    """Which pool items have which units of one size."""

    size: int
    column: dict[str, int]
    has: csc_array

    @classmethod
    def of(cls, texts: Sequence[str], size: int) -> _Level:
        from scipy.sparse import csc_array

        column: dict[str, int] = {}
        pairs = [
            (row, column.setdefault(unit, len(column))) for row, text in enumerate(texts) for unit in units(text, size)
        ]
        rows, columns = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        shape = (len(texts), len(column))
        return cls(size, column, csc_array((np.ones(len(pairs), np.float32), (rows, columns)), shape=shape))


@dataclass
class _Need:
    """What one hypothesis needs of one level; looked up when it is that level's turn."""

    level: _Level
    text: str
    total: int = 0
    has: NDArray[np.float32] | None = None
    chosen: list[int] = field(default_factory=list)

    def gains(self) -> NDArray[np.float32]:
        """Return how many units not yet covered each pool item has [pool]."""
        if self.has is None:
            wanted = units(self.text, self.level.size)
            self.total = len(wanted)
            # Sorted, because the order of a set of strings changes from process to process.
            columns = [self.level.column[unit] for unit in sorted(wanted) if unit in self.level.column]
            self.has = self.level.has[:, columns].toarray()
        missing = ~self.has[self.chosen].any(axis=0)
        gains: NDArray[np.float32] = self.has[:, missing].sum(axis=1)
        return gains


def _greedy(task: Task, row: int, needs: list[_Need], similarity: NDArray[np.float64]) -> Ranking:
    similarity = np.round(similarity, DECIMALS)
    open_ = np.ones(len(task.pool), dtype=bool)
    open_[task.excluded[row]] = False
    chosen: list[int] = []
    scores: list[float] = []
    while len(chosen) < task.k:
        if not open_.any():
            raise task.refuse(row, found=len(chosen))
        best, score = _best(needs, similarity, open_)
        open_[best] = False
        if task.is_target(row, best):
            continue
        chosen.append(best)
        scores.append(score)
        for need in needs:
            need.chosen.append(best)
    return Ranking(tuple(task.pool[position].id for position in chosen), tuple(scores))


def _best(needs: list[_Need], similarity: NDArray[np.float64], open_: NDArray[np.bool_]) -> tuple[int, float]:
    for above, need in zip(reversed(range(len(needs))), needs, strict=True):
        gains = np.where(open_, need.gains(), 0)
        if gains.max() > 0:
            best = int(np.argmax(np.where(gains == gains.max(), similarity, -np.inf)))
            return best, above + float(gains[best]) / need.total
    best = int(np.argmax(np.where(open_, similarity, -np.inf)))
    return best, float(similarity[best]) - 1
