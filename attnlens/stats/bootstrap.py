"""How far would the estimate move with other utterances? Bootstrap intervals of means, differences, ratios of sums."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted
from attnlens.stats.intervals import RESAMPLES, TIE, finished, refuse_plan
from attnlens.stats.limits import limits
from attnlens.stats.resamples import draw_counts
from attnlens.stats.results import Interval, Method
from attnlens.stats.sums import Sums
from attnlens.stats.units import Units

__all__ = ["bootstrap", "bootstrap_seeds"]

REPLICATE_BYTES = 256 * 2**20
"""How much the statistics of all resamples may take at once; more cells are done in turns, with the same draws."""


def bootstrap(
    values: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    per: ArrayLike | None = None,
    clusters: Iterable[Hashable] | None = None,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Put an interval on a mean, a paired difference or a ratio of sums, for every cell at once.

    Parameters
    ----------
    values
        One number per item and cell [items, ...]; an item is what was drawn from the language: an utterance.
    minus
        The same items under the other condition [items, ...]: the statistic becomes the paired difference.
    per
        Denominators [items] or [items, ...], such as reference words: the statistic becomes sum(values) / sum(per).
    clusters
        A label per item; items of one speaker or recording are then drawn as one.
    method
        ``"bca"`` corrects for bias and skew; ``"percentile"`` is simpler and shorter to explain.
    level, resamples, seed
        Coverage, number of resamples, and what makes them the same again.

    >>> print(bootstrap([3, 0, 1, 2, 0, 4], per=[9, 7, 8, 10, 6, 11]))
    ratio of sums 0.1961 [0.08696, 0.3091] (95 % BCa bootstrap, 10,000 resamples of 6 items, seed 0); 6 items are
    few: expect the interval to be too narrow
    """
    data = Sums.of(values, minus=minus, per=per, clusters=clusters)
    return _sums_interval(data, method=method, level=level, resamples=resamples, seed=seed)


def bootstrap_seeds(
    values: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    per: ArrayLike | None = None,
    clusters: Iterable[Hashable] | None = None,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Put an interval on a result that was repeated over seeds, counting both seeds and utterances as drawn.

    Every resample draws seeds and, independently, items (or clusters), and takes the values where they cross. Only so
    does the interval speak about another seed with other utterances.

    Parameters
    ----------
    values
        One number per seed, item and cell [seeds, items, ...]; each seed saw every item.
    minus, per, clusters, method, level, resamples, seed
        As in :func:`bootstrap`; ``per`` may also be [items], the same for every seed.

    >>> errors = [[3, 0, 1, 2, 0, 4], [2, 0, 1, 3, 0, 4], [3, 1, 1, 1, 0, 5]]
    >>> interval = bootstrap_seeds(errors, per=[9, 7, 8, 10, 6, 11], method="percentile")
    >>> interval.scheme
    '3 seeds x 6 items'
    """
    data = Sums.of(values, minus=minus, per=per, clusters=clusters, leading=2)
    if data.seeds == 1:
        raise BadInput(
            "one seed says nothing about other seeds",
            given=f"values of shape {data.values.shape}",
            fix="pass at least two seeds as axis 0, or use bootstrap for one",
        )
    return _sums_interval(data, method=method, level=level, resamples=resamples, seed=seed)


def _sums_interval(data: Sums, *, method: Method, level: float, resamples: int, seed: int) -> Interval:
    refuse_plan(data.units, method=method, level=level, resamples=resamples)
    estimate, low, high = np.empty(data.cells), np.empty(data.cells), np.empty(data.cells)
    constant, undefined = np.zeros(data.cells, dtype=bool), np.zeros(data.cells, dtype=bool)
    step = max(1, REPLICATE_BYTES // (8 * resamples))
    for start in range(0, data.cells, step):
        cells = slice(start, start + step)
        residuals, estimate[cells] = data.residuals(cells)
        constant[cells] = ~residuals.any(axis=tuple(range(data.leading)))
        weights = data.weights(cells)
        left_out = _left_out(residuals, weights) if method == "bca" else []
        deviations = _replicates(residuals, weights, resamples=resamples, seed=seed, units=data.units)
        tie = TIE * np.abs(deviations).max(axis=1)
        low[cells], high[cells], undefined[cells] = limits(
            deviations, level=level, method=method, left_out=left_out, tie=tie
        )
    return finished(
        data.name,
        estimate=estimate,
        low=low,
        high=high,
        shape=data.shape,
        units=data.units,
        constant=constant,
        undefined=undefined,
        method=method,
        level=level,
        resamples=resamples,
        seed=seed,
        seeds=data.seeds,
    )


def _replicates(
    residuals: NDArray[np.float64], weights: NDArray[np.float64], *, resamples: int, seed: int, units: Units
) -> NDArray[np.float64]:
    """Return the statistic of every resample less the estimate [cells, resamples]."""
    deviations = np.empty((residuals.shape[-1], resamples))
    for rows, counts in draw_counts(residuals.shape[:-1], resamples=resamples, seed=seed):
        sums, totals = _drawn(residuals, counts), _drawn(weights, counts)
        empty = int((totals <= 0).any(axis=0).sum())
        if empty:
            raise BadInput(
                f"{counted(empty, 'resample')} among the first {rows.stop:,} have nothing to divide by",
                given=f"per is zero for most of {units}",
                fix="leave out the items with a denominator of zero, or add items",
            )
        np.divide(sums, totals, out=deviations[:, rows])
    return deviations


def _drawn(values: NDArray[np.float64], counts: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64]:
    """Add up the values of each resample: [units, cells] or [seeds, units, cells] to [cells, rows]."""
    if len(counts) == 1:
        return values.T @ counts[0].T
    seeds, items = counts
    total = np.zeros((values.shape[-1], len(items)))
    for number, one in enumerate(values):
        total += (one.T @ items.T) * seeds[:, number]
    return total


def _left_out(residuals: NDArray[np.float64], weights: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the statistic less the estimate with each unit left out, for each factor [units, cells]."""
    factors = range(residuals.ndim - 1)
    found = []
    for factor in factors:
        others = tuple(axis for axis in factors if axis != factor)
        gone, weight = residuals.sum(axis=others), weights.sum(axis=others)
        left = weight.sum(axis=0) - weight
        if (left <= 0).any():
            raise BadInput("all of per lies in one unit", fix="add items with a denominator above zero")
        # The residuals add up to zero, so what is left is the negative of what is gone.
        found.append(-gone / left)
    return found
