"""Each view is its formula, keeps the invariances that make it worth having, and is defined where a case is empty."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, UnknownName
from attnlens.testing import trace
from attnlens.traces.accessor import TraceAccessor
from attnlens.traces.blocks import by_blocks
from attnlens.traces.views import VIEWS, bias, density, log_ratio, raw, sinkless, view

FAST = settings(derandomize=True, max_examples=12, deadline=None)
SEEDS = st.integers(0, 10_000)


def made(seed: int) -> xr.Dataset:
    return trace(items=2, layers=2, heads=2, seed=seed)


def with_mass(dataset: xr.Dataset, **masses: float) -> xr.Dataset:
    """Set the masses of sources, what is left over going to the sink."""
    mass = xr.zeros_like(dataset.mass)
    for source, value in masses.items():
        mass.loc[{"source": source}] = value
    mass.loc[{"source": "sink"}] = 1 - sum(masses.values())
    return dataset.assign(mass=mass)


def even(dataset: xr.Dataset, rows: str) -> xr.Dataset:
    """Replace the masses by those of a head that gives every visible position the same, row by row."""
    mass = np.zeros(dataset.mass.shape, dtype=np.float64)
    for item in range(dataset.sizes["item"]):
        tokens = dataset.tokens.values[item]
        n = int(dataset.query_tokens.values[item, 0])
        before = int(dataset.positions.values[item]) - int(tokens[SOURCES.index("output")])
        for row in range(n):
            output = row + (rows == "reading")
            seen = np.where(np.array(SOURCES) == "output", output, tokens)
            mass[item] += seen / (before + output) / n
    return dataset.assign(mass=(dataset.mass.dims, mass)).assign_attrs(rows=rows)


@given(SEEDS)
@FAST
def test_raw_is_the_mass(seed: int) -> None:
    dataset = made(seed)
    np.testing.assert_array_equal(raw(dataset), dataset.mass)


@given(SEEDS)
@FAST
def test_sinkless_shares_what_falls_on_demonstrations(seed: int) -> None:
    dataset = made(seed)
    shares = sinkless(dataset)
    assert shares.source.values.tolist() == ["demo_audio", "demo_text"]
    np.testing.assert_allclose(shares.sum("source"), 1, rtol=1e-5)
    naive = dataset.mass.sel(source="demo_audio") / (
        dataset.mass.sel(source="demo_audio") + dataset.mass.sel(source="demo_text")
    )
    np.testing.assert_allclose(shares.sel(source="demo_audio"), naive, rtol=1e-5)


@given(SEEDS, st.sampled_from(["predicting", "reading"]))
@FAST
def test_a_head_that_spreads_evenly_has_density_one_and_no_preference(seed: int, rows: str) -> None:
    dataset = even(made(seed), rows)
    np.testing.assert_allclose(dataset.mass.sum("source"), 1)
    np.testing.assert_allclose(density(dataset), 1)
    np.testing.assert_allclose(log_ratio(dataset), 0, atol=1e-9)
    text, audio = (dataset.tokens.sel(source=f"demo_{one}", drop=True) for one in ("text", "audio"))
    np.testing.assert_allclose(bias(dataset), ((text - audio) / (text + audio)).broadcast_like(bias(dataset)))


@given(SEEDS)
@FAST
def test_density_is_its_formula(seed: int) -> None:
    dataset = made(seed)
    found = density(dataset)
    for item in range(2):
        before = int(dataset.positions[item]) - 12
        expected = np.mean([1 / (before + row) for row in range(12)])
        for source in ("system", "demo_audio", "demo_text", "target_audio"):
            pick = {"item": item, "source": SOURCES.index(source)}
            mass, tokens = dataset.mass.isel(pick), int(dataset.tokens.isel(pick))
            np.testing.assert_allclose(found.isel(pick), mass / (tokens * expected), rtol=1e-5)


@given(SEEDS)
@FAST
def test_bias_and_log_ratio_say_the_same_but_for_length(seed: int) -> None:
    dataset = made(seed)
    tokens = dataset.tokens.astype(float)
    lengths = np.log(tokens.sel(source="demo_text", drop=True) / tokens.sel(source="demo_audio", drop=True))
    np.testing.assert_allclose(bias(dataset), np.tanh((log_ratio(dataset) + lengths) / 2), atol=1e-5)


@given(SEEDS)
@FAST
def test_swapping_audio_and_text_turns_the_sign(seed: int) -> None:
    dataset = made(seed)
    order = list(SOURCES)
    one, two = order.index("demo_audio"), order.index("demo_text")
    order[one], order[two] = order[two], order[one]
    swapped = dataset.sel(source=order).assign_coords(source=list(SOURCES))
    for name in ("bias", "log_ratio"):
        np.testing.assert_allclose(view(swapped, name), -view(dataset, name), rtol=1e-4, atol=1e-6)


@given(SEEDS, st.floats(0.05, 1.0))
@FAST
def test_only_raw_and_density_care_how_much_falls_on_demonstrations(seed: int, factor: float) -> None:
    dataset = made(seed)
    demos = dataset.source.isin(["demo_audio", "demo_text"])
    scaled = dataset.assign(mass=dataset.mass.where(~demos, dataset.mass * factor).transpose(*dataset.mass.dims))
    for name in ("sinkless", "bias", "log_ratio"):
        np.testing.assert_allclose(view(scaled, name), view(dataset, name), rtol=1e-3, atol=1e-5)
    ratio = density(scaled).sel(source="demo_text") / density(dataset).sel(source="demo_text")
    np.testing.assert_allclose(ratio, factor, rtol=1e-4)


@given(SEEDS)
@settings(FAST, max_examples=5)
def test_views_look_at_each_item_layer_and_head_by_itself(seed: int) -> None:
    dataset = made(seed)
    turned = {"item": [1, 0], "layer": [1, 0], "head": [1, 0]}
    for name in VIEWS:
        xr.testing.assert_allclose(view(dataset.isel(turned), name), view(dataset, name).isel(turned))
        xr.testing.assert_allclose(view(dataset.isel(item=[1]), name), view(dataset, name).isel(item=[1]))


@given(SEEDS)
@FAST
def test_sources_that_are_no_demonstrations_do_not_matter(seed: int) -> None:
    dataset = made(seed)
    mass = dataset.mass.copy()
    rest = [name for name in SOURCES if name not in ("demo_audio", "demo_text")]
    mass.loc[{"source": rest}] = mass.sel(source=rest).values[..., ::-1]
    for name in ("sinkless", "bias", "log_ratio"):
        xr.testing.assert_identical(view(dataset.assign(mass=mass), name), view(dataset, name))


def zero_shot() -> xr.Dataset:
    dataset = trace(items=1)
    demos = dataset.source.isin(["demo_audio", "demo_text", "demo_label"])
    gone = dataset.tokens.where(demos, 0).sum("source")
    return with_mass(dataset, output=0.5).assign(
        tokens=dataset.tokens.where(~demos, 0), positions=(dataset.positions - gone).astype(np.int32)
    )


def without(modality: str) -> xr.Dataset:
    dataset = trace(items=1)
    source = f"demo_{modality}"
    other = {"audio": "demo_text", "text": "demo_audio"}[modality]
    there = dataset.source != source
    gone = dataset.tokens.sel(source=source, drop=True)
    return with_mass(dataset, **{other: 0.25}).assign(
        tokens=dataset.tokens.where(there, 0), positions=dataset.positions - gone
    )


def test_zero_shot_items_have_no_preference() -> None:
    dataset = zero_shot()
    for name in ("sinkless", "bias", "log_ratio"):
        assert np.isnan(view(dataset, name)).all(), name
    assert np.isnan(density(dataset).sel(source=["demo_audio", "demo_text"])).all()
    assert np.isfinite(density(dataset).sel(source=["system", "output"])).all()


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_nothing_is_compared_with_what_is_absent(modality: str) -> None:
    dataset = without(modality)
    assert np.isnan(bias(dataset)).all()
    assert np.isnan(log_ratio(dataset)).all()
    shares = sinkless(dataset)
    assert (shares.sel(source=f"demo_{modality}") == 0).all(), "a share of a mass that is 0 is 0"
    assert (shares.sum("source") == 1).all()
    assert np.isnan(density(dataset).sel(source=f"demo_{modality}")).all(), "a density of no tokens is none"


def test_no_mass_on_one_side_is_infinite_and_on_both_is_nothing() -> None:
    dataset = trace(items=1)
    only_text, only_audio = with_mass(dataset, demo_text=0.5), with_mass(dataset, demo_audio=0.5)
    assert (log_ratio(only_text) == math.inf).all()
    assert (log_ratio(only_audio) == -math.inf).all()
    assert (bias(only_text) == 1).all()
    assert (bias(only_audio) == -1).all()
    neither = with_mass(dataset)
    for name in ("sinkless", "bias", "log_ratio"):
        assert np.isnan(view(neither, name)).all()
    assert (density(neither).sel(source="demo_text") == 0).all()


def test_half_precision_is_computed_in_single() -> None:
    dataset = trace(items=2)
    half = dataset.assign(mass=dataset.mass.astype(np.float16))
    for name in ("sinkless", "density", "bias", "log_ratio"):
        assert view(half, name).dtype == np.float32
    np.testing.assert_allclose(sinkless(half), sinkless(dataset), atol=2e-3)


def test_other_query_spans_have_no_density() -> None:
    dataset = trace(items=2)
    two = xr.concat([dataset, dataset.assign_coords(query=["demo_text"])], "query", data_vars="minimal")
    found = density(two)
    assert np.isfinite(found.sel(query="output")).all()
    assert np.isnan(found.sel(query="demo_text")).all()
    assert np.isfinite(log_ratio(two).sel(query="output")).all()
    assert np.isnan(log_ratio(two).sel(query="demo_text")).all()
    xr.testing.assert_allclose(density(dataset.sel(query="output")), density(dataset).sel(query="output"))
    with pytest.raises(BadInput, match="rows of the output"):
        density(two.sel(query=["demo_text"]))


def test_unfinished_items_have_no_view(tmp_path: Path) -> None:
    from attnlens.traces.layout import Layout
    from attnlens.traces.reading import open_traces
    from attnlens.traces.writing import TraceStore

    dataset = trace(items=3)
    store = TraceStore.create(tmp_path / "a.zarr", Layout.like(dataset, spec_hash=""))
    store.write(dataset.isel(item=[1]), items=["item-1"])
    for found in (open_traces(store.path, items="all", lazy="zarr"), open_traces(store.path, items="all")):
        for name in VIEWS:
            values = view(found, name).compute()
            assert np.isnan(values.isel(item=[0, 2])).all()
            xr.testing.assert_allclose(values.isel(item=[1]).drop_vars("finished"), view(dataset, name).isel(item=[1]))


def test_heads_may_be_averaged_before_or_after() -> None:
    dataset = trace(items=2)
    pooled = dataset.mean("head", keep_attrs=True)
    for name in VIEWS:
        assert view(pooled, name).dims == tuple(one for one in view(dataset, name).dims if one != "head")
    assert not np.allclose(bias(pooled), bias(dataset).mean("head")), "a ratio of means is no mean of ratios"
    xr.testing.assert_allclose(density(pooled), density(dataset).mean("head"))


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_says_what_it_is_and_the_page_says_more(name: str) -> None:
    dataset = trace()
    before = dataset.copy(deep=True)
    found = view(dataset, name)
    assert (found.name, found.attrs["view"]) == (name, name)
    xr.testing.assert_identical(dataset, before)
    page = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")
    section = page.split(f"## `{name}`")[1].split("\n## ")[0]
    assert f"`{found.attrs['formula']}`" in section
    for word in ("**Corrects**", "**Does not correct**", "**Undefined**"):
        assert word in section
    accessor: TraceAccessor = dataset.attnlens
    assert getattr(accessor, name)().identical(found)
    assert accessor.view(name).identical(found)


def test_views_need_their_variables() -> None:
    with pytest.raises(BadInput, match="needs 'tokens'"):
        bias(trace().drop_vars("tokens"))
    with pytest.raises(UnknownName, match="did you mean 'log_ratio'"):
        trace().attnlens.view("logratio")


@pytest.mark.parametrize("name", list(VIEWS))
def test_chunked_and_in_blocks_give_the_same(name: str) -> None:
    dataset = trace(items=7)
    whole = view(dataset, name).mean("head")
    xr.testing.assert_allclose(view(dataset.chunk(item=3), name).mean("head").compute(), whole)
    for items in (1, 3, 7, None):
        xr.testing.assert_allclose(by_blocks(dataset, lambda part: view(part, name).mean("head"), items=items), whole)


def test_blocks_keep_the_items() -> None:
    with pytest.raises(BadInput, match="keeps the items"):
        by_blocks(trace(), lambda part: bias(part).mean("item"))
    with pytest.raises(BadInput, match="no items"):
        by_blocks(trace().isel(item=slice(0)), bias)
    both = by_blocks(trace(items=3), lambda part: xr.Dataset({"bias": bias(part), "nll": part.nll}), items=2)
    np.testing.assert_array_equal(both.nll, trace(items=3).nll)
    assert both.utterance.values.tolist() == ["u0", "u1", "u2"]
