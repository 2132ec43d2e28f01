"""`attnlens traces`: what a store holds, whether it is sound, and what other programs get."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from attnlens.cli.main import run
from attnlens.testing import trace
from attnlens.traces.layout import Layout
from attnlens.traces.writing import TraceStore, save


def ended(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        run(arguments)
    return int(end.value.code or 0)


@pytest.fixture
def store(tmp_path: Path) -> TraceStore:
    made = trace(items=4).assign_coords(condition=("item", ["icl", "micl", "icl", "micl"]))
    store = TraceStore.create(tmp_path / "traces.zarr", Layout.like(made, spec_hash="6f1d", region=2))
    store.write(made.isel(item=[0, 1, 3]), items=["item-0", "item-1", "item-3"])
    return store


def test_info_says_what_is_there_and_how_it_was_made(store: TraceStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["traces", "info", str(store.path)]) == 0
    page = capsys.readouterr().out
    for part in [
        "3 of 4 items are finished; the run can be resumed",
        "spec_hash: 6f1d",
        "precision: float32",
        "layer 3",
    ]:
        assert part in page
    assert [line.split() for line in page.splitlines() if line.startswith("icl")] == [
        ["icl", "2", "none", "none", "1", "2"]
    ]
    assert ended(["traces", "info", str(store.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["attributes"]["items_planned"] == 4
    assert [row["finished"] for row in told["groups"]] == [1, 2]
    assert told["variables"]["mass"] == ["item", "layer", "head", "query", "source"]
    assert told["bytes"] > 1000


def test_validate_names_what_to_redo_and_redoes_it_when_asked(
    store: TraceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["traces", "validate", str(store.path)]) == 0
    assert "3 of 4 items are finished, and all of these are as they were measured" in capsys.readouterr().out
    os.truncate(store.path / "demo_mass" / "c.0.0.0.0.0.0", 20)
    assert ended(["traces", "validate", str(store.path)]) == 3
    page = capsys.readouterr().out
    assert "item-0: the chunk demo_mass/c.0.0.0.0.0.0 is cut off or altered" in page
    assert "item-3" not in page
    assert "--redo unmarks them" in page
    assert len(store.finished()) == 3, "nothing is changed without being asked"
    assert ended(["traces", "validate", str(store.path), "--redo", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["redo"] == ["item-0", "item-1"]
    assert (told["finished"], told["planned"], told["sound"]) == (3, 4, False)
    assert store.finished() == ("item-3",)
    assert ended(["traces", "validate", str(store.path)]) == 0


def test_export_writes_what_xarray_opens(store: TraceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "traces.nc"
    assert ended(["traces", "export", str(store.path), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found.item.values.tolist() == ["item-0", "item-1", "item-3"]
        np.testing.assert_allclose(found.mass.sum("source"), 1, rtol=1e-5)
    assert ended(["traces", "export", str(store.path), str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "validate", "export"])
def test_help_shows_an_example_and_a_wrong_path_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["traces", command, "--help"]) == 0
    assert "Example" in capsys.readouterr().out
    save(trace(items=1), tmp_path / "traces.zarr")
    more = [str(tmp_path / "out.nc")] if command == "export" else []
    assert ended(["traces", command, str(tmp_path / "trace.zarr"), *more]) == 2
    told = capsys.readouterr().err
    assert "there is no store at" in told
    assert "traces.zarr" in told
