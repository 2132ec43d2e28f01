"""Working through a store larger than memory, some items at a time, without any cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from attnlens.errors import BadInput
from attnlens.traces.reading import BLOCK_BYTES
from attnlens.traces.schema import VARIABLES

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["block_items", "by_blocks"]

Reduced = TypeVar("Reduced", "xr.Dataset", "xr.DataArray")


def by_blocks(dataset: xr.Dataset, reduce: Callable[[xr.Dataset], Reduced], *, items: int | None = None) -> Reduced:
    """Apply ``reduce`` to blocks of items in turn and join the results along ``item``.

    Memory holds one block and the results, so ``reduce`` should take away dims other than ``item``, such as heads;
    ``item`` must stay, since what is said about items is said of each by itself.

    Parameters
    ----------
    items
        How many at a time; None keeps the widest variable of a block below 64 MiB.

    >>> from attnlens.testing import trace
    >>> from attnlens.traces.views import bias
    >>> by_blocks(trace(items=5), lambda part: bias(part).mean("head"), items=2).dims
    ('item', 'layer', 'query')
    """
    import xarray as xr

    count = dataset.sizes.get("item", 0)
    if not count:
        raise BadInput("there are no items to go through", present=f"dims {tuple(dataset.sizes)}")
    size = items or block_items(dataset)
    parts = []
    for start in range(0, count, size):
        part = reduce(dataset.isel(item=slice(start, start + size))).compute()
        if part.sizes.get("item") != min(size, count - start):
            raise BadInput(
                "a reduction by blocks keeps the items",
                given=f"a result with dims {dict(part.sizes)} of {min(size, count - start)} items",
                fix="reduce the other dims here, and items afterwards",
            )
        parts.append(part)
    return xr.concat(parts, "item", coords="minimal", compat="override", combine_attrs="override")


def block_items(dataset: xr.Dataset) -> int:
    """Return how many items keep the widest variable of a block below 64 MiB, in whole regions of a store.

    >>> from attnlens.testing import trace
    >>> block_items(trace(layers=48, heads=32, demos=1)) * 48 * 32 * 10 * 4 < 2**26
    True
    """
    present = [dataset[name] for name in VARIABLES if name in dataset and "item" in dataset[name].dims]
    widest = max((one.dtype.itemsize * one.size // one.sizes["item"] for one in present), default=1)
    region = next((one.encoding["chunks"][0] for one in present if one.encoding.get("chunks")), 1)
    return int(region) * max(BLOCK_BYTES // (max(widest, 1) * int(region)), 1)
