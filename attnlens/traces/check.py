"""Is every finished item of a store still what was measured? Reads all of it, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnlens.errors import AttnlensError, DamagedStore
from attnlens.traces.marks import read_mark
from attnlens.traces.schema import validate
from attnlens.traces.store import lazy_detail
from attnlens.traces.writing import TraceStore

__all__ = ["StoreReport", "check_store"]


@dataclass(frozen=True)
class StoreReport:
    """What was found in a store: how much is there, and what of it cannot be trusted, by item."""

    path: Path
    planned: int
    finished: int
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by item id; each of them is to be measured again."""

    @property
    def sound(self) -> bool:
        """Whether everything that calls itself finished is what was written."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        counts = {"path": str(self.path), "planned": self.planned, "finished": self.finished}
        return {**counts, "sound": self.sound, "damaged": dict(self.damaged)}


def check_store(path: str | Path, *, tick: Callable[[int, int], None] | None = None) -> StoreReport:
    """Read every finished item, compare it with its checksum and the schema, and name those that are not as they were.

    A store whose metadata cannot be read is refused with DamagedStore. ``tick`` is called with the regions done and in
    all.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = tempfile.mkdtemp() + "/traces.zarr"
    >>> check_store(save(trace(), path).path).sound
    True
    """
    store = TraceStore.open(path)
    damaged: dict[str, str] = {}
    finished = 0
    regions = store.layout.regions()
    for region, ids in enumerate(regions):
        try:
            marks = read_mark(store.path, region, store.layout.region_size)[: len(ids)]
        except DamagedStore as error:
            damaged |= dict.fromkeys(ids, error.message)
            continue
        done = [ids[place] for place in np.flatnonzero(marks)]
        finished += len(done)
        damaged |= _region(store, region, done)
        damaged |= {name: why for name in done if (why := _detail(store, name)) and name not in damaged}
        if tick is not None:
            tick(region + 1, len(regions))
    return StoreReport(store.path, len(store.layout), finished, damaged)


def _region(store: TraceStore, region: int, done: list[str]) -> dict[str, str]:
    if not done:
        return {}
    try:
        rows, arrays, altered = store.examine(region)
    except DamagedStore as error:
        # A chunk holds all items of its region: when it cannot be decoded, none of them can be trusted.
        return dict.fromkeys(done, error.message)
    if altered:
        return dict.fromkeys(altered, "stored values are not those that were measured")
    try:
        validate(store.layout.dataset(arrays, rows), where=f"region {region}")
    except AttnlensError as error:
        return dict.fromkeys(done, error.message)
    return {}


def _detail(store: TraceStore, name: str) -> str | None:
    if name not in store.layout.detail:
        return None
    try:
        lazy_detail(store.path, name).load()
    except AttnlensError as error:
        return error.message
    return None
