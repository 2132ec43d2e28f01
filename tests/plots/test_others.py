"""Compositions, positions, curves, causes and clips: what is drawn equals what was given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.cause import control_comparison, knockout_grid, mass_against_effect
from attnlens.plots.clip import clip_attention, token_sources
from attnlens.plots.composition import demo_position, source_composition
from attnlens.plots.curves import cumulative_ablation, oracle_curve, shots_curve
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.rank import rank_correlation
from attnlens.testing import clip, trace


def shown(figure: Figure) -> Any:
    """Return a figure's axes; matplotlib's types say too little about what is in them."""
    return figure.axes


def test_areas_are_the_shares_and_add_up(run: xr.Dataset) -> None:
    figure = source_composition(run, condition="micl", shots=4)
    part = run.isel(item=np.flatnonzero((run.shots.values == 4) & (run.control.values == "none")))
    for name, drawn in figure.data.groupby("source"):
        expected = part.mass.sel(source=name, query="output").mean(("item", "head")).values
        np.testing.assert_allclose(drawn["share"], expected, atol=1e-6)
    top = shown(figure)[0].patches[-1].get_data()
    np.testing.assert_allclose(top.values, 1, atol=1e-5)
    without = source_composition(run, condition="micl", sink="left-out")
    assert "sink" not in set(without.data["source"])
    np.testing.assert_allclose(without.data.groupby("layer")["share"].sum(), 1, atol=1e-6)
    with pytest.raises(UnknownName, match="way with the sink"):
        source_composition(run, sink="hidden")  # type: ignore[arg-type]


def test_positions_are_shares_within_the_modality(run: xr.Dataset) -> None:
    figure = demo_position(run, thirds="none")
    assert len(figure.data) == 8
    assert np.allclose(figure.data.groupby("modality")["estimate"].sum(), 1)
    four = run.isel(item=np.flatnonzero((run.shots.values == 4) & (run.control.values == "none")))
    mass = four.demo_mass.sel(query="output", modality="text").mean(("layer", "head")).values
    expected = (mass / mass.sum(1, keepdims=True)).mean(0)
    lines = {line.get_label(): line for line in shown(figure)[0].lines}
    np.testing.assert_allclose(lines["text"].get_ydata(), expected, atol=1e-6)
    assert len([axes for axes in shown(demo_position(run)) if axes.lines]) == 3
    with pytest.raises(BadInput, match="no item has demonstrations"):
        demo_position(run.isel(item=np.flatnonzero(run.condition.values == "asr")))


def test_shots_curves_are_ratios_of_sums(run: xr.Dataset) -> None:
    figure = shots_curve(run, metric="perplexity")
    cell = run.isel(item=np.flatnonzero((run.shots.values == 4) & (run.control.values == "none")))
    row = figure.data.query("condition == 'micl' and shots == 4 and control == 'none'").iloc[0]
    assert row["estimate"] == pytest.approx(math.exp(float(cell.nll.sum()) / float(cell.n_output_tokens.sum())))
    drawn = {line.get_label(): line for line in shown(figure)[0].lines}
    assert row["estimate"] == pytest.approx(drawn["micl"].get_ydata()[-1])
    assert drawn["micl, control: mismatched-pairs"].get_linestyle() == "--"
    assert shown(figure)[0].get_ylabel() == "perplexity per token"
    bits = shots_curve(run).data.query("condition == 'micl' and shots == 4 and control == 'none'").iloc[0]
    assert bits["estimate"] == pytest.approx(float(cell.nll.sum()) / math.log(2) / float(cell.n_chars.sum()))


def test_error_rates_come_from_a_table(run: xr.Dataset) -> None:
    table: dict[str, Any] = {
        "condition": ["asr", "micl"],
        "shots": [0, 4],
        "metric": ["wer"] * 2,
        "estimate": [1.0, 0.4],
    }
    figure = shots_curve(table, metric="wer")
    assert [line.get_ydata().tolist() for line in shown(figure)[0].lines] == [[1.0], [0.4]]
    assert [tick.get_text() for tick in shown(figure)[0].get_xticklabels()] == ["0", "4"]
    faults: list[tuple[dict[str, Any], str]] = [
        ({"estimate": [1.0, math.nan]}, "not finite"),
        ({"estimate": ["a", "b"]}, "no numbers"),
        ({"metric": ["cer"] * 2}, "no rows of the metric 'wer'"),
    ]
    for change, complaint in faults:
        with pytest.raises(BadInput, match=complaint):
            shots_curve(table | change, metric="wer")
    with pytest.raises(BadInput, match="does not hold word error rates"):
        shots_curve(run, metric="wer")
    with pytest.raises(BadInput, match="needs the columns shots, metric"):
        shots_curve({"condition": ["asr"], "estimate": [1.0]}, metric="wer")
    with pytest.raises(UnknownName, match="metric"):
        shots_curve(run, metric="bleu")  # type: ignore[arg-type]


def test_oracle_and_ablation_curves(run: xr.Dataset) -> None:
    table = {"system": ["oracle"] * 2 + ["random"] * 2, "n": [10, 1, 1, 10], "estimate": [0.2, 0.4, 0.4, 0.41]}
    lines = shown(oracle_curve(table))[0].lines
    assert [line.get_label() for line in lines] == ["oracle", "random"]
    assert lines[0].get_ydata().tolist() == [0.4, 0.2]
    heads = {"ranking": ["mass"] * 2, "heads": [0, 8], "estimate": [0.0, 1.0], "low": [0, 0.5], "high": [0, 1.5]}
    figure = cumulative_ablation(heads)
    assert shown(figure)[0].lines[0].get_ydata().tolist() == [0.0, 1.0]
    assert "95 % intervals" in figure.caption
    for draw in (oracle_curve, cumulative_ablation):
        with pytest.raises(BadInput, match="needs the column"):
            draw({})


def test_knockout_grid_prints_its_cells() -> None:
    table = {
        "edge": ["output -> demo_text", "output -> demo_text", "output -> demo_audio"],
        "window": ["0-3", "4-7", "0-3"],
        "estimate": [0.1, 1.2, -0.3],
        "low": [-0.1, 0.9, -0.5],
        "high": [0.2, 1.5, -0.1],
    }
    figure = knockout_grid(table)
    image = shown(figure)[0].images[0].get_array()
    assert image.filled(np.nan)[0].tolist() == [0.1, 1.2]
    assert image.mask.tolist() == [[False, False], [False, True]]
    texts = {text.get_text(): text.get_color() for text in shown(figure)[0].texts}
    assert set(texts) == {"0.10", "1.20", "-0.30"}
    assert texts["0.10"] != texts["-0.30"], "what may be nothing is grey"
    assert "hatched" in figure.caption.lower()
    with pytest.raises(BadInput, match="given twice"):
        knockout_grid({"edge": ["a", "a"], "window": ["0", "0"], "estimate": [1.0, 2.0]})
    with pytest.raises(BadInput, match="has no rows"):
        knockout_grid({"edge": [], "window": [], "estimate": []})


def test_mass_against_effect_draws_every_head() -> None:
    generator = np.random.default_rng(0)
    mass = xr.DataArray(generator.gamma(1, size=(6, 3, 4)), dims=("item", "layer", "head"))
    effect = mass + 0.1
    figure = mass_against_effect(mass, effect, name=2)
    points = shown(figure)[0].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], mass.mean("item").values.ravel())
    np.testing.assert_allclose(points[:, 1], effect.mean("item").values.ravel())
    found = rank_correlation(mass.values, effect.values, resamples=2_000, draws=1_999)
    assert f"rho = {found.rho:.2f}" in shown(figure)[0].get_title("left")
    assert len(shown(figure)[0].texts) == 2
    with pytest.raises(BadInput, match="no map over layers and heads"):
        mass_against_effect(mass, effect.isel(item=0))
    with pytest.raises(BadInput, match="different heads"):
        mass_against_effect(mass.isel(item=0), effect.isel(item=0, head=slice(2)))


def test_control_comparison_is_paired(run: xr.Dataset) -> None:
    figure = control_comparison(run)
    cells = {
        control: run.isel(item=[n for n, one in enumerate(run.control.values) if one.startswith(control)])
        for control in ("none", "mismatched-pairs")
    }
    four = {name: one.isel(item=np.flatnonzero(one.shots.values == 4)) for name, one in cells.items()}
    found = bootstrap(four["mismatched-pairs"].nll.values, minus=four["none"].nll.values, per=np.full(6, 12))
    row = figure.data.query("shots == 4").iloc[0]
    assert row[["estimate", "low", "high"]].tolist() == pytest.approx([found.estimate, found.low, found.high], rel=1e-5)
    assert [tick.get_text() for tick in shown(figure)[0].get_yticklabels()] == ["mismatched-pairs"]
    assert len(control_comparison(run, metric="bias").data) == 2
    with pytest.raises(BadInput, match="controls and clean items are both due"):
        control_comparison(trace())


def test_clip_attention_draws_the_weights(detail: xr.Dataset) -> None:
    figure = clip_attention(detail, clip(seconds=1.5), layer=1, head=[0, 2])
    wave, mel, received, tokens = shown(figure)[:4]
    target = np.flatnonzero(detail.key_label.values == "target_audio")
    expected = detail.weights.sel(layer=1, head=[0, 2]).mean("head").isel(key=target).values
    np.testing.assert_allclose(tokens.collections[0].get_array().reshape(4, 6), 100 * expected, rtol=1e-5)
    np.testing.assert_allclose(received.patches[0].get_data().values, 100 * expected.mean(0), rtol=1e-5)
    assert [tick.get_text() for tick in tokens.get_yticklabels()] == ["<b>", "של", "漢", "$x$"]
    assert wave.get_xlim() == mel.get_xlim() == (0, 1.5)
    assert "layer 1, mean of heads 0, 2" in figure.caption
    assert len(clip_attention(detail, clip(seconds=1.0), clip="demo_audio 1").data) == 20
    only_received = detail.drop_vars(["weights", "token_mass"])
    assert clip_attention(only_received, clip(seconds=1.5)).data["token"].unique().tolist() == ["all tokens"]


def test_a_wrong_clip_layer_or_detail_is_refused(detail: xr.Dataset) -> None:
    with pytest.raises(BadInput, match="not the clip that was traced"):
        clip_attention(detail, clip(seconds=9.0))
    with pytest.raises(UnknownName, match="unknown clip 'demo_audio 7'"):
        clip_attention(detail, clip(seconds=1.5), clip="demo_audio 7")
    with pytest.raises(BadInput, match="no layer 9"):
        clip_attention(detail, clip(seconds=1.5), layer=9)
    with pytest.raises(BadInput, match="no masses per token"):
        token_sources(detail.drop_vars("token_mass"))
    silent = detail.assign(seconds=("key", np.full(detail.sizes["key"], np.nan, dtype=np.float32)))
    with pytest.raises(BadInput, match="has a time"):
        clip_attention(silent, clip(seconds=1.5))


def test_token_sources_are_the_detail(detail: xr.Dataset) -> None:
    figure = token_sources(detail, layer=0)
    expected = detail.token_mass.sel(layer=0).mean("head").sel(source="demo_text").values
    drawn = figure.data.query("source == 'demo_text'")["share"]
    np.testing.assert_allclose(drawn, expected, rtol=1e-5)
    assert [tick.get_text() for tick in shown(figure)[0].get_xticklabels()][3] == "$x$"
