"""The best k of a score matrix that never exists: blocks are computed, merged into the best so far, and forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.progress import tracked
from attnlens.errors import BadInput

__all__ = ["BLOCK", "DECIMALS", "Row", "Scores", "Sum", "top_k"]

BLOCK = (512, 8192)
"""Queries and pool items per block: 32 MiB in float64, large enough for the matrix product to run at full speed."""

DECIMALS = 9
"""Scores are compared to this many decimals. Equal pool items get sums that differ in the last bits with their place in
a block; rounding makes them tie again, so that pool order decides, and not the block size or the number of threads."""


class Scores(Protocol):
    """A score matrix [queries, pool] computed a block at a time. Larger is better; minus infinity is never chosen."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of queries and of pool items."""
        ...

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return a fresh array of the scores at ``rows`` x ``columns``."""
        ...


class Sum:
    """Several scores of the same queries and pool added up, as text + audio is."""

    def __init__(self, *parts: Scores) -> None:
        self.parts = parts
        self.shape = parts[0].shape

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return the sum of the parts at ``rows`` x ``columns``."""
        total = self.parts[0].block(rows, columns)
        for part in self.parts[1:]:
            total += part.block(rows, columns)
        return total


class Row:
    """One query of other scores, to look again at that query alone."""

    def __init__(self, scores: Scores, row: int) -> None:
        self.scores = scores
        self.row = row
        self.shape = (1, scores.shape[1])

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return the scores of the one query at ``columns``; ``rows`` can only be that one."""
        return self.scores.block(slice(self.row, self.row + 1), columns)[rows]


def top_k(
    scores: Scores,
    k: int,
    *,
    excluded: Sequence[NDArray[np.intp]] | None = None,
    block: tuple[int, int] = BLOCK,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find each query's k best pool items, best first, ties in pool order, in the memory of one block.

    Parameters
    ----------
    scores
        What is compared; see :class:`Scores`.
    excluded
        For each query the pool positions that may not be returned, ascending.
    block
        Queries and pool items per block; it changes time and memory, never the result.

    Returns
    -------
    positions, scores
        Both [queries, k], k being cut to the pool's size. Where a query has fewer items to choose from, the rest is -1
        with a score of minus infinity.

    >>> class Table:
    ...     shape = (1, 3)
    ...     def block(self, rows, columns):
    ...         return np.array([[0.5, 0.9, 0.5]])[rows, columns]
    >>> top_k(Table(), 2)[0].tolist()
    [[1, 0]]
    """
    n_queries, n_pool = scores.shape
    k = min(k, n_pool)
    best = np.full((n_queries, k), -1, dtype=np.intp)
    value = np.full((n_queries, k), -np.inf)
    if k == 0:
        return best, value
    blocks = list(_blocks(n_queries, n_pool, block))
    for rows, columns in tracked(blocks, total=len(blocks), what="comparing with the pool"):
        part = scores.block(rows, columns)
        if np.isnan(part.max(axis=1)).any():
            raise BadInput(
                "a similarity between a query and the pool is not a number",
                given=f"queries {rows.start} to {rows.stop - 1}, pool items {columns.start} to {columns.stop - 1}",
                fix="look for NaN samples with `attnlens data check`, or for an encoder that overflows",
            )
        if excluded is not None:
            _hide(part, excluded[rows], columns)
        best[rows], value[rows] = _merged(best[rows], value[rows], part, columns.start, k)
    return best, value


def _blocks(n_queries: int, n_pool: int, block: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    # Columns run left to right within a row of blocks: the merge relies on earlier items being already in place.
    for top in range(0, n_queries, block[0]):
        for left in range(0, n_pool, block[1]):
            yield slice(top, min(top + block[0], n_queries)), slice(left, min(left + block[1], n_pool))


def _hide(part: NDArray[np.float64], excluded: Sequence[NDArray[np.intp]], columns: slice) -> None:
    for row, positions in enumerate(excluded):
        inside = positions[np.searchsorted(positions, columns.start) : np.searchsorted(positions, columns.stop)]
        part[row, inside - columns.start] = -np.inf


def _merged(
    best: NDArray[np.intp], value: NDArray[np.float64], part: NDArray[np.float64], left: int, k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the best k of the best so far [rows, k] and of one more block [rows, columns] that begins at ``left``."""
    slack = 2 * 10.0**-DECIMALS
    needed = value[:, -1:] - slack
    hopeful = part >= needed
    # In later blocks few items beat the k-th best so far; only where many do is a partition worth its time.
    if hopeful.sum() > 8 * k * len(part) and part.shape[1] > k:
        kth = np.partition(part, part.shape[1] - k, axis=1)[:, -k, None]
        hopeful = part >= np.maximum(needed, kth - slack)
    hopeful &= part > -np.inf

    new_row, new_column = np.nonzero(hopeful)
    old_row, old_slot = np.nonzero(best >= 0)
    row: NDArray[Any] = np.concatenate([old_row, new_row])
    item = np.concatenate([best[old_row, old_slot], new_column + left])
    score = np.concatenate([value[old_row, old_slot], np.round(part[new_row, new_column], DECIMALS) + 0.0])

    order = np.lexsort((item, -score, row))
    row, item, score = row[order], item[order], score[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    best, value = np.full_like(best, -1), np.full_like(value, -np.inf)
    best[row[kept], place[kept]] = item[kept]
    value[row[kept], place[kept]] = score[kept]
    return best, value
