"""From resamples to the ends of an interval: percentiles, or percentiles corrected for bias and skew (BCa)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnlens.stats.results import Method

__all__ = ["acceleration", "limits"]


def limits(
    deviations: NDArray[np.float64],
    *,
    level: float,
    method: Method,
    left_out: Sequence[NDArray[np.float64]],
    tie: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return how far each interval reaches below and above its estimate, and where BCa does not exist.

    Where all resamples lie on one side of the estimate, or the acceleration sends a percentile past the end, BCa is
    undefined; the percentile interval stands there instead, and the mask says so.

    Parameters
    ----------
    deviations
        Statistic of each resample less the estimate [cells, resamples]; sorted in place, to save a copy.
    left_out
        For each factor that is resampled, the statistics with each of its units left out [units, cells].
    tie
        Deviations up to this size are rounding: such a resample equals the estimate [cells].

    >>> low, high, undefined = limits(np.arange(-50.0, 51.0)[None], level=0.9, method="percentile", left_out=[],
    ...                               tie=np.zeros(1))
    >>> low.tolist(), high.tolist(), undefined.tolist()
    ([-45.0], [45.0], [False])
    """
    cells, resamples = deviations.shape
    tail = (1 - level) / 2
    shares: NDArray[np.float64] = np.broadcast_to([tail, 1 - tail], (cells, 2))
    undefined: NDArray[np.bool_] = np.zeros(cells, dtype=bool)
    if method == "bca":
        corrected = _bca_shares(deviations, tail, acceleration(left_out), tie)
        undefined = ~np.asarray(np.isfinite(corrected).all(axis=1))
        shares = np.where(undefined[:, None], shares, corrected)
    deviations.sort(axis=1)
    # numpy's "linear" quantile, with another share for each row.
    place = shares * (resamples - 1)
    below = np.floor(place).astype(np.intp)
    above = np.minimum(below + 1, resamples - 1)
    rows = np.arange(cells)[:, None]
    lower, upper = deviations[rows, below], deviations[rows, above]
    ends = lower + (upper - lower) * (place - below)
    return ends[:, 0], ends[:, 1], undefined


def _bca_shares(
    deviations: NDArray[np.float64], tail: float, skew: NDArray[np.float64], tie: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the two corrected shares of each cell [cells, 2], NaN where they do not exist (Efron 1987)."""
    from scipy.special import ndtr, ndtri

    # Resamples that tie with the estimate count half, as in scipy.
    smaller = (deviations < -tie[:, None]).sum(axis=1) + (deviations <= tie[:, None]).sum(axis=1)
    bias = ndtri(smaller / (2 * deviations.shape[1]))[:, None]
    pulled = bias + ndtri(np.array([tail, 1 - tail]))
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = 1 - skew[:, None] * pulled
        shares: NDArray[np.float64] = ndtr(bias + pulled / stretch)
    return np.where(np.isfinite(bias) & (stretch > 0), shares, np.nan)


def acceleration(left_out: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return how fast the standard error changes with the estimate [cells], from leaving out one unit at a time.

    With several factors (seeds and utterances) each contributes with its own number of units, as for the samples of a
    several-sample statistic.

    >>> acceleration([np.array([[0.0], [0.0], [-3.0]])]).round(4).tolist()
    [0.068]
    """
    cubes = np.zeros(left_out[0].shape[1])
    squares = np.zeros_like(cubes)
    for found in left_out:
        units = len(found)
        pull = (found.mean(axis=0) - found) * ((units - 1) / units)
        cubes += (pull**3).sum(axis=0)
        squares += (pull**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, cubes / (6 * squares**1.5), 0.0)
