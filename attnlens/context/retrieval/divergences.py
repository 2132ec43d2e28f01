"""Divergences of many pairs at once: scores are minus the divergence in nats, never above 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VARIANCE_FLOOR", "DiscreteKL", "GaussianKL", "JensenShannon", "softmax"]

VARIANCE_FLOOR = 1e-4
"""Least variance of a dimension: a clip of one frame, or of digital silence, has none."""

SLICE = 64
"""Queries [1] against pool items [SLICE] at a time where no matrix product does it: the temporaries fit in a cache."""


def softmax(states: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Make each row [items, dimensions] a distribution.

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    power = np.exp(states - states.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(power / power.sum(axis=1, keepdims=True))


class DiscreteKL:
    """D(p || q) = sum p ln(p / q) of distributions p [queries, outcomes] and q [pool, outcomes].

    >>> half = np.array([[0.5, 0.5]])
    >>> DiscreteKL(half, half).block(slice(0, 1), slice(0, 1)).tolist()
    [[0.0]]
    """

    def __init__(self, queries: NDArray[np.float64], pool: NDArray[np.float64]) -> None:
        self.shape = (len(queries), len(pool))
        self._queries = queries
        self._neg_entropy = (queries * _log(queries)).sum(axis=1)
        self._log_pool = _log(pool)

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return minus the divergences at ``rows`` x ``columns``."""
        cross = self._queries[rows] @ self._log_pool[columns].T
        return _at_most_zero(cross - self._neg_entropy[rows, None])


class JensenShannon:
    """The mean of D(p || m) and D(q || m), m being the mean of p and q: symmetric, at most ln 2."""

    def __init__(self, queries: NDArray[np.float64], pool: NDArray[np.float64]) -> None:
        self.shape = (len(queries), len(pool))
        self._queries, self._pool = queries, pool
        self._query_entropy = -(queries * _log(queries)).sum(axis=1)
        self._pool_entropy = -(pool * _log(pool)).sum(axis=1)

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return minus the divergences at ``rows`` x ``columns``."""
        pool = self._pool[columns]
        mixed = np.empty((len(self._queries[rows]), len(pool)))
        for row, query in enumerate(self._queries[rows]):
            for begin in range(0, len(pool), SLICE):
                middle = (query + pool[begin : begin + SLICE]) / 2
                mixed[row, begin : begin + SLICE] = -np.einsum("pd,pd->p", middle, _log(middle))
        apart = (self._query_entropy[rows, None] + self._pool_entropy[None, columns]) / 2
        return _at_most_zero(apart - mixed)


class GaussianKL:
    """D(P || Q) of Gaussians with diagonal covariance, each row being means then variances [items, 2 x dimensions]."""

    def __init__(self, queries: NDArray[np.float64], pool: NDArray[np.float64]) -> None:
        self.shape = (len(queries), len(pool))
        size = queries.shape[1] // 2
        # The divergence does not change with the origin; a near one keeps the difference of squares below exact.
        origin = pool[:, :size].mean(axis=0)
        means, variances = queries[:, :size] - origin, np.maximum(queries[:, size:], VARIANCE_FLOOR)
        pool_means, pool_variances = pool[:, :size] - origin, np.maximum(pool[:, size:], VARIANCE_FLOOR)
        # 2 D = sum ln(w/v) + (v + (m - n)^2) / w - 1, with means m, n and variances v, w, as one matrix product.
        self._queries = np.hstack([variances + means**2, -2 * means])
        self._pool = np.hstack([1 / pool_variances, pool_means / pool_variances])
        self._query_part = -np.log(variances).sum(axis=1) - size
        self._pool_part = (np.log(pool_variances) + pool_means**2 / pool_variances).sum(axis=1)

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return minus the divergences at ``rows`` x ``columns``."""
        twice = self._queries[rows] @ self._pool[columns].T
        twice += self._query_part[rows, None] + self._pool_part[None, columns]
        return _at_most_zero(-twice / 2)


def _at_most_zero(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    # No divergence is negative; one of 0 may come out a rounding error away.
    return np.minimum(scores, 0, out=scores)


def _log(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    # An outcome that softmax rounded to zero: finite, so that 0 ln 0 is 0, and so low that no ranking notices.
    return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
