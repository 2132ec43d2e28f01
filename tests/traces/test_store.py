"""What is written into a store is what is read from it, and what does not belong there is refused."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import AttnlensError, BadInput, DamagedStore, UnknownName
from attnlens.testing import trace
from attnlens.traces.check import check_store
from attnlens.traces.layout import Layout
from attnlens.traces.reading import open_traces
from attnlens.traces.writing import TraceStore, save


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def store_of(made: xr.Dataset, path: Path, **changes: Any) -> TraceStore:
    return TraceStore.create(path, Layout.like(made, spec_hash="6f1d", **changes))


def put(store: TraceStore, made: xr.Dataset, *names: str) -> tuple[str, ...]:
    return store.write(made.sel(item=list(names)), items=names)


@pytest.mark.parametrize("region", [1, 2, 3, 64])
def test_what_is_read_is_what_was_written_whatever_the_order(tmp_path: Path, region: int) -> None:
    made = trace(items=7)
    store = store_of(made, tmp_path / "a.zarr", region=region)
    order = ["item-5", "item-0", "item-6", "item-1", "item-4"]
    for names in (order[:2], order[2:]):
        assert put(store, made, *names) == tuple(names)
    assert store.finished() == tuple(sorted(order))
    assert store.unfinished() == ("item-2", "item-3")
    put(store, made, "item-3", "item-2")
    for found in (open_traces(store.path, lazy="zarr"), open_traces(store.path, lazy="dask")):
        xr.testing.assert_equal(found.load(), made)
        assert {name: found.attrs[name] for name in made.attrs} == made.attrs
        assert all(found[name].dtype == made[name].dtype for name in made.data_vars)
    at_once = save(made, tmp_path / "b.zarr", spec_hash="6f1d", region=region)
    assert files(store.path) == files(at_once.path)


def test_opening_reads_coordinates_only_and_says_what_is_shown(tmp_path: Path) -> None:
    made = trace(items=4)
    store = store_of(made, tmp_path / "a.zarr", region=1)
    put(store, made, "item-3", "item-1")
    (store.path / "mass" / "c.1.0.0.0.0").unlink()
    found = open_traces(store.path, lazy="zarr")
    assert found.item.values.tolist() == ["item-1", "item-3"]
    assert (found.attrs["items"], found.attrs["items_finished"], found.attrs["items_planned"]) == ("finished", 2, 4)
    assert found.attrs["spec_hash"] == "6f1d"
    np.testing.assert_array_equal(found.mass.sel(item="item-3"), made.mass.sel(item="item-3"))
    with pytest.raises(DamagedStore, match=r"mass/c.1.0.0.0.0 is missing"):
        found.mass.sel(item="item-1").compute()
    whole = open_traces(store.path, items="all")
    assert whole.finished.values.tolist() == [False, True, False, True]
    assert whole.attrs["items"] == "all"
    assert np.isnan(whole.mass.sel(item="item-0")).all()
    assert (whole.tokens.sel(item="item-2") == -1).all()
    assert whole.utterance.values.tolist() == made.utterance.values.tolist()
    assert list(found.data_vars) == list(made.data_vars)


def test_groupby_and_sel_do_what_a_reader_expects(tmp_path: Path) -> None:
    made = trace(items=4).assign_coords(condition=("item", ["icl", "micl", "icl", "micl"]))
    found = open_traces(save(made, tmp_path / "a.zarr").path)
    by = found.nll.compute().groupby("condition").mean()
    np.testing.assert_allclose(by.sel(condition="icl"), made.nll[::2].mean())
    assert found.mass.where(found.condition == "micl", drop=True).sizes["item"] == 2


def test_without_dask_arrays_are_read_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trace(items=3)
    store = save(made, tmp_path / "a.zarr")
    monkeypatch.setitem(sys.modules, "dask.array", None)
    found = open_traces(store.path)
    assert found.mass.chunks is None
    assert not found.mass.variable._in_memory
    xr.testing.assert_equal(found.load(), made)
    with pytest.raises(BadInput, match="dask is not installed"):
        open_traces(store.path, lazy="dask")
    with pytest.raises(UnknownName, match="did you mean 'zarr'"):
        open_traces(store.path, lazy="zar")  # type: ignore[arg-type]


def test_any_zarr_reader_opens_it(tmp_path: Path) -> None:
    made = trace(items=5)
    found = xr.open_zarr(save(made, tmp_path / "a.zarr", region=2).path, consolidated=False, chunks=None)
    for name in made.data_vars:
        np.testing.assert_array_equal(found[name], made[name])
    assert (found.digest > 0).all()


def test_half_precision_is_for_weights_and_is_recorded(tmp_path: Path) -> None:
    made = trace(items=3)
    found = open_traces(save(made, tmp_path / "a.zarr", precision="float16").path)
    assert found.attrs["precision"] == "float16"
    assert (found.mass.dtype, found.demo_mass.dtype) == (np.float16, np.float16)
    assert (found.entropy.dtype, found.nll.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(found.mass, made.mass, rtol=2**-10, atol=2**-24)
    assert check_store(tmp_path / "a.zarr").sound
    double = made.assign(mass=made.mass.astype(np.float64))
    assert open_traces(save(double, tmp_path / "b.zarr").path).mass.dtype == np.float32
    with pytest.raises(UnknownName, match="precision"):
        save(made, tmp_path / "c.zarr", precision="bfloat16")
    brain = made.assign(mass=made.mass.copy(data=np.zeros(made.mass.shape, dtype="V2")))
    with pytest.raises(BadInput, match="mass is of type"):
        save(brain, tmp_path / "d.zarr")


def test_absent_demonstrations_are_filled_as_the_schema_says(tmp_path: Path) -> None:
    made, few = trace(items=2, demos=3), trace(items=2, demos=1)
    layout = Layout.like(
        made, spec_hash="6f1d", items={n: few[n].values for n in ("item", *Layout.like(few, spec_hash="").items)}
    )
    store = TraceStore.create(tmp_path / "a.zarr", layout)
    store.write(few, items=["item-0", "item-1"])
    found = open_traces(store.path)
    xr.testing.assert_equal(found.isel(demo=[0]).load(), few)
    assert np.isnan(found.demo_mass.isel(demo=[1, 2])).all()
    assert (found.demo_tokens.isel(demo=[1, 2]) == 0).all()
    assert (found.demo_start.isel(demo=[1, 2]) == -1).all()
    with pytest.raises(BadInput, match="4 demonstrations, the store room for 3"):
        store.write(trace(items=2, demos=4), items=["item-0", "item-1"])


def test_an_item_belongs_to_the_first_that_finishes_it(tmp_path: Path) -> None:
    made, other = trace(items=3), trace(items=3, seed=1)
    store = store_of(made, tmp_path / "a.zarr", region=2)
    put(store, made, "item-1")
    before = files(store.path)
    assert put(store, made, "item-1") == ()
    assert files(store.path) == before
    with pytest.raises(BadInput, match="not overwritten with other values: item-1"):
        put(store, other, "item-0", "item-1")
    assert store.finished() == ("item-1",)
    kept = store.write(other, items=["item-0", "item-1", "item-2"], on_finished="keep")
    assert kept == ("item-0", "item-2")
    found = open_traces(store.path)
    np.testing.assert_array_equal(found.nll, [other.nll[0], made.nll[1], other.nll[2]])
    store.redo(["item-1"])
    assert store.unfinished() == ("item-1",)
    assert put(store, other, "item-1") == ("item-1",)
    xr.testing.assert_equal(open_traces(store.path, lazy="zarr").load(), other)


MISPLACED: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "another utterance": (lambda ds: ds.assign_coords(utterance=("item", ["u0", "x"])), "'item-1' has utterance 'x'"),
    "another seed": (lambda ds: ds.assign_coords(seed=("item", [0, 7])), "'item-1' has seed 7, planned was 0"),
    "another model": (lambda ds: ds.assign_attrs(model="other"), "made with model 'other', the store with 'synthetic'"),
    "other layers": (lambda ds: ds.assign_coords(layer=[0, 1, 9]), "layers are 0, 1, 9, not 0, 1, 2"),
    "a head less": (lambda ds: ds.isel(head=slice(3)), "heads are 0, 1, 2, not 0, 1, 2, 3"),
    "a measure less": (lambda ds: ds.drop_vars("entropy"), "entropy is missing"),
    "a measure more": (lambda ds: ds.assign(max=ds.entropy), "no place for max"),
    "no trace": (lambda ds: ds.assign(mass=ds.mass * 2), "do not sum to 1"),
    "too large": (lambda ds: ds.assign(n_chars=ds.n_chars.astype(np.int64) + 2**40), "beyond 32 bits"),
}


@pytest.mark.parametrize("case", MISPLACED)
def test_what_does_not_belong_is_refused(tmp_path: Path, case: str) -> None:
    change, said = MISPLACED[case]
    made = trace(items=2)
    store = store_of(made, tmp_path / "a.zarr")
    with pytest.raises(BadInput, match=said):
        store.write(change(made), items=["item-0", "item-1"])
    assert store.finished() == ()


def test_ids_are_checked(tmp_path: Path) -> None:
    made = trace(items=3)
    store = store_of(made, tmp_path / "a.zarr")
    with pytest.raises(UnknownName, match="did you mean 'item-1'"):
        store.write(made.isel(item=[1]), items=["itm-1"])
    with pytest.raises(BadInput, match="one id per item"):
        store.write(made, items=["item-1"])
    with pytest.raises(BadInput, match="given twice"):
        store.write(made.isel(item=[0, 0]), items=["item-0", "item-0"])
    columns = {name: made[name].values for name in Layout.like(made, spec_hash="").items}
    for ids, said in ((["a", "a", "b"], "distinct"), (["a", "b/c", "d"], "'b/c'"), (["a", "b"], "one value per item")):
        with pytest.raises(BadInput, match=said):
            Layout.like(made, spec_hash="", items=columns | {"item": ids})
    with pytest.raises(BadInput, match="without prompt"):
        Layout.like(made, spec_hash="", items={name: columns[name] for name in columns if name != "prompt"})


def test_layouts_refuse_what_cannot_be_kept() -> None:
    made = trace(items=2)
    for changes, said in (
        ({"attrs": made.attrs | {"path": Path("x")}}, "plain JSON"),
        ({"attrs": {"model": "x"}}, "without attnlens_version"),
        ({"measures": ["entropi"]}, "did you mean 'entropy'"),
        ({"detail": ["item-9"]}, "unknown item 'item-9'"),
        ({"region": 0}, "at least one item"),
    ):
        with pytest.raises(AttnlensError, match=said):
            Layout.like(made, spec_hash="", **changes)


def test_regions_follow_the_sizes() -> None:
    small, large = trace(items=128, layers=1, heads=1), trace(items=128, layers=24, heads=16, demos=8)
    assert Layout.like(small, spec_hash="").region == 2, "some regions for every worker of a small run"
    many = Layout.like(large, spec_hash="", items=dict.fromkeys(small.coords, ["x"] * 0) | _columns(50_000))
    assert many.region == 64
    wide = Layout.like(large, spec_hash="", layers=range(48), heads=range(32), items=_columns(50_000))
    assert wide.region == 16
    assert [name for ids in many.regions() for name in ids] == list(many.ids)


def _columns(count: int) -> dict[str, Any]:
    text = [str(index) for index in range(count)]
    names = ("item", "utterance", "condition", "control", "intervention", "prompt")
    return dict.fromkeys(names, text) | {"shots": [0] * count, "seed": [0] * count}


def test_a_plan_is_resumed_only_as_it_was(tmp_path: Path) -> None:
    made = trace(items=3)
    store = store_of(made, tmp_path / "a.zarr")
    assert TraceStore.open(store.path, expect=store.layout).layout.ids == store.layout.ids
    more = trace(items=4)
    renamed = made.assign_coords(prompt=("item", ["a", "b", "c"]))
    for other, changes, said in (
        (made, {"spec_hash": "ffff"}, "spec_hash"),
        (made, {"precision": "float16"}, "precision: 'float32', not 'float16'"),
        (made.assign_attrs(model="b"), {}, "model: 'synthetic', not 'b'"),
        (more, {}, "1 items have no place, such as item-3"),
        (made.isel(item=[0, 1]), {}, "1 items are not planned any more, such as item-2"),
        (renamed, {}, "prompt: the items"),
    ):
        with pytest.raises(DamagedStore, match="belongs to another plan") as refused:
            TraceStore.open(store.path, expect=Layout.like(other, **({"spec_hash": "6f1d"} | changes)))
        assert said in str(refused.value)


def test_stores_travel_to_workers(tmp_path: Path) -> None:
    made = trace(items=2)
    store = pickle.loads(pickle.dumps(store_of(made, tmp_path / "a.zarr")))
    put(store, made, "item-0")
    assert store.finished() == ("item-0",)
    assert "2 items planned" in repr(store)


def test_an_opened_trace_can_be_saved_again(tmp_path: Path) -> None:
    first = open_traces(save(trace(items=3), tmp_path / "a.zarr", spec_hash="aa").path)
    again = open_traces(save(first.isel(item=[2]), tmp_path / "b.zarr", spec_hash="bb").path)
    assert (again.attrs["spec_hash"], again.attrs["items_planned"]) == ("bb", 1)
    xr.testing.assert_equal(again.load(), first.isel(item=[2]).load())
