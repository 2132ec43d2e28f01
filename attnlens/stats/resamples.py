"""Draws with replacement as counts: how often each unit is in a resample, in blocks that bound the memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from attnlens.stats.inputs import generator, row_blocks

__all__ = ["draw_counts"]


def draw_counts(
    factors: tuple[int, ...], *, resamples: int, seed: int
) -> Iterator[tuple[slice, tuple[NDArray[np.float64], ...]]]:
    """Yield slices of resamples, each with one array of counts [rows, units] per factor.

    The draws depend on the seed only, not on how they are cut into blocks. With one factor they are those that
    ``scipy.stats.bootstrap(rng=seed)`` makes.

    >>> [(rows, items),] = draw_counts((4,), resamples=3, seed=0)
    >>> items[0].tolist(), float(items[0].sum(axis=1)[0])
    ([[0.0, 1.0, 2.0, 1.0], [3.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 2.0]], 4.0)
    """
    first = generator(seed)
    # A stream per factor: with one for all, the block size would decide which number serves which.
    generators = [first] if len(factors) == 1 else first.spawn(len(factors))
    for rows in row_blocks(resamples, max(factors)):
        size = rows.stop - rows.start
        yield rows, tuple(_counts(rng, size, units) for rng, units in zip(generators, factors, strict=True))


def _counts(rng: np.random.Generator, rows: int, units: int) -> NDArray[np.float64]:
    drawn = rng.integers(0, units, size=(rows, units))
    drawn += np.arange(rows)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
