"""Which items are computed side by side: items of one region of the store, the same ones in every attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from attnlens.run.item import Item

if TYPE_CHECKING:
    from attnlens.run.bench import Facts
    from attnlens.run.plan import Plan
    from attnlens.traces.layout import Layout

__all__ = ["MOST_BYTES", "Batch", "by_region", "layout_of", "middles", "planned_batches", "strata"]

REGION = 8
STRATA = 5
WORTH_TIMING = 8
MOST_BYTES = 4 * 2**30
"""What the keys and values of a batch may take: 8,000 positions of a model of 7 billion with as many key heads as query
heads, 40,000 of one of 30 billion with four."""


@dataclass(frozen=True)
class Batch:
    """Items whose answers are written together; those in ``due`` are kept.

    Who stands beside an item is part of how its answer is computed, so that an item that is done again is done in the
    same company.
    """

    items: tuple[Item, ...]
    due: frozenset[str]

    @property
    def positions(self) -> int:
        """How many positions its prompts and references have."""
        return sum(item.positions for item in self.items)

    @property
    def wanted(self) -> tuple[Item, ...]:
        """The items that are due, in order."""
        return tuple(item for item in self.items if item.id in self.due)


def by_region(
    items: Sequence[Item], due: Collection[str], layout: Layout, *, size: int, cache: int = 0
) -> Iterator[list[Batch]]:
    """Yield the batches of each region of a store that has anything due, in order.

    A region's items share files, so that processes with a region each never wait for each other, and a batch that was
    written is finished as a whole. Within a region items of similar length stand together, as many as are allowed and
    as fit: nothing of that depends on what is due or on the machine.

    Parameters
    ----------
    items
        All items of the plan.
    size
        The most that one batch holds.
    cache
        Bytes of keys and values per position: a batch holds at most :data:`MOST_BYTES` of them, padding included.
    """
    rows = dict(zip((item.id for item in items), layout.rows([item.id for item in items]), strict=True))
    wanted = frozenset(due)
    for _, region in groupby(items, key=lambda item: rows[item.id] // layout.region_size):
        together = _similar(list(region), size=size, most=MOST_BYTES // cache if cache else None)
        found = [Batch(batch, here) for batch in together if (here := wanted & {item.id for item in batch})]
        if found:
            yield found


def _similar(items: Sequence[Item], *, size: int, most: int | None) -> list[tuple[Item, ...]]:
    """Divide items into as few batches as ``size`` and ``most`` padded positions allow, each of neighbours in length.

    Batches and what is in them keep the order of the plan, in which prompts that begin alike follow each other.
    """
    order = {item.id: place for place, item in enumerate(items)}
    groups: list[list[Item]] = []
    for item in sorted(items, key=lambda item: -item.positions):
        longest = groups[-1][0].positions if groups else 0
        fits = groups and len(groups[-1]) < size and (most is None or (len(groups[-1]) + 1) * longest <= most)
        groups[-1].append(item) if fits else groups.append([item])
    ordered = [tuple(sorted(group, key=lambda item: order[item.id])) for group in groups]
    return sorted(ordered, key=lambda group: order[group[0].id])


def layout_of(plan: Plan, facts: Facts) -> Layout:
    """Return the store that a plan fills."""
    from attnlens.traces.layout import Layout

    columns = [item.coordinates() for item in plan.items]
    layout = Layout(
        items={name: [one[name] for one in columns] for name in columns[0]},
        layers=facts.layers,
        heads=facts.heads,
        demos=plan.demos,
        longest=max(item.positions for item in plan.items),
        attrs=facts.attrs,
        spec_hash=plan.spec.hash,
        measures=plan.spec.tracing.measures,
        precision=plan.spec.tracing.precision,
    )
    # Items are computed and written several at once; regions that hold as many make that one file per variable.
    together = 1 << max(min(max(REGION, plan.spec.decoding.batch), len(plan.items) // REGION), 1).bit_length() - 1
    return layout if layout.region_size >= together else replace(layout, region=together)


def planned_batches(plan: Plan, facts: Facts, due: Sequence[Item]) -> list[list[Batch]]:
    """Return the batches of a plan that have anything due, by region."""
    ids = [item.id for item in due]
    return list(by_region(plan.items, ids, layout_of(plan, facts), size=plan.spec.decoding.batch, cache=facts.cache))


def middles(tasks: Sequence[Sequence[Batch]]) -> list[Batch]:
    """Return the batch in the middle of each stratum: what it takes can stand for what the others take."""
    return [part[len(part) // 2] for part in strata(tasks)]


def strata(tasks: Sequence[Sequence[Batch]]) -> list[list[Batch]]:
    """Divide the batches of all regions by how much there is to read into up to five equal parts.

    Of fewer than eight batches none is made: they are done as soon as timed.
    """
    ordered = sorted([batch for task in tasks for batch in task], key=lambda batch: batch.positions)
    count = min(STRATA, len(ordered) // 4) if len(ordered) >= WORTH_TIMING else 0
    return [ordered[part * len(ordered) // count : (part + 1) * len(ordered) // count] for part in range(count)]
