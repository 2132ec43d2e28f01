"""What is resampled or flipped as one: an item, or a cluster of items that share a speaker or a recording."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, listing
from attnlens.stats.inputs import counted

__all__ = ["Units"]


@dataclass(frozen=True, eq=False)
class Units:
    """Say which items belong together; without clusters every item is its own unit.

    >>> units = Units.of(["anna", "anna", "ben"], items=3)
    >>> units.sums(np.array([[1.0], [2.0], [5.0]])).tolist()
    [[3.0], [5.0]]
    >>> str(units)
    '3 items in 2 clusters'
    """

    codes: NDArray[np.intp]
    """Unit of each item [items]."""
    count: int
    clustered: bool

    @classmethod
    def of(cls, clusters: Iterable[Hashable] | None, *, items: int, name: str = "clusters") -> Units:
        """Read one label per item; None means that items are independent."""
        if clusters is None:
            return cls(np.arange(items), items, clustered=False)
        labels = list(clusters)
        if len(labels) != items:
            raise BadInput(
                f"{name} needs one label per item", given=f"{len(labels):,} labels", present=counted(items, "item")
            )
        nameless = [place for place, label in enumerate(labels) if _missing(label)]
        if nameless:
            raise BadInput(
                f"{counted(len(nameless), 'item')} without a cluster",
                given=f"items {listing(nameless, at_most=6)}",
                fix="name the speaker or recording of every item, or give each nameless item a label of its own",
            )
        order: dict[Hashable, int] = {}
        codes = [order.setdefault(_plain(label), len(order)) for label in labels]
        return cls(np.asarray(codes, dtype=np.intp), len(order), clustered=True)

    @property
    def items(self) -> int:
        """How many items there are in all."""
        return len(self.codes)

    @property
    def noun(self) -> str:
        """What one unit is called."""
        return "cluster" if self.clustered else "item"

    def sums(self, values: NDArray[np.float64], *, axis: int = 0) -> NDArray[np.float64]:
        """Add up the items of each unit along ``axis``."""
        if not self.clustered:
            return values
        order = np.argsort(self.codes, kind="stable")
        starts = np.searchsorted(self.codes[order], np.arange(self.count))
        return np.add.reduceat(np.take(values, order, axis=axis), starts, axis=axis)

    def members(self, counts: NDArray[Any]) -> NDArray[np.intp]:
        """Return the items of a resample, in order, for how often each unit was drawn [units]."""
        return np.repeat(np.arange(self.items), counts[self.codes].astype(np.intp))

    def require(self, needed: int, why: str) -> None:
        """Refuse fewer units than ``needed``, saying both numbers."""
        if self.count < needed:
            raise BadInput(
                f"{counted(self.count, self.noun)} {'is' if self.count == 1 else 'are'} too few for {why}",
                given=str(self),
                present=f"at least {counted(needed, self.noun)} needed",
                fix=f"add {counted(needed - self.count, self.noun)}, or report the values without it",
            )

    def notes(self) -> list[str]:
        """Say what a reader should know about the clusters."""
        if self.clustered and self.count == self.items:
            return ["every cluster holds one item, so clustering changes nothing"]
        return []

    def __str__(self) -> str:
        inside = f" in {counted(self.count, 'cluster')}" if self.clustered else ""
        return counted(self.items, "item") + inside


def _missing(label: Hashable) -> bool:
    return label is None or (isinstance(label, float | np.floating) and math.isnan(label))


def _plain(label: Hashable) -> Hashable:
    # 0-d numpy values and their Python twins must be one label; str and np.str_ already are.
    return label.item() if isinstance(label, np.generic) else label
