from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import BadInput, UnknownName
from attnlens.testing import trace
from attnlens.traces.controls import by_control, control_name


def run(**controls: int) -> xr.Dataset:
    parts = [trace(items=4, seed=0)]
    for place, (name, items) in enumerate(controls.items()):
        made = trace(items=items, seed=place + 1)
        parts.append(made.assign_coords(control=("item", [f"{name}@0"] * items)))
    return xr.concat(parts, "item", coords="minimal", compat="override")


def test_each_clean_item_stands_beside_its_controlled_ones() -> None:
    ds = run(mismatched=4, silenced=2).isel(item=[3, 1, 7, 0, 2, 5, 4, 6, 9, 8])
    found = by_control(ds)
    assert found.sizes["control"] == 3
    assert found["utterance"].values.tolist() == ["u3", "u1", "u0", "u2"]
    for control in ("mismatched", "silenced"):
        for place, utterance in enumerate(found["utterance"].values.tolist()):
            here = (ds["utterance"] == utterance) & (ds["control"] == f"{control}@0")
            got = float(found["nll"].sel(control=control)[place])
            if here.any():
                assert got == float(ds["nll"].values[here.values][0])
            else:
                assert np.isnan(got)
    assert found["mass"].dims == ("control", "item", "layer", "head", "query", "source")


def test_unpaired_items_are_refused_or_counted() -> None:
    ds = run(mismatched=4).isel(item=[0, 1, 2, 4, 5, 6, 7])
    with pytest.raises(BadInput, match="1 controlled items have no clean partner"):
        by_control(ds)
    assert by_control(ds, on_unpaired="drop").attrs["unpaired"] == 1
    with pytest.raises(BadInput, match="no clean item"):
        by_control(ds.isel(item=[3, 4]))
    with pytest.raises(BadInput, match="run twice"):
        by_control(run(mismatched=4).isel(item=[0, 4, 4]))
    with pytest.raises(UnknownName):
        by_control(ds, on_unpaired="skip")  # type: ignore[arg-type]


def test_names_keep_options_and_lose_seeds() -> None:
    assert control_name("none") == "none"
    assert control_name("gold-inserted@3:slot=1,what=pair") == "gold-inserted:slot=1,what=pair"
