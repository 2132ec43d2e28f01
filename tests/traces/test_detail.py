"""Token-level detail of chosen items stands beside the masses, and nothing of it is lost or made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, DamagedStore
from attnlens.testing import trace
from attnlens.traces.check import check_store
from attnlens.traces.detail import DETAIL, validate_detail
from attnlens.traces.export import export_netcdf
from attnlens.traces.layout import Layout
from attnlens.traces.merge import merge
from attnlens.traces.reading import open_details, open_traces
from attnlens.traces.writing import TraceStore


def detail(seed: int = 0, *, tokens: int = 5, keys: int = 9) -> xr.Dataset:
    generator = np.random.default_rng(seed)
    seconds = np.full(keys, np.nan, dtype=np.float32)
    seconds[2:5] = [0.0, 0.04, 0.08]
    return xr.Dataset(
        {
            "token_mass": (
                ("layer", "head", "token", "source"),
                np.float32(generator.dirichlet(np.ones(len(SOURCES)), (2, 3, tokens))),
            ),
            "received": (("layer", "head", "key"), np.float32(generator.dirichlet(np.ones(keys), (2, 3)))),
            "token_text": ("token", [f"ñ{index}" for index in range(tokens)]),
            "key_text": ("key", ["<s>", "", "<|audio|>", "<|audio|>", "<|audio|>", *"kamis"[: keys - 5]]),
            "key_label": ("key", ["sink", "task", *["demo_audio 1"] * 3, *["output"] * (keys - 5)]),
            "seconds": ("key", seconds),
        },
        coords={"layer": [0, 1], "head": [0, 1, 2], "source": list(SOURCES)},
    )


def store_with(path: Path, made: xr.Dataset) -> TraceStore:
    return TraceStore.create(path, Layout.like(made, spec_hash="6f1d", detail=["item-2", "item-0"]))


def test_detail_comes_back_as_a_tree(tmp_path: Path) -> None:
    made = trace(items=3)
    store = store_with(tmp_path / "a.zarr", made)
    assert dict(open_details(store.path)) == {}
    details = {"item-0": detail(0), "item-2": detail(2, tokens=3, keys=7)}
    store.write(made, items=store.layout.ids, details=details)
    tree = open_details(store.path)
    assert list(tree.children) == ["item-2", "item-0"]
    for name, one in details.items():
        xr.testing.assert_equal(tree[name].to_dataset().load(), one)
    assert tree.attrs["model"] == "synthetic"
    assert list(open_details(store.path, ["item-0"]).children) == ["item-0"]
    with pytest.raises(BadInput, match="no token-level detail of item-1"):
        open_details(store.path, ["item-1"])
    assert open_traces(store.path).sizes["item"] == 3
    assert check_store(store.path).sound


def test_detail_is_due_for_exactly_the_chosen_items(tmp_path: Path) -> None:
    made = trace(items=3)
    store = store_with(tmp_path / "a.zarr", made)
    with pytest.raises(BadInput, match="exactly the items"):
        store.write(made.isel(item=[0]), items=["item-0"])
    with pytest.raises(BadInput, match="exactly the items"):
        store.write(made.isel(item=[1]), items=["item-1"], details={"item-1": detail()})
    with pytest.raises(BadInput, match="the detail of item 'item-0' cannot be stored"):
        store.write(made.isel(item=[0]), items=["item-0"], details={"item-0": detail().drop_vars("token_text")})
    assert store.finished() == ()


def test_lost_detail_makes_the_item_due_again(tmp_path: Path) -> None:
    made = trace(items=3)
    store = store_with(tmp_path / "a.zarr", made)
    details = {"item-0": detail(0), "item-2": detail(2)}
    store.write(made, items=store.layout.ids, details=details)
    (store.path / "detail" / "item-2" / "received" / "c.0.0.0").unlink()
    chunk = store.path / "detail" / "item-0" / "key_text" / "c.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    damaged = check_store(store.path).damaged
    assert sorted(damaged) == ["item-0", "item-2"]
    with pytest.raises(DamagedStore, match=r"detail/item-2/received/c.0.0.0 is missing"):
        open_details(store.path)["item-2"].to_dataset().load()
    store.redo(damaged)
    del details["item-2"]
    details["item-0"] = detail(0).drop_vars(["received", "key_text", "key_label", "seconds"])
    store.write(made.isel(item=[0]), items=["item-0"], details=details)
    assert list(open_details(store.path)["item-0"].data_vars) == ["token_mass", "token_text"]
    assert store.unfinished() == ("item-2",)
    assert check_store(store.path).sound


def test_detail_is_merged_and_exported(tmp_path: Path) -> None:
    made = trace(items=3)
    stores = [store_with(tmp_path / f"{name}.zarr", made) for name in "ab"]
    for store, row in zip(stores, (0, 2), strict=True):
        name = f"item-{row}"
        store.write(made.isel(item=[row]), items=[name], details={name: detail(row)})
    merged = merge([store.path for store in stores], tmp_path / "all.zarr")
    for row in (0, 2):
        xr.testing.assert_equal(open_details(merged.path)[f"item-{row}"].to_dataset().load(), detail(row))
    written = export_netcdf(merged.path, tmp_path / "all.nc")
    with xr.open_dataset(written, group="detail/item-2", engine="h5netcdf") as found:
        xr.testing.assert_equal(found.load(), detail(2))


SPOILT: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "nothing measured": (
        lambda ds: ds.drop_vars(["token_mass", "received"]),
        "none of received, token_mass, weights is there",
    ),
    "no strings": (lambda ds: ds.drop_vars("key_text"), "no 'key_text' says what the keys are"),
    "unknown": (lambda ds: ds.assign(extra=ds.seconds), "unknown variable 'extra'"),
    "wrong dims": (lambda ds: ds.assign(received=ds.received.transpose("head", ...)), "received has dims"),
    "wrong type": (lambda ds: ds.assign(key_text=ds.seconds), "key_text is of type float32"),
    "not whole": (lambda ds: ds.assign(token_mass=ds.token_mass * 0.9), "do not sum to 1"),
    "sources renamed": (lambda ds: ds.assign_coords(source=list("abcdefghij")), "not those of the schema"),
    "no layers": (lambda ds: ds.drop_vars("layer"), "no coordinate 'layer'"),
    "empty": (lambda ds: ds.isel(token=slice(0)), "'token' is empty"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_faulty_detail_is_refused(case: str) -> None:
    spoil, said = SPOILT[case]
    with pytest.raises(BadInput, match=said):
        validate_detail(spoil(detail()), item="item-0")


def test_the_page_lists_every_variable() -> None:
    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")
    for name, spec in DETAIL.items():
        assert f"| `{name}` | {', '.join(spec.dims)} | {spec.meaning} |" in page
