"""Parts of a run become one store, equal to the one that a single machine would have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from attnlens.errors import BadInput, DamagedStore
from attnlens.testing import trace
from attnlens.traces.layout import Layout
from attnlens.traces.merge import merge
from attnlens.traces.reading import open_traces
from attnlens.traces.writing import TraceStore, save


def part(made: xr.Dataset, path: Path, rows: list[int], **changes: Any) -> TraceStore:
    """A store of the whole plan in which some items are finished."""
    store = TraceStore.create(path, Layout.like(made, **({"spec_hash": "6f1d"} | changes)))
    store.write(made.isel(item=rows), items=[store.layout.ids[row] for row in rows])
    return store


def test_parts_of_one_plan_become_the_whole(tmp_path: Path) -> None:
    made = trace(items=6)
    stores = [part(made, tmp_path / f"{n}.zarr", rows, region=n + 1) for n, rows in enumerate([[0, 3], [3, 4, 5], [1]])]
    merged = merge([store.path for store in stores], tmp_path / "all.zarr")
    assert merged.unfinished() == ("item-2",)
    xr.testing.assert_equal(open_traces(merged.path, lazy="zarr").load(), made.isel(item=[0, 1, 3, 4, 5]))
    merged.write(made.isel(item=[2]), items=["item-2"])
    alone = save(made, tmp_path / "alone.zarr", spec_hash="6f1d")
    for one in alone.path.rglob("*"):
        if one.is_file():
            assert (merged.path / one.relative_to(alone.path)).read_bytes() == one.read_bytes()


def test_divided_plans_are_joined_in_order(tmp_path: Path) -> None:
    made = trace(items=5)
    paths = [save(made.isel(item=rows), tmp_path / f"{rows[0]}.zarr").path for rows in ([2, 3], [0, 2], [1, 4])]
    merged = merge(paths, tmp_path / "all.zarr")
    assert merged.layout.ids == ("item-2", "item-3", "item-0", "item-1", "item-4")
    xr.testing.assert_equal(open_traces(merged.path, lazy="zarr").load(), made.isel(item=[2, 3, 0, 1, 4]))


def test_differing_duplicates_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = part(trace(items=3), tmp_path / "one.zarr", [0, 1])
    two = part(trace(items=3, seed=1), tmp_path / "two.zarr", [1, 2])
    with pytest.raises(BadInput, match=r"item 'item-1' has other values in .*two.zarr than in .*one.zarr"):
        merge([one.path, two.path], tmp_path / "all.zarr")
    assert not (tmp_path / "all.zarr").exists()
    two.redo(["item-1"])
    assert merge([one.path, two.path], tmp_path / "all.zarr").unfinished() == ()


def test_only_stores_of_one_spec_are_merged(tmp_path: Path) -> None:
    made = trace(items=2)
    first = part(made, tmp_path / "first.zarr", [0])
    others = {
        "spec_hash": part(made, tmp_path / "a.zarr", [1], spec_hash="ffff"),
        "precision": part(made, tmp_path / "b.zarr", [1], precision="float16"),
        "model": part(made.assign_attrs(model="other"), tmp_path / "c.zarr", [1]),
        "chosen for token-level detail": TraceStore.create(
            tmp_path / "f.zarr", Layout.like(made, spec_hash="6f1d", detail=["item-1"])
        ),
        "measures": part(made.drop_vars("entropy"), tmp_path / "d.zarr", [1]),
        "is not the same in all": part(made.assign_coords(seed=("item", [0, 9])), tmp_path / "e.zarr", [1]),
    }
    for said, other in others.items():
        with pytest.raises(BadInput, match=said):
            merge([first.path, other.path], tmp_path / "all.zarr")
    with pytest.raises(BadInput, match="there is something at"):
        merge([first.path], first.path)
    with pytest.raises(BadInput, match="no store to merge"):
        merge([], tmp_path / "all.zarr")
    assert not (tmp_path / "all.zarr").exists()


def test_damage_is_not_passed_on(tmp_path: Path) -> None:
    made = trace(items=3)
    store = save(made, tmp_path / "a.zarr", region=1)
    other = (store.path / "mass" / "c.1.0.0.0.0").read_bytes()
    (store.path / "mass" / "c.2.0.0.0.0").write_bytes(other)
    with pytest.raises(DamagedStore, match="not those that were measured: item-2"):
        merge([store.path], tmp_path / "all.zarr")
