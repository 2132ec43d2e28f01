"""Intervals of any statistic of items, at the pace of a Python loop: medians, correlations, shares."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted, finite, row_blocks
from attnlens.stats.intervals import RESAMPLES, TIE, finished, refuse_plan
from attnlens.stats.limits import limits
from attnlens.stats.resamples import draw_counts
from attnlens.stats.results import Interval, Method
from attnlens.stats.units import Units

__all__ = ["bootstrap_counts", "bootstrap_statistic"]


def bootstrap_statistic(
    statistic: Callable[..., ArrayLike],
    *columns: ArrayLike,
    name: str | None = None,
    clusters: Iterable[Hashable] | None = None,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Put an interval on any statistic of items, such as a median; for means and ratios ``bootstrap`` is much faster.

    Parameters
    ----------
    statistic
        Called with the columns of a resample, returns a number or an array. The order of rows must not matter to it.
    columns
        Arrays [items, ...] that are drawn together.
    name
        What the result calls the statistic; by default what the function is called.
    clusters, method, level, resamples, seed
        As in :func:`attnlens.stats.bootstrap.bootstrap`.

    >>> interval = bootstrap_statistic(np.median, [1.0, 5.0, 2.0, 4.0, 9.0, 3.0, 2.5], resamples=999)
    >>> float(interval.estimate), float(interval.low), float(interval.high)
    (3.0, 2.0, 5.0)
    """
    arrays = _columns(columns)
    units = Units.of(clusters, items=len(arrays[0]))

    def replicates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        chosen = (units.members(count) for count in counts)
        found = [np.asarray(statistic(*(array[items] for array in arrays)), dtype=np.float64) for items in chosen]
        return np.stack(found)

    called = name or str(getattr(statistic, "__name__", "statistic"))
    return bootstrap_counts(replicates, units, name=called, method=method, level=level, resamples=resamples, seed=seed)


def bootstrap_counts(
    replicates: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    units: Units,
    *,
    name: str,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Put an interval on a statistic that is computed for many resamples at once.

    ``replicates`` turns counts [rows, units], how often each unit is in a resample, into statistics [rows, ...].

    >>> values = np.array([1.0, 5.0, 2.0, 4.0, 9.0, 3.0, 2.5])
    >>> mean = lambda counts: counts @ values / counts.sum(axis=1)
    >>> interval = bootstrap_counts(mean, Units.of(None, items=7), name="mean")
    >>> float(interval.estimate.round(3))
    3.786
    """
    refuse_plan(units, method=method, level=level, resamples=resamples)
    whole = replicates(np.ones((1, units.count)))[0]
    if not np.isfinite(whole).all():
        raise BadInput(f"{name} is undefined for these data", given=whole, fix="see whether the data are constant")
    estimate = whole.ravel()
    deviations = np.empty((estimate.size, resamples))
    for rows, (counts,) in draw_counts((units.count,), resamples=resamples, seed=seed):
        deviations[:, rows] = replicates(counts).reshape(len(counts), -1).T - estimate[:, None]
    undefined = int((~np.isfinite(deviations)).any(axis=0).sum())
    if undefined:
        raise BadInput(
            f"{name} is undefined for {counted(undefined, 'resample')} of {resamples:,}",
            given=str(units),
            fix="use a statistic that every resample has, or more items",
        )
    left_out = []
    if method == "bca":
        blocks = [replicates(_all_but(rows, units.count)) for rows in row_blocks(units.count, units.count)]
        left_out = [np.concatenate(blocks).reshape(units.count, -1) - estimate]
        if not np.isfinite(left_out).all():
            raise BadInput(f"{name} is undefined when one unit is left out", given=str(units), fix="pass more items")
    tie = TIE * np.abs(deviations).max(axis=1)
    low, high, fallback = limits(deviations, level=level, method=method, left_out=left_out, tie=tie)
    return finished(
        name,
        estimate=estimate,
        low=low,
        high=high,
        shape=whole.shape,
        units=units,
        constant=tie == 0,
        undefined=fallback,
        method=method,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def _all_but(rows: slice, units: int) -> NDArray[np.float64]:
    """Return counts that leave out one unit each [rows, units]."""
    left = np.arange(rows.start, rows.stop)
    return np.asarray(np.arange(units) != left[:, None], dtype=np.float64)


def _columns(columns: Sequence[ArrayLike]) -> list[NDArray[Any]]:
    if not columns:
        raise BadInput("a statistic needs data", fix="pass one array or more behind the statistic")
    arrays = [finite(column, f"column {number}") for number, column in enumerate(columns)]
    if len({len(array) for array in arrays}) > 1:
        raise BadInput(
            "the items are not paired",
            given=f"columns of {', '.join(f'{len(array):,}' for array in arrays)} items",
            fix="bring the columns into the same order by utterance id, and leave out what only one of them has",
        )
    return arrays
