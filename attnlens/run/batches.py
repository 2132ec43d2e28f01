"""Which items are computed side by side: neighbours of one region of the store, the same ones in every attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from attnlens.run.item import Item
from attnlens.traces.layout import Layout

__all__ = ["Batch", "by_region"]


@dataclass(frozen=True)
class Batch:
    """Items whose answers are written together; those in ``due`` are kept.

    Who stands beside an item is part of how its answer is computed, so that an item that is done again is done in the
    same company.
    """

    items: tuple[Item, ...]
    due: frozenset[str]

    @property
    def wanted(self) -> tuple[Item, ...]:
        """The items that are due, in order."""
        return tuple(item for item in self.items if item.id in self.due)


def by_region(items: Sequence[Item], due: Collection[str], layout: Layout, *, size: int) -> Iterator[list[Batch]]:
    """Yield the batches of each region of a store that has anything due, in order.

    A region's items share files, so that processes with a region each never wait for each other, and a batch that was
    written is finished as a whole.

    Parameters
    ----------
    items
        All items of the plan.
    size
        The most that one batch holds.
    """
    rows = dict(zip((item.id for item in items), layout.rows([item.id for item in items]), strict=True))
    most = min(size, layout.region_size)
    wanted = frozenset(due)
    for _, region in groupby(items, key=lambda item: rows[item.id] // layout.region_size):
        together = [list(batch) for _, batch in groupby(region, key=lambda item: rows[item.id] // most)]
        found = [Batch(tuple(batch), here) for batch in together if (here := wanted & {item.id for item in batch})]
        if found:
            yield found
