"""Two settings of a control are two controls in every figure; seeds of one are one."""

from __future__ import annotations

from typing import Any

import pytest
import xarray as xr

from attnlens.plots.cause import control_comparison
from attnlens.plots.curves import shots_curve
from attnlens.plots.layers import modality_bias
from attnlens.plots.maps import layer_demo
from attnlens.testing import trace

SETTINGS = ("none", "gold-inserted@0:slot=3,what=audio", "gold-inserted@0:slot=3,what=text")


@pytest.fixture(scope="module")
def run() -> xr.Dataset:
    made = []
    for seed in (0, 1):
        for place, control in enumerate(SETTINGS):
            part = trace(items=6, demos=3, seed=place + 10 * seed)
            named = [control.replace("@0", f"@{seed}")] * 6
            seeds = [seed] * 6
            ids = [f"{control}-{seed}-{item}" for item in range(6)]
            made.append(part.assign_coords(control=("item", named), seed=("item", seeds), item=ids))
    return xr.concat(made, "item", coords="minimal", compat="override")


def test_lines(run: xr.Dataset) -> None:
    axes: Any = modality_bias(run).axes[0]
    labels = {line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert labels == {
        "as it is",
        "control: gold-inserted:slot=3,what=audio",
        "control: gold-inserted:slot=3,what=text",
    }


def test_panels(run: xr.Dataset) -> None:
    figure: Any = layer_demo(run, panels="control")
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["as it is", "gold-inserted\nslot=3,what=audio", "gold-inserted\nslot=3,what=text"]


def test_curves_and_differences(run: xr.Dataset) -> None:
    names = {"gold-inserted:slot=3,what=audio", "gold-inserted:slot=3,what=text"}
    assert set(shots_curve(run, metric="bits-per-character").data["control"]) == {"none", *names}
    assert set(control_comparison(run, metric="nll").data["control"]) == names


def test_many_controls_have_colours_of_their_own(run: xr.Dataset) -> None:
    many = [run.isel(item=slice(6))]
    for slot in range(5):
        ids = [f"slot-{slot}-{item}" for item in range(6)]
        named = ("item", [f"gold-inserted@0:slot={slot}"] * 6)
        many.append(trace(items=6, demos=3, seed=slot).assign_coords(control=named, item=ids))
    axes: Any = modality_bias(xr.concat(many, "item", coords="minimal", compat="override")).axes[0]
    lines = [line for line in axes.lines if str(line.get_label()).startswith("control")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 5
