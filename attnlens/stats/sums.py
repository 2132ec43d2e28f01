"""Means, paired differences and ratios of sums as one thing: a numerator and a weight per unit, for every cell."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted, finite, paired
from attnlens.stats.units import Units

__all__ = ["Sums"]

ROUNDING = 16 * np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class Sums:
    """Checked data whose statistic is sum(values - minus) / sum(per), with ``per`` 1 for a mean.

    ``leading`` is 1 for [items, ...] and 2 for [seeds, items, ...]; units run along the items.

    >>> sums = Sums.of([3, 0, 1], minus=[1, 0, 0], per=[10, 4, 6])
    >>> sums.name, float(sums.estimate()[0])
    ('difference of ratios of sums', 0.15)
    """

    values: NDArray[Any]
    minus: NDArray[Any] | None
    per: NDArray[Any] | None
    units: Units
    leading: int

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        *,
        minus: ArrayLike | None = None,
        per: ArrayLike | None = None,
        clusters: Iterable[Hashable] | None = None,
        leading: int = 1,
    ) -> Sums:
        """Check everything before anything is computed."""
        array = finite(values, "values", axes=leading)
        other = None if minus is None else paired(array, minus, "minus", axes=leading)
        units = Units.of(clusters, items=array.shape[leading - 1])
        return cls(array, other, None if per is None else _weights(array, per, leading), units, leading)

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes of the cells."""
        return self.values.shape[self.leading :]

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def seeds(self) -> int | None:
        """How many seeds there are, if there is an axis of them."""
        return self.values.shape[0] if self.leading > 1 else None

    @property
    def name(self) -> str:
        """What the statistic is called."""
        kind = "mean" if self.per is None else "ratio of sums"
        if self.minus is None:
            return kind
        return "mean difference" if self.per is None else "difference of ratios of sums"

    def numerators(self, cells: slice = slice(None)) -> NDArray[np.float64]:
        """Return the sum of values - minus of each unit, [(seeds,) units, cells]."""
        found = self._flat(self.values, cells)
        if self.minus is not None:
            other = self._flat(self.minus, cells)
            difference = found - other
            # Pairs that are equal up to rounding are equal: their sign would be noise, and signs are what is tested.
            difference[np.abs(difference) <= ROUNDING * np.maximum(np.abs(found), np.abs(other))] = 0.0
            found = difference
        return self.units.sums(found, axis=self.leading - 1)

    def weights(self, cells: slice = slice(None)) -> NDArray[np.float64]:
        """Return the sum of ``per`` (or the number of items) of each unit, [(seeds,) units, 1 or cells]."""
        if self.per is None:
            ones = np.ones((*self.values.shape[: self.leading], 1))
            return self.units.sums(ones, axis=self.leading - 1)
        narrow = self.per.ndim == self.leading
        found = self.per[..., None].astype(np.float64) if narrow else self._flat(self.per, cells)
        return self.units.sums(found, axis=self.leading - 1)

    def residuals(self, cells: slice = slice(None)) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return numerators less estimate x weights, and the estimates [cells].

        A resample's statistic is the estimate plus sum(residuals) / sum(weights): the same number, but it keeps its
        digits for data far from zero, and constant data give exactly nothing.
        """
        numerators, weights = self.numerators(cells), self.weights(cells)
        axes = tuple(range(self.leading))
        estimate = numerators.sum(axis=axes) / weights.sum(axis=axes)
        residuals = numerators - estimate * weights
        largest = np.abs(numerators).max(axis=axes)
        return np.where(np.abs(residuals) <= ROUNDING * largest, 0.0, residuals), estimate

    def estimate(self, cells: slice = slice(None)) -> NDArray[np.float64]:
        """Return the statistic of the data themselves [cells]."""
        return self.residuals(cells)[1]

    def _flat(self, array: NDArray[Any], cells: slice) -> NDArray[np.float64]:
        flat = array.reshape(*array.shape[: self.leading], self.cells)
        return flat[..., cells].astype(np.float64)


def _weights(values: NDArray[Any], per: ArrayLike, leading: int) -> NDArray[Any]:
    weights = finite(per, "per", axes=1)
    if leading > 1 and weights.ndim == 1 and weights.shape[0] == values.shape[leading - 1]:
        # Reference words do not depend on the seed.
        weights = np.broadcast_to(weights, values.shape[:leading])
    if weights.shape not in (values.shape[:leading], values.shape):
        raise BadInput(
            "per needs one number for each item, or for each value",
            given=f"per of shape {weights.shape}",
            present=f"values of shape {values.shape}",
        )
    negative = int((weights < 0).sum())
    if negative:
        raise BadInput(f"per holds {counted(negative, 'negative number')}", fix="pass counts of words, tokens, ...")
    if (weights.sum(axis=tuple(range(leading))) == 0).any():
        raise BadInput("per sums to zero, so there is nothing to divide by", fix="leave such cells out")
    return weights
