"""How often draws under the null are as extreme as the data: cell by cell, and by the largest cell of a family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.stats.results import Alternative

__all__ = ["Tally", "families"]

TIE = 1e-10
"""Draws this near to the observed value tie with it: rounding must not decide, and a tie counts against the finding."""


def families(shape: tuple[int, ...], over: Sequence[int] | Literal["all"]) -> NDArray[np.intp]:
    """Return the family of each flat cell; ``over`` names the axes that are searched together, items being axis 0.

    >>> families((2, 3), "all").tolist(), families((2, 3), (2,)).tolist()
    ([0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    """
    axes = range(1, len(shape) + 1)
    together = set(axes) if isinstance(over, str) else {int(axis) for axis in over}
    wrong = isinstance(over, str) and over != "all"
    if wrong or not together <= set(axes):
        raise BadInput(
            "over names axes that are not there",
            given=over,
            present=f"cell axes {list(axes)} (axis 0 is the items)" if shape else "no cell axes, one value per item",
            fix="pass the axes that one test searches, such as (1, 2) for layers x heads, or 'all'",
        )
    kept = tuple(1 if axis in together else size for axis, size in zip(axes, shape, strict=True))
    return np.broadcast_to(np.arange(np.prod(kept, dtype=int)).reshape(kept), shape).ravel()


class Tally:
    """Count draws block by block, so that the null distribution of many cells is never held at once.

    Cells must be on one scale under the null for the maximum over them to be fair; callers standardise.

    >>> tally = Tally(np.array([2.0, 0.5]), alternative="two-sided", family=np.array([0, 0]), draws=3)
    >>> tally.add(np.array([[0.1, -0.6], [-2.5, 0.0], [1.0, 0.2]]))
    >>> tally.p().tolist(), tally.p_family().tolist()
    ([0.5, 0.5], [0.5, 1.0])
    """

    def __init__(
        self, observed: NDArray[np.float64], *, alternative: Alternative, family: NDArray[np.intp], draws: int
    ) -> None:
        self._alternative = alternative
        self._observed = self._extreme(observed)
        self._family = family
        self._order = np.argsort(family, kind="stable")
        self._starts = np.searchsorted(family[self._order], np.arange(int(family.max()) + 1))
        self._counts = np.zeros(len(observed), dtype=np.int64)
        self._largest = np.empty((len(self._starts), draws))
        self._draws = draws
        self._done = 0

    def add(self, drawn: NDArray[np.float64]) -> None:
        """Count a block of draws [rows, cells]."""
        extreme = self._extreme(drawn)
        self._counts += (extreme >= self._observed - TIE).sum(axis=0)
        rows = slice(self._done, self._done + len(drawn))
        ordered = extreme if len(self._starts) == 1 else extreme[:, self._order]
        self._largest[:, rows] = np.maximum.reduceat(ordered, self._starts, axis=1).T
        self._done = rows.stop

    def p(self) -> NDArray[np.float64]:
        """Return (1 + as extreme) / (1 + draws) of each cell."""
        return (1 + self._counts) / (1 + self._draws)

    def p_family(self) -> NDArray[np.float64]:
        """Return the share of draws whose largest cell is as extreme as this one, counted the same way."""
        found = np.empty(len(self._observed))
        for number, largest in enumerate(np.sort(self._largest, axis=1)):
            mine = self._family == number
            below = np.searchsorted(largest, self._observed[mine] - TIE, side="left")
            found[mine] = (1 + self._draws - below) / (1 + self._draws)
        return found

    def _extreme(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._alternative == "two-sided":
            return np.abs(values)
        return -values if self._alternative == "less" else values
