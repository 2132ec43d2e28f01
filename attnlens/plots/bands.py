"""Means over utterances with their intervals, as figures draw them: estimate, low and high of every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.stats.bootstrap import bootstrap

__all__ = ["LEVEL", "Band", "band"]

LEVEL = 0.95
FEWEST = 4
"""With fewer units a 95 % bootstrap interval would just be the most extreme ones; it is refused, and none is drawn."""
RESAMPLES = 2_000
"""Enough for a band whose ends are read off a figure; tables are made with more."""


@dataclass(frozen=True, eq=False)
class Band:
    """Estimates [cells] with their ends [cells], NaN where there are too few units, and what a caption must say."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    units: int
    notes: tuple[str, ...] = field(default=())

    @property
    def has_interval(self) -> bool:
        """Whether there is any interval to draw."""
        return bool(np.isfinite(self.low).any())


def band(
    values: Any, utterances: Sequence[Any], *, minus: Any = None, per: Any = None, what: str = "values", seed: int = 0
) -> Band:
    """Average items [items, cells] and put a percentile interval over utterances on every cell.

    Items of one utterance (its shots, its seeds) are drawn together. Undefined items (NaN) are left out cell by cell,
    and a note says how many; infinite ones are refused, since a mean with them says nothing.

    >>> made = band([[0.1], [0.3], [0.2], [0.4], [float("nan")]], list("abcde"))
    >>> float(made.estimate[0].round(2)), made.units, made.notes
    (0.25, 4, ('4 of 5 items have a value',))
    """
    data = np.asarray(values, dtype=np.float64)
    data = data if minus is None else data - np.asarray(minus, dtype=np.float64)
    data = data[:, None] if data.ndim == 1 else data
    weights = None if per is None else np.asarray(per, dtype=np.float64)
    if np.isinf(data).any():
        raise BadInput(
            f"{what} are infinite for {int(np.isinf(data).any(1).sum())} of {len(data)} items, so they have no mean",
            fix="average the heads before the view (heads='before'), or take another view",
        )
    there = np.isfinite(data)
    if not there.any():
        raise BadInput(
            f"{what} are undefined for every one of {len(data)} items",
            fix="compare items with demonstrations of both modalities, or take another view",
        )
    names = np.asarray([str(one) for one in utterances])
    low, estimate, high = (np.full(data.shape[1], np.nan) for _ in range(3))
    units = len(set(names[there.any(1)].tolist()))
    for pattern in np.unique(there, axis=1).T:
        cells = (there == pattern[:, None]).all(0)
        if not pattern.any():
            continue
        part, owners = data[pattern][:, cells], names[pattern]
        share = None if weights is None else weights[pattern]
        if len(set(owners.tolist())) < FEWEST:
            estimate[cells] = part.mean(0) if share is None else part.sum(0) / share.sum()
            continue
        # Clusters of one item each would only add a note, and names as clusters cost a little time.
        clusters = None if len(set(owners.tolist())) == len(owners) else owners.tolist()
        found = bootstrap(part, per=share, clusters=clusters, method="percentile", resamples=RESAMPLES, seed=seed)
        estimate[cells], low[cells], high[cells] = found.estimate, found.low, found.high
    return Band(estimate, low, high, units, tuple(_notes(there, low)))


def _notes(there: NDArray[np.bool_], low: NDArray[np.float64]) -> list[str]:
    notes = []
    counts = there.sum(0)
    if counts.min() < len(there):
        some = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        notes.append(f"{some} of {len(there)} items have a value")
    if np.isnan(low).any():
        notes.append(f"no interval where fewer than {FEWEST} utterances are")
    return notes
