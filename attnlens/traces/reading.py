"""Reading traces back: a lazy dataset of the finished items, and their token-level detail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName, listing
from attnlens.traces.schema import ITEM_COORDINATES, VARIABLES, validate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BLOCK_BYTES", "open_details", "open_traces"]

BLOCK_BYTES = 64 * 2**20
"""How much of its widest variable a task or a block of a large store holds."""


def open_traces(
    path: str | Path,
    *,
    items: Literal["finished", "all"] = "finished",
    lazy: Literal["auto", "dask", "zarr"] = "auto",
) -> xr.Dataset:
    """Open a store as a dataset that satisfies the schema; nothing but coordinates is read before it is asked for.

    Every chunk is checked against its checksum when it is read, and a damaged one refused.

    Parameters
    ----------
    items
        ``finished`` leaves out what was planned but is not there yet. ``all`` keeps every planned item and adds the
        coordinate ``finished``; values of unfinished items are NaN, or -1 for whole numbers. Either way the attributes
        ``items``, ``items_finished`` and ``items_planned`` say what is shown.
    lazy
        ``dask`` returns chunked arrays whose reductions need little memory, ``zarr`` arrays that are read whole when
        computed with (see :func:`attnlens.traces.blocks.by_blocks`); ``auto`` is dask where it is installed.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = tempfile.mkdtemp() + "/traces.zarr"
    >>> _ = save(trace(items=3), path)
    >>> found = open_traces(path)
    >>> found.attrs["items"], found.attrs["items_finished"], float(found.mass.sum("source").max().round(3))
    ('finished', 3, 1.0)
    """
    import attnlens.traces.accessor  # noqa: F401 - opened datasets have `.attnlens`
    from attnlens.traces.marks import read_marks
    from attnlens.traces.store import ABOUT, about
    from attnlens.traces.store import lazy as read

    for name, value, allowed in (("items", items, ("finished", "all")), ("lazy", lazy, ("auto", "dask", "zarr"))):
        if value not in allowed:
            raise UnknownName.among(f"{name} option", value, allowed)
    path = Path(path)
    dataset = read(path)
    said = about(dataset.attrs, path)
    done = read_marks(path, dataset.sizes["item"], said["region"]) > 0
    dataset.attrs = {name: value for name, value in dataset.attrs.items() if name != ABOUT} | {
        "spec_hash": said["spec_hash"],
        "precision": said["precision"],
        "items": items,
        "items_finished": int(done.sum()),
        "items_planned": len(done),
    }
    dataset = dataset.assign_coords({name: ("item", _plain(dataset[name].values)) for name in ITEM_COORDINATES})
    dataset = dataset.assign_coords({name: _plain(dataset[name].values) for name in dataset.dims})
    # The shapes are checked now, the values by `attnlens traces validate`: they may be larger than memory.
    validate(dataset.isel(item=slice(0)), where=str(path), damaged=True)
    if lazy != "zarr":
        dataset = _chunked(dataset, said["region"], lazy)
    if items == "all":
        return dataset.assign_coords(finished=("item", done))
    return dataset if done.all() else dataset.isel(item=np.flatnonzero(done))


def open_details(path: str | Path, items: Sequence[str] | None = None) -> xr.DataTree:
    """Open the token-level detail of finished items as a tree with one group per item, read when asked for.

    ``items`` are ids; by default all that were chosen when the store was planned and are finished.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = tempfile.mkdtemp() + "/traces.zarr"
    >>> _ = save(trace(items=2), path)
    >>> len(open_details(path))
    0
    """
    import xarray as xr

    from attnlens.traces.store import lazy_detail
    from attnlens.traces.writing import TraceStore

    store = TraceStore.open(path)
    done = set(store.finished())
    there = [name for name in store.layout.detail if name in done]
    absent = [name for name in items or () if name not in there]
    if absent:
        raise BadInput(
            f"there is no token-level detail of {listing(absent)}",
            present=listing(there) or "no item of this store has any",
            fix="choose items for detail before the run; it cannot be derived afterwards",
        )
    chosen = there if items is None else items
    return xr.DataTree(
        dataset=xr.Dataset(attrs=dict(store.layout.attrs)),
        children={name: xr.DataTree(lazy_detail(store.path, name)) for name in chosen},
    )


def _chunked(dataset: xr.Dataset, region: int, lazy: str) -> xr.Dataset:
    try:
        import dask.array  # noqa: F401
    except ImportError:
        if lazy == "auto":
            return dataset
        raise BadInput("dask is not installed", fix="install attnlens[dask], or pass lazy='zarr'") from None
    present = [dataset[name] for name in VARIABLES if name in dataset]
    widest = max(one.dtype.itemsize * int(np.prod(one.shape[1:])) for one in present)
    # Whole regions, so that no chunk is read by two tasks, and enough of them that tasks are few.
    size = region * max(BLOCK_BYTES // (widest * region), 1)
    return dataset.assign({str(one.name): one.variable.chunk({"item": size}) for one in present})


def _plain(values: np.ndarray) -> np.ndarray:
    # zarr's strings come back as a type that few libraries know.
    return np.asarray(values.tolist(), dtype=str) if values.dtype.kind in "TO" else values
