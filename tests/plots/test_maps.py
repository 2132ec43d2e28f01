"""Colours of the heat maps are the numbers of the trace, at the place that the ticks say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.maps import layer_demo, layer_head, layer_source
from attnlens.testing import trace
from attnlens.traces.views import bias


def shown(figure: Figure) -> Any:
    """Return a figure's axes; matplotlib's types say too little about what is in them."""
    return figure.axes


def test_layer_head_shows_the_mean_over_items(run: xr.Dataset) -> None:
    figure = layer_head(run, what="mass", source="demo_audio")
    clean = run.isel(item=np.flatnonzero(run.control.values == "none"))
    expected = clean.mass.sel(source="demo_audio", query="output").mean("item").values
    np.testing.assert_allclose(shown(figure)[0].images[0].get_array(), expected, atol=1e-6)
    assert figure.data.shape == (24, 3)
    assert [tick.get_text() for tick in shown(figure)[0].get_yticklabels()] == list("012345")


def test_layer_head_of_a_view_is_centred_on_zero(run: xr.Dataset) -> None:
    image = shown(layer_head(run, what="bias"))[0].images[0]
    assert image.norm.vmin == -image.norm.vmax
    clean = run.isel(item=np.flatnonzero(run.control.values == "none"))
    np.testing.assert_allclose(image.get_array(), bias(clean).sel(query="output").mean("item").values, atol=1e-6)


def test_an_array_of_effects_is_drawn_and_undefined_heads_are_hatched() -> None:
    values = np.array([[0.1, np.nan], [-0.4, 0.2]])
    figure = layer_head(xr.DataArray(values, dims=("layer", "head"), coords={"layer": [3, 7]}), what="effect")
    image = shown(figure)[0].images[0].get_array()
    assert image.mask.tolist() == [[False, True], [False, False]]
    assert "1 cells are undefined" in figure.caption
    assert shown(figure)[0].patch.get_hatch()
    assert [tick.get_text() for tick in shown(figure)[0].get_yticklabels()] == ["3", "7"]


def test_layer_source_has_a_panel_for_each_condition(run: xr.Dataset) -> None:
    figure = layer_source(run)
    panels = [axes for axes in shown(figure) if axes.images]
    assert [axes.get_title() for axes in panels] == ["asr", "icl", "micl"]
    first = run.isel(item=np.flatnonzero((run.condition.values == "icl") & (run.control.values == "none")))
    names = [tick.get_text().replace(" ", "_") for tick in panels[1].get_xticklabels()]
    expected = first.mass.sel(query="output", source=names).mean(("item", "head")).values
    np.testing.assert_allclose(panels[1].images[0].get_array(), expected, atol=1e-6)
    assert "demo_audio" not in names, "a source that no item has is no column"


def test_layer_demo_shows_each_clip_and_text_in_order(run: xr.Dataset) -> None:
    figure = layer_demo(run, condition="micl")
    panels = [axes for axes in shown(figure) if axes.images]
    assert [axes.get_title() for axes in panels] == ["2 shots", "4 shots"]
    two = run.isel(item=np.flatnonzero((run.shots.values == 2) & (run.condition.values == "micl")))
    two = two.isel(item=np.flatnonzero(two.control.values == "none"))
    image = panels[0].images[0].get_array()
    expected = two.demo_mass.sel(query="output", demo=1, modality="text").mean(("item", "head")).values
    np.testing.assert_allclose(image[:, 3], expected, atol=1e-6)
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == ["A1", "T1", "A2", "T2", "A*"]
    per_token = shown(layer_demo(run, condition="micl", shots=2, per="token"))[0].images[0].get_array()
    assert per_token.max() < image.max()


def test_layer_demo_by_control_is_the_papers_second_figure(run: xr.Dataset) -> None:
    figure = layer_demo(run, condition="micl", shots=4, panels="control")
    assert [axes.get_title() for axes in shown(figure) if axes.images] == ["as it is", "mismatched-pairs"]


def test_large_maps_name_some_of_their_ticks() -> None:
    figure = layer_head(trace(items=2, layers=48, heads=32))
    ticks = [tick.get_text() for tick in shown(figure)[0].get_yticklabels()]
    assert ticks[:3] == ["0", "3", "6"]
    assert len(ticks) <= 16


@pytest.mark.parametrize("shape", [{"layers": 1}, {"heads": 1}, {"items": 1}])
def test_small_traces_are_drawn(shape: dict[str, Any]) -> None:
    made = trace(**{"items": 2, "layers": 2, "heads": 2} | shape)
    for figure in (layer_head(made), layer_source(made), layer_demo(made)):
        assert len(figure.data)


def test_what_cannot_be_drawn_is_refused(run: xr.Dataset) -> None:
    with pytest.raises(UnknownName, match="unknown source"):
        layer_head(run, source="demo_adio")
    with pytest.raises(BadInput, match="a value per layer and head"):
        layer_head(run.mass)
    with pytest.raises(BadInput, match="undefined everywhere"):
        layer_head(xr.DataArray(np.full((2, 2), np.nan), dims=("layer", "head")), what="effect")
    with pytest.raises(BadInput, match="has no sources"):
        layer_source(run, view="bias")
    with pytest.raises(BadInput, match="no item has demonstrations"):
        layer_demo(run, condition="asr")
    with pytest.raises(UnknownName, match="panels"):
        layer_demo(run, panels="rows")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unit"):
        layer_demo(run, per="word")  # type: ignore[arg-type]
