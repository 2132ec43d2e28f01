"""What the statistics return: numbers with everything a reader needs to judge them, printable as one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted, shape_name

__all__ = ["Alternative", "Interval", "Method", "Numbers", "PermutationTest", "unflat"]

Numbers: TypeAlias = Any
"""``np.float64`` (which is a float) for data of shape [items], an array of it [...] for data of shape [items, ...].

Any to type checkers: which of the two it is follows from the shape of the data, and their union allows no indexing.
"""
Alternative = Literal["two-sided", "greater", "less"]
Method = Literal["bca", "percentile"]

ALPHA = 0.05


def unflat(values: NDArray[np.float64], shape: tuple[int, ...]) -> Numbers:
    """Give flat cells their axes back; no axes make a scalar."""
    return values.reshape(shape)[()]


@dataclass(frozen=True, eq=False, kw_only=True)
class Interval:
    """An estimate and the range of values that the data do not speak against.

    ``estimate``, ``low`` and ``high`` are single numbers or arrays over the cells (layers, heads). ``n`` counts items,
    ``units`` what was resampled: items, or the clusters they form. ``notes`` holds what limits the result.
    """

    statistic: str
    estimate: Numbers
    low: Numbers
    high: Numbers
    level: float
    method: Method
    n: int
    units: int
    resamples: int
    seed: int
    scheme: str
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> Numbers:
        """How far the ends are apart."""
        return self.high - self.low

    def excludes(self, value: float = 0.0) -> NDArray[np.bool_]:
        """Say for each cell whether ``value`` lies outside the interval; its ends belong to it."""
        return np.asarray((self.low > value) | (self.high < value))

    def transformed(self, function: Callable[[Any], Any], *, statistic: str) -> Interval:
        """Read the interval on another scale, such as a perplexity from nats per token (``function=np.exp``).

        Both methods keep their coverage under an increasing function, and only under one; any other is refused.
        """
        low, estimate, high = (function(value) for value in (self.low, self.estimate, self.high))
        ends = np.asarray((function(self.low) > function(self.high)) & (self.low < self.high))
        if ends.any() or not all(np.isfinite(value).all() for value in (low, estimate, high)):
            raise BadInput(
                "an interval is only kept by a function that increases over it and is finite",
                given=getattr(function, "__name__", repr(function)),
            )
        return replace(self, statistic=statistic, low=low, estimate=estimate, high=high)

    def __str__(self) -> str:
        name = "BCa" if self.method == "bca" else "percentile"
        made = f"{100 * self.level:g} % {name} bootstrap, {self.resamples:,} resamples of {self.scheme}"
        made += f", seed {self.seed}"
        if np.ndim(self.estimate) == 0:
            found = f"{self.statistic} {self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"
        else:
            found = (
                f"{self.statistic}: {shape_name(np.shape(self.estimate))} estimates from {np.min(self.estimate):.4g} "
                f"to {np.max(self.estimate):.4g}, {int(self.excludes().sum()):,} intervals exclude 0"
            )
        return _sentence(found, made, self.notes)


@dataclass(frozen=True, eq=False, kw_only=True)
class PermutationTest:
    """How often data without the effect would look as extreme as these.

    ``p`` holds one p-value per cell, as if it were the only one; ``p_family`` is corrected by max-T for all cells of
    its family (``family`` of them). Both count (1 + as extreme) / (1 + draws). ``draws`` is the number of assignments
    looked at besides the observed one; with ``drawn="all"`` those are all there are. ``n`` and ``units`` are None when
    the draws were made elsewhere.
    """

    statistic: str
    estimate: Numbers
    p: Numbers
    p_family: Numbers
    family: int
    alternative: Alternative
    test: str
    n: int | None
    units: int | None
    draws: int
    drawn: Literal["all", "sampled"]
    seed: int | None
    scheme: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        many = counted(self.draws, "assignment")
        looked_at = f"all {many.replace(' ', ' other ')}" if self.drawn == "all" else many.replace(" ", " random ")
        made = f"{self.alternative} {self.test}, {self.scheme}, {looked_at}"
        made += "" if self.seed is None or self.drawn == "all" else f", seed {self.seed}"
        if np.ndim(self.estimate) == 0:
            return _sentence(f"{self.statistic} {self.estimate:.4g}, p = {self.p:.4g}", made, self.notes)
        best = np.unravel_index(int(np.argmin(self.p_family)), np.shape(self.p_family))
        found = (
            f"{self.statistic}: {shape_name(np.shape(self.estimate))} cells, "
            f"{int(np.sum(self.p_family <= ALPHA)):,} with family-wise p <= {ALPHA} (families of {self.family:,}), "
            f"the smallest {np.min(self.p_family):.4g} at {list(map(int, best))}"
        )
        return _sentence(found, made, self.notes)


def _sentence(found: str, made: str, notes: tuple[str, ...]) -> str:
    return "; ".join([f"{found} ({made})", *notes])
