"""Other worlds under the null: every sign pattern or labelling when they are few, random ones when they are many."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import generator, probability, row_blocks, whole
from attnlens.stats.results import Alternative
from attnlens.stats.units import Units

__all__ = ["label_blocks", "refuse_few_draws", "refuse_few_labels", "refuse_few_signs", "sign_blocks"]

COUNTABLE = 62


def sign_blocks(units: int, *, draws: int, width: int, seed: int) -> tuple[int, bool, Iterator[NDArray[np.float64]]]:
    """Return how many sign patterns there will be, whether they are all others there are, and blocks [rows, units].

    >>> made, exhaustive, blocks = sign_blocks(2, draws=9_999, width=1, seed=0)
    >>> made, exhaustive, np.concatenate(list(blocks)).tolist()
    (3, True, [[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    """
    ways = 2 ** min(units, COUNTABLE) - 1
    exhaustive = ways <= draws
    made = ways if exhaustive else draws

    def blocks() -> Iterator[NDArray[np.float64]]:
        rng = generator(seed)
        for rows in row_blocks(made, max(units, width)):
            if exhaustive:
                # Pattern 0 flips nothing: that is the observed one.
                patterns = np.arange(rows.start + 1, rows.stop + 1)[:, None]
                flipped = (patterns >> np.arange(units)) & 1 == 1
            else:
                flipped = rng.random((rows.stop - rows.start, units)) < 1 / 2
            yield np.where(flipped, -1.0, 1.0)

    return made, exhaustive, blocks()


def label_blocks(
    observed: NDArray[np.bool_], *, draws: int, width: int, seed: int
) -> tuple[int, bool, Iterator[NDArray[np.float64]]]:
    """Return the same for labellings that keep the size of the first group; blocks hold 1 for its members.

    >>> made, exhaustive, blocks = label_blocks(np.array([True, False, False]), draws=9_999, width=1, seed=0)
    >>> made, exhaustive, np.concatenate(list(blocks)).tolist()
    (2, True, [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """
    units, size = len(observed), int(observed.sum())
    ways = _ways(units, size) - 1
    exhaustive = ways <= draws
    made = ways if exhaustive else draws
    present = tuple(np.flatnonzero(observed).tolist())
    others = (chosen for chosen in combinations(range(units), size) if chosen != present)

    def blocks() -> Iterator[NDArray[np.float64]]:
        rng = generator(seed)
        for rows in row_blocks(made, max(units, width)):
            number = rows.stop - rows.start
            if exhaustive:
                members = np.array([next(others) for _ in range(number)])
            else:
                members = np.argpartition(rng.random((number, units)), size - 1, axis=1)[:, :size]
            labels = np.zeros((number, units))
            np.put_along_axis(labels, members, 1.0, axis=1)
            yield labels

    return made, exhaustive, blocks()


def refuse_few_signs(units: Units, *, alternative: Alternative, alpha: float, draws: int) -> None:
    """Refuse a sign-flip test that could not reach ``alpha`` whatever the data, saying how many units could."""
    refuse_few_draws(draws, alpha)
    sides = 2 if alternative == "two-sided" else 1
    needed = next(count for count in range(1, 10_000) if sides / 2**count <= alpha)
    units.require(needed, f"a {alternative} sign-flip test to reach p = {alpha:g}")


def refuse_few_labels(units: Units, size: int, *, alternative: Alternative, alpha: float, draws: int) -> None:
    """Refuse a label permutation with too few labellings to reach ``alpha``, saying which groups would do."""
    refuse_few_draws(draws, alpha)

    def floor(count: int, first: int) -> float:
        # With groups of equal size the swapped labelling is as extreme, on the other side.
        mirrored = alternative == "two-sided" and 2 * first == count
        return (2 if mirrored else 1) / _ways(count, first)

    if floor(units.count, size) > alpha:
        needed = next(half for half in range(1, 5_000) if floor(2 * half, half) <= alpha)
        raise BadInput(
            f"{size} against {units.count - size} {units.noun}s are too few for a {alternative} label permutation to "
            f"reach p = {alpha:g}",
            given=f"the smallest p they can give is {floor(units.count, size):.3g}",
            present=f"{needed} against {needed} {units.noun}s are enough",
            fix=f"add {units.noun}s, or report the difference without a test",
        )


def refuse_few_draws(draws: int, alpha: float) -> None:
    """Refuse a number of draws with which even the most extreme data could not reach ``alpha``."""
    needed = math.ceil(1 / probability(alpha, "alpha") - 1 - 1e-9)
    whole(draws, "draws", at_least=needed, why=f"to reach p = {alpha:g}")


def _ways(units: int, size: int) -> int:
    # What is beyond counting need not be counted: the exact number would take seconds for large groups.
    return math.comb(units, size) if min(size, units - size) <= COUNTABLE else 2**COUNTABLE
