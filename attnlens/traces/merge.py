"""One store out of several: parts of a run that were measured on different machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput, listing
from attnlens.traces.layout import Layout
from attnlens.traces.marks import read_marks
from attnlens.traces.schema import ITEM_COORDINATES
from attnlens.traces.store import lazy_detail
from attnlens.traces.writing import TraceStore

__all__ = ["merge"]


def merge(stores: Sequence[str | Path], out: str | Path) -> TraceStore:
    """Copy the finished items of several stores of one spec into a new store at ``out``, verifying each on the way.

    The parts may share a plan or divide it; the new store plans the union, in the order of first appearance. An item
    that is finished in several parts must have equal values in all of them: which of two results is the right one
    cannot be told here. Everything is compared before anything is written. Token-level detail is the first store's.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> folder = Path(tempfile.mkdtemp())
    >>> made = trace(items=4)
    >>> parts = [save(made.isel(item=part), folder / f"{part}.zarr").path for part in ([0, 1], [2, 3])]
    >>> len(merge(parts, folder / "all.zarr").finished())
    4
    """
    if not stores:
        raise BadInput("there is no store to merge", fix="pass the paths of stores of one spec")
    if Path(out).exists():
        raise BadInput(f"there is something at {out} already", fix="choose another path; nothing is overwritten")
    opened = [TraceStore.open(path) for path in stores]
    first = opened[0]
    for other in opened[1:]:
        differences = other.layout.differences(first.layout)
        if differences:
            raise BadInput(
                f"{other.path} is not of the same spec as {first.path}: {differences[0]}",
                given=listing(differences[1:], at_most=6) or None,
                fix="merge parts of one run, made with one spec, one model and one set of versions",
            )
    layout = _union(opened)
    _agree(opened)
    merged = TraceStore.create(out, layout)
    for store in opened:
        for region in range(len(store.layout.regions())):
            _copy(store, region, merged)
    return merged


def _union(stores: Sequence[TraceStore]) -> Layout:
    seen: dict[str, tuple[Any, ...]] = {}
    told: dict[str, bool] = {}
    for store in stores:
        names = ("item", *ITEM_COORDINATES)
        chosen = set(store.layout.detail)
        for values in zip(*(store.layout.items[name] for name in names), strict=True):
            if told.setdefault(values[0], values[0] in chosen) != (values[0] in chosen):
                raise BadInput(
                    f"item {values[0]!r} was chosen for token-level detail in some stores only",
                    fix="merge parts of one plan",
                )
            if seen.setdefault(values[0], values) != values:
                raise BadInput(
                    f"item {values[0]!r} is not the same in all stores",
                    given=listing(values[1:]),
                    present=listing(seen[values[0]][1:]),
                    fix="merge parts of one plan",
                )
    first = stores[0].layout
    columns = zip(*seen.values(), strict=True)
    return Layout(
        items=dict(zip(("item", *ITEM_COORDINATES), columns, strict=True)),
        layers=first.layers,
        heads=first.heads,
        queries=first.queries,
        demos=first.demos,
        longest=first.longest,
        attrs=first.attrs,
        spec_hash=first.spec_hash,
        measures=first.measures,
        precision=first.precision,
        detail=[name for name, chosen in told.items() if chosen],
    )


def _agree(stores: Sequence[TraceStore]) -> None:
    seen: dict[str, tuple[int, TraceStore]] = {}
    for store in stores:
        marks = read_marks(store.path, len(store.layout), store.layout.region_size)
        for name, mark in zip(store.layout.ids, marks.tolist(), strict=True):
            before, where = seen.setdefault(name, (mark, store)) if mark else (mark, store)
            if before != mark:
                raise BadInput(
                    f"item {name!r} has other values in {store.path} than in {where.path}",
                    fix="decide which one is right and redo() the item in the other store, or leave that store out",
                )


def _copy(store: TraceStore, region: int, merged: TraceStore) -> None:
    rows, arrays = store.load(region)
    if not rows:
        return
    ids = [store.layout.ids[row] for row in rows]
    chosen = set(merged.layout.detail) & set(ids)
    details = {name: lazy_detail(store.path, name).load() for name in chosen}
    merged.write(store.layout.dataset(arrays, rows), items=ids, details=details)
