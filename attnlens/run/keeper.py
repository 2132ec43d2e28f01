"""Results on their way to disk: several at once, rows before traces, so that what is finished is whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.run.bench import Done
from attnlens.run.rows import append_rows
from attnlens.traces.writing import TraceStore

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Keeper", "joined"]

AT_ONCE = 8
SECONDS = 20.0
ABSENT = {"demo_mass": float("nan"), "demo_tokens": 0, "demo_start": -1, "received": float("nan")}
"""The schema's words for a demonstration or a position that an item does not have."""


class Keeper:
    """Collect results and write them together: syncing to disk costs as much for one item as for several.

    A process that is killed loses at most what is in hand, and that is computed again: what a region of the store
    holds, or eight items where that is less, or what was done in the last twenty seconds where items are slow.
    """

    def __init__(self, store: TraceStore, rows: Path) -> None:
        self.store = store
        self.rows = rows
        self._held: list[Done] = []
        self._since = time.monotonic()

    def keep(self, done: Sequence[Done]) -> None:
        """Take results; write all in hand once they fill a region or have waited for long."""
        self._held += done
        late = time.monotonic() - self._since > SECONDS
        if late or len(self._held) >= max(AT_ONCE, self.store.layout.region_size):
            self.flush()

    def flush(self) -> None:
        """Write what is in hand; on return it is durable."""
        held, self._held, self._since = self._held, [], time.monotonic()
        if not held:
            return
        # A trace that is marked as finished must have its row; a row without a trace is written again.
        append_rows(self.rows, [done.row for done in held])
        traced = [done for done in held if done.dataset is not None]
        if traced:
            dataset = joined([done.dataset for done in traced if done.dataset is not None])
            # Another worker may have been given the same item; the first to finish it wins, and both found the same.
            self.store.write(dataset, items=[done.item for done in traced], on_finished="keep")


def joined(datasets: list[xr.Dataset]) -> xr.Dataset:
    """Put traces of single items together, those with fewer demonstrations filled up as the schema says.

    >>> from attnlens.testing import trace
    >>> joined([trace(items=1, demos=1), trace(items=1, demos=3)]).sizes["demo"]
    3
    """
    import xarray as xr

    widened = datasets
    for dim in ("demo", "position"):
        if dim in datasets[0].sizes:
            longest = max(one.sizes[dim] for one in datasets)
            widened = [_widened(one, dim, longest) for one in widened]
    return xr.concat(widened, "item", coords="minimal", compat="override", combine_attrs="override", join="override")


def _widened(dataset: xr.Dataset, along: str, size: int) -> xr.Dataset:
    import numpy as np

    lacking = size - dataset.sizes[along]
    if not lacking:
        return dataset
    wider: dict[str, Any] = {}
    for name, variable in dataset.data_vars.items():
        if along in variable.dims:
            widths = [(0, lacking if dim == along else 0) for dim in variable.dims]
            wider[str(name)] = (variable.dims, np.pad(variable.values, widths, constant_values=ABSENT[str(name)]))
    return dataset.drop_dims(along).assign(wider).assign_coords({along: np.arange(size)})
