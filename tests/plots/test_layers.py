"""What modality_bias draws is what the trace holds: lines, bands, labels, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.layers import modality_bias
from attnlens.testing import trace
from attnlens.traces.views import bias, log_ratio


def shown(figure: Figure) -> Any:
    """Return a figure's axes; matplotlib's types say too little about what is in them."""
    return figure.axes


def naive(dataset: xr.Dataset, view: Any, control: str) -> np.ndarray:
    """Average item by item in plain Python: heads first, then the view, then the items that have one."""
    curves = []
    for item in range(dataset.sizes["item"]):
        one = dataset.isel(item=[item])
        if not str(one.control.values[0]).startswith(control):
            continue
        mean = one.assign(mass=one.mass.mean("head"))
        values = view(mean).sel(query="output").values[0]
        if np.isfinite(values).all():
            curves.append(values)
    return np.mean(curves, axis=0)


@pytest.mark.parametrize(("name", "view"), [("bias", bias), ("log_ratio", log_ratio)])
def test_lines_are_the_means_of_the_trace(run: xr.Dataset, name: str, view: Any) -> None:
    figure = modality_bias(run, view=name)
    axes = shown(figure)[0]
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"as it is", "control: mismatched-pairs"}
    for label, control in (("as it is", "none"), ("control: mismatched-pairs", "mismatched-pairs")):
        assert lines[label].get_xdata().tolist() == run.layer.values.tolist()
        np.testing.assert_allclose(lines[label].get_ydata(), naive(run, view, control), atol=1e-6)
    assert lines["control: mismatched-pairs"].get_linestyle() == "--"
    assert name.replace("_", " ") in axes.get_ylabel()
    data = figure.data
    assert set(data["control"]) == {"none", "mismatched-pairs"}
    assert (data["low"] <= data["estimate"]).all()
    assert (data["estimate"] <= data["high"]).all()
    assert (data["n"] == 6).all()
    assert "12 items without" in figure.caption


def test_bands_are_drawn_between_the_ends(run: xr.Dataset) -> None:
    figure = modality_bias(run)
    band = np.asarray(shown(figure)[0].collections[0].get_paths()[0].vertices)
    clean = figure.data[figure.data["control"] == "none"]
    for layer, low, high in clean[["layer", "low", "high"]].to_numpy():
        at = band[np.isclose(band[:, 0], layer)][:, 1]
        assert np.isclose(at, low).any()
        assert np.isclose(at, high).any()


def test_a_line_for_each_number_of_shots(run: xr.Dataset) -> None:
    figure = modality_bias(run.isel(item=np.flatnonzero(run.control.values == "none")), by="shots")
    labels = shown(figure)[0].get_legend_handles_labels()[1]
    assert labels == ["2 shots", "4 shots"]
    assert set(figure.data["shots"]) == {2, 4}


def test_traces_lie_over_each_other_by_label(run: xr.Dataset) -> None:
    figure = modality_bias({"base": run, "xft": run.isel(layer=slice(3))}, size="column")
    assert set(figure.data["trace"]) == {"base", "xft"}
    labels = shown(figure)[0].get_legend_handles_labels()[1]
    assert "base" in labels
    assert "xft control: mismatched-pairs" in labels


def test_lines_are_of_the_same_shots(run: xr.Dataset) -> None:
    names = [str(one) for one in run.control.values]
    keep = [place for place, one in enumerate(names) if one == "none" or run.shots.values[place] == 4]
    figure = modality_bias(run.isel(item=keep))
    four = run.isel(item=[place for place in keep if run.shots.values[place] == 4])
    np.testing.assert_allclose(shown(figure)[0].lines[1].get_ydata(), naive(four, bias, "none"), atol=1e-6)
    assert "shots 4" in figure.caption
    assert "6 items of shots that not every line has" in figure.caption


def test_a_null_is_drawn_as_its_central_part(run: xr.Dataset) -> None:
    draws = np.random.default_rng(0).normal(size=(200, 6))
    null = xr.DataArray(draws, dims=("draw", "layer"), coords={"layer": np.arange(6)})
    figure = modality_bias(run, null=null)
    band = np.asarray(shown(figure)[0].collections[0].get_paths()[0].vertices)
    assert np.isclose(band[band[:, 0] == 0][:, 1].min(), np.quantile(draws[:, 0], 0.025))
    assert "null" in figure.caption
    with pytest.raises(BadInput, match="draws of every layer"):
        modality_bias(run, null=null.rename(draw="sample"))


@pytest.mark.parametrize("shape", [{"layers": 1}, {"heads": 1}, {"items": 1}, {"items": 3}, {"demos": 1}])
def test_small_traces_are_drawn(shape: dict[str, Any]) -> None:
    figure = modality_bias(trace(**{"items": 6, "layers": 3, "heads": 2, **shape}))
    assert len(figure.data) == shape.get("layers", 3)
    if shape.get("items", 6) < 4:
        assert figure.data["low"].isna().all()
        assert "no interval where fewer than 4 utterances" in figure.caption.lower()


def test_utterances_are_the_units(run: xr.Dataset) -> None:
    twice = xr.concat([run, run.assign_coords(seed=run.seed + 1)], "item")
    once, both = modality_bias(run).data, modality_bias(twice).data
    np.testing.assert_allclose(once["low"], both["low"], atol=1e-9)
    assert once["n"].tolist() == both["n"].tolist()


def test_missing_layers_of_some_items_are_said() -> None:
    made = trace(items=6, layers=3)
    mass = made.mass.values.copy()
    mass[0, 1] = np.nan
    figure = modality_bias(made.assign(mass=(made.mass.dims, mass)))
    assert "5 to 6 of 6 items have a value" in figure.caption
    assert figure.data["estimate"].notna().all()


def test_what_cannot_be_drawn_is_refused(run: xr.Dataset) -> None:
    asr = run.isel(item=np.flatnonzero(run.condition.values == "asr"))
    with pytest.raises(BadInput, match="none has demonstrations with audio and text"):
        modality_bias(asr)
    with pytest.raises(BadInput, match="has no item"):
        modality_bias(run.isel(item=slice(0)))
    with pytest.raises(BadInput, match="no xarray Dataset"):
        modality_bias({"a": run.mass})
    with pytest.raises(BadInput, match="no trace is given"):
        modality_bias({})
    with pytest.raises(UnknownName, match="unknown view or measure 'bais'"):
        modality_bias(run, view="bais")
    with pytest.raises(BadInput, match="is no preference"):
        modality_bias(run, view="raw")
    with pytest.raises(BadInput, match="no item has shots 99"):
        modality_bias(run, shots=99)
    with pytest.raises(UnknownName, match="grouping"):
        modality_bias(run, by="colour")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="figure size"):
        modality_bias(run, size="poster")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="order of averaging"):
        modality_bias(run, heads="never")  # type: ignore[arg-type]


def test_infinite_preferences_are_refused_with_the_way_out() -> None:
    made = trace(items=5)
    mass = made.mass.values.copy()
    mass[0, 0, 0, 0, 5] += mass[0, 0, 0, 0, 3]
    mass[0, 0, 0, 0, 3] = 0
    infinite = made.assign(mass=(made.mass.dims, mass))
    with pytest.raises(BadInput, match="infinite") as refused:
        modality_bias(infinite, view="log_ratio", heads="after")
    assert "before" in str(refused.value)
    assert np.isfinite(modality_bias(infinite, view="log_ratio").data["estimate"]).all()
