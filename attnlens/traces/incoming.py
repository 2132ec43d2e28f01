"""What arrives at a store is checked against its layout and turned into the arrays that are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, listing
from attnlens.traces.layout import Layout
from attnlens.traces.schema import ATTRIBUTES, ITEM_COORDINATES, VARIABLES, validate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["fitted"]


def fitted(dataset: xr.Dataset, layout: Layout, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return a trace as arrays of the layout's types, [rows, ...] each, or say why it does not belong there.

    ``rows`` are the places of the dataset's items on the store's item axis. Nothing is dropped and nothing filled in,
    but for demonstrations that an item does not have.

    >>> from attnlens.testing import trace
    >>> made = trace(items=2)
    >>> fitted(made, Layout.like(made, spec_hash="6f1d"), [0, 1])["nll"].dtype
    dtype('float32')
    """
    if len(rows) != dataset.sizes.get("item"):
        raise BadInput("one id per item is due", given=f"{len(rows)} ids", present=f"{dataset.sizes.get('item')} items")
    validate(dataset)
    faults = [*_labels(dataset, layout), *_items(dataset, layout, rows), *_made(dataset, layout)]
    if faults:
        raise BadInput(
            f"the trace does not belong into this store: {faults[0]}",
            given=listing(faults[1:], at_most=6) or None,
            fix="write each trace into the store of its own plan, and lay the store out as the traces are made",
        )
    return {name: _stored(dataset, name, layout) for name in layout.places}


def _labels(dataset: xr.Dataset, layout: Layout) -> list[str]:
    faults = []
    for dim, wanted in {"layer": layout.layers, "head": layout.heads, "query": layout.queries}.items():
        found = tuple(dataset[dim].values.tolist())
        if found != wanted:
            faults.append(f"its {dim}s are {listing(found, at_most=6)}, not {listing(wanted, at_most=6)}")
    if dataset.sizes["demo"] > layout.demos:
        faults.append(f"it has {dataset.sizes['demo']} demonstrations, the store room for {layout.demos}")
    if layout.longest and dataset.sizes.get("position", 0) > layout.longest:
        faults.append(f"it has {dataset.sizes['position']} positions, the store room for {layout.longest}")
    missing = [name for name in layout.places if name not in dataset]
    more = [name for name in dataset.data_vars if name not in layout.places]
    faults += [f"{name} is missing" for name in missing]
    return faults + [f"the store has no place for {name}" for name in more]


def _items(dataset: xr.Dataset, layout: Layout, rows: Sequence[int]) -> list[str]:
    faults = []
    for name in ITEM_COORDINATES:
        for row, found in zip(rows, dataset[name].values.tolist(), strict=True):
            planned = layout.items[name][row]
            if found != planned:
                faults.append(f"item {layout.ids[row]!r} has {name} {found!r}, planned was {planned!r}")
    return faults


def _made(dataset: xr.Dataset, layout: Layout) -> list[str]:
    return [
        f"it was made with {name} {dataset.attrs[name]!r}, the store with {layout.attrs[name]!r}"
        for name in ATTRIBUTES
        if dataset.attrs[name] != layout.attrs[name]
    ]


def _stored(dataset: xr.Dataset, name: str, layout: Layout) -> NDArray[Any]:
    place = layout.places[name]
    given = dataset[name].values
    stored = given.astype(place.dtype)
    if stored.dtype.kind == "i" and not np.array_equal(stored, given):
        raise BadInput(f"{name} holds numbers beyond 32 bits", given=np.abs(given).max(), present=place.dtype)
    room = {"demo": layout.demos, "position": layout.longest}
    widths = [(0, room[dim] - dataset.sizes[dim] if dim in room else 0) for dim in VARIABLES[name].dims]
    if any(after for _, after in widths):
        # The schema's words for a demonstration that an item does not have.
        nothing: float = {"demo_tokens": 0, "demo_start": -1}.get(name, np.nan)
        stored = np.pad(stored, widths, constant_values=nothing)
    return np.ascontiguousarray(stored)
