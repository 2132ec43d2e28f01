"""Retrievers without a model: the controls that a clever one has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.base import Query, Ranking, Use
from attnlens.context.retrieval.eligible import Task, ranked
from attnlens.context.retrieval.scored import ScoredRetriever
from attnlens.data.utterance import Utterance

__all__ = ["FirstRetriever", "LengthRetriever", "RandomRetriever", "chance_of"]


@dataclass(frozen=True, kw_only=True)
class RandomRetriever(ScoredRetriever):
    """Draw demonstrations by chance: what retrieval has to be better than.

    Each target id has its own permutation of the pool, so that what is drawn for one target does not change with the
    other targets, nor with k: three demonstrations are the first three of five.
    """

    version: ClassVar[int] = 1

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> _Chance:
        """Return a uniform number for every query and pool item."""
        return _Chance([chance_of(self.seed, query.utterance.id) for query in queries], len(pool))


@dataclass(frozen=True, kw_only=True)
class FirstRetriever(ScoredRetriever):
    """Take the pool as it comes: the same demonstrations for every target, as a fixed prompt has."""

    version: ClassVar[int] = 1

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> _Difference:
        """Return minus the pool position."""
        return _Difference(np.zeros(len(queries)), np.arange(len(pool), dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class LengthRetriever(ScoredRetriever):
    """Take the nearest durations, to hold the lengths of audio spans together.

    Parameters
    ----------
    total
        Seconds that all demonstrations should have together: each is then to be the k-th part of it, whatever the
        target's own length. One run per number of shots, since the first of four are not two of that length.
    """

    # No version: it reads headers alone, where looking for a finished ranking would have every clip decoded.
    uses: ClassVar[frozenset[Use]] = frozenset({"audio"})

    total: float | None = None

    def ranking(self, task: Task) -> list[Ranking]:
        """Rank by the target's own duration, or by the part of the total that falls to each."""
        if self.total is None:
            return super().ranking(task)
        seconds = np.array([utterance.audio.seconds for utterance in task.pool], dtype=np.float64)
        return ranked(task, _Difference(np.full(len(task.queries), self.total / task.k), seconds))

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> _Difference:
        """Return minus the difference in seconds."""
        return _Difference(
            np.array([query.utterance.audio.seconds for query in queries], dtype=np.float64),
            np.array([utterance.audio.seconds for utterance in pool], dtype=np.float64),
        )


class _Chance:
    def __init__(self, seeds: Sequence[int], n_pool: int) -> None:
        self.shape = (len(seeds), n_pool)
        self._seeds = seeds

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        # The j-th number of a query's stream belongs to pool item j; jumping ahead makes it so in any block.
        return np.stack(
            [
                np.random.Generator(np.random.PCG64(seed).advance(columns.start)).random(columns.stop - columns.start)
                for seed in self._seeds[rows]
            ]
        )


class _Difference:
    def __init__(self, queries: NDArray[np.float64], pool: NDArray[np.float64]) -> None:
        self.shape = (len(queries), len(pool))
        self._queries, self._pool = queries, pool

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        return -np.abs(self._queries[rows, None] - self._pool[None, columns])


def chance_of(seed: int, utterance_id: str) -> int:
    """Return the seed that stands for a name under a seed, the same in every process."""
    # Python's own hash() of a string differs from process to process.
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{utterance_id}".encode(), digest_size=16).digest(), "big")
