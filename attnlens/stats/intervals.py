"""What every bootstrap shares: which plans are refused, and how ends become a result that says its limits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from attnlens.stats.inputs import counted, one_of, places, probability, whole
from attnlens.stats.results import Interval, Method, unflat
from attnlens.stats.units import Units

__all__ = ["RESAMPLES", "TIE", "fewest_units", "finished", "refuse_plan"]

RESAMPLES = 10_000
TIE = 1e-12
"""Resamples this near to the estimate, relative to the farthest one, equal it but for rounding."""
FEW_UNITS = 20
FEW_SEEDS = 5


def fewest_units(level: float) -> int:
    """Return the fewest units with which the ends of an interval are not simply the most extreme units.

    A resample is one unit throughout with probability n**-n; where that exceeds the tail, the extremes are the ends.

    >>> fewest_units(0.95), fewest_units(0.999)
    (4, 5)
    """
    tail = (1 - level) / 2
    return next(n for n in range(2, 1000) if n**-n < tail)


def refuse_plan(units: Units, *, method: Method, level: float, resamples: int) -> None:
    """Refuse a bootstrap that could not give an interval of this level, before anything is drawn."""
    one_of(method, Method, "bootstrap method")
    tail = (1 - probability(level, "level")) / 2
    whole(resamples, "resamples", at_least=math.ceil(1 / tail), why=f"for an interval of level {level:g}")
    units.require(fewest_units(level), f"a bootstrap interval of level {level:g}")


def finished(
    statistic: str,
    *,
    estimate: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    shape: tuple[int, ...],
    units: Units,
    constant: NDArray[np.bool_],
    undefined: NDArray[np.bool_],
    method: Method,
    level: float,
    resamples: int,
    seed: int,
    seeds: int | None = None,
) -> Interval:
    """Make the result of flat estimates and of how far the interval reaches below and above them [cells]."""
    notes = units.notes()
    if constant.any():
        notes.append(f"constant{places(constant, shape)}: every resample gives the same, so the interval has no width")
    undefined = undefined & ~constant
    if undefined.any():
        notes.append(f"BCa is undefined{places(undefined, shape)}: the percentile interval stands there")
    if units.count < FEW_UNITS:
        notes.append(f"{counted(units.count, units.noun)} are few: expect the interval to be too narrow")
    if seeds is not None and seeds < FEW_SEEDS:
        notes.append(f"{seeds} seeds understate the variance over seeds by about {100 / seeds:.0f} %")
    return Interval(
        statistic=statistic,
        estimate=unflat(estimate, shape),
        low=unflat(estimate + low, shape),
        high=unflat(estimate + high, shape),
        level=level,
        method=method,
        n=units.items,
        units=units.count,
        resamples=resamples,
        seed=seed,
        scheme=str(units) if seeds is None else f"{counted(seeds, 'seed')} x {units}",
        notes=tuple(notes),
    )
