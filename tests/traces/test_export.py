"""What other programs get is what is in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import BadInput
from attnlens.testing import trace
from attnlens.traces import export
from attnlens.traces.export import export_netcdf
from attnlens.traces.layout import Layout
from attnlens.traces.reading import open_traces
from attnlens.traces.schema import validate
from attnlens.traces.writing import TraceStore, save


@pytest.mark.parametrize("step", [3, 100])
def test_netcdf_holds_what_the_store_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    monkeypatch.setattr(export, "block_items", lambda _: step)
    made = trace(items=7).assign_coords(utterance=("item", [f"ñ-{index}" for index in range(7)]))
    made.attrs |= {"seeds": [0, 1], "flag": True, "nothing": None}
    store = save(made, tmp_path / "a.zarr", region=2)
    written = export_netcdf(store.path, tmp_path / "a.nc")
    with xr.open_dataset(written, engine="h5netcdf") as found:
        xr.testing.assert_equal(validate(found.load()), made)
        assert (found.attrs["seeds"], found.attrs["flag"], found.attrs["nothing"]) == ("[0, 1]", "true", "null")
        assert (found.attrs["items_finished"], found.attrs["model"]) == (7, "synthetic")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.nc", "a.zarr"]


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    store = save(trace(items=2), tmp_path / "a.zarr", precision="float16")
    with xr.open_dataset(export_netcdf(store.path, tmp_path / "a.nc"), engine="h5netcdf") as found:
        assert found.mass.dtype == np.float32
        np.testing.assert_array_equal(found.mass, open_traces(store.path).mass.astype(np.float32))


def test_unfinished_items_are_left_out_or_kept_as_asked(tmp_path: Path) -> None:
    made = trace(items=3)
    store = TraceStore.create(tmp_path / "a.zarr", Layout.like(made, spec_hash=""))
    with pytest.raises(BadInput, match=r"no item of .* is finished"):
        export_netcdf(store.path, tmp_path / "none.nc")
    store.write(made.isel(item=[1]), items=["item-1"])
    with xr.open_dataset(export_netcdf(store.path, tmp_path / "a.nc"), engine="h5netcdf") as found:
        assert found.item.values.tolist() == ["item-1"]
    with xr.open_dataset(export_netcdf(store.path, tmp_path / "b.nc", items="all"), engine="h5netcdf") as found:
        assert found.finished.values.tolist() == [False, True, False]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    store = save(trace(items=2), tmp_path / "a.zarr")
    (tmp_path / "there.nc").write_text("mine")
    with pytest.raises(BadInput, match="there is something at"):
        export_netcdf(store.path, tmp_path / "there.nc")
    with pytest.raises(BadInput, match="could not be written"):
        export_netcdf(store.path, tmp_path / "no" / "such" / "folder.nc")
    assert (tmp_path / "there.nc").read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr", "there.nc"]
