"""Intervals equal scipy's and the naive definitions, draw by draw, and say where they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from attnlens.errors import BadInput, UnknownName
from attnlens.stats import bootstrap as module
from attnlens.stats import inputs
from attnlens.stats.bootstrap import bootstrap, bootstrap_seeds
from attnlens.stats.results import Interval, Method
from attnlens.stats.statistic import bootstrap_statistic

QUICK = settings(derandomize=True, max_examples=40, deadline=None)
METHODS: list[Method] = ["bca", "percentile"]
Array = NDArray[np.float64]


def skewed(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).lognormal(size=shape)


def same(interval: Interval, low: Any, high: Any) -> None:
    np.testing.assert_allclose(interval.low, low, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(interval.high, high, rtol=1e-9, atol=1e-9)


def naive(replicates: Array, estimate: float, jackknives: list[Array], *, level: float, method: Method) -> Array:
    """Write down both intervals as the textbook has them (Efron and Tibshirani 1993, equations 14.9 to 14.15)."""
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        normal = scipy_stats.norm
        bias = normal.ppf(np.mean(replicates < estimate) / 2 + np.mean(replicates <= estimate) / 2)
        cubes = sum(np.sum((one.mean() - one) ** 3) * ((len(one) - 1) / len(one)) ** 3 for one in jackknives)
        squares = sum(np.sum((one.mean() - one) ** 2) * ((len(one) - 1) / len(one)) ** 2 for one in jackknives)
        pulled = bias + normal.ppf(shares)
        shares = normal.cdf(bias + pulled / (1 - cubes / (6 * squares**1.5) * pulled))
    return np.quantile(replicates, shares)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_means_equal_scipy_on_the_same_draws(method: Method, level: float) -> None:
    values = skewed(37, 3, 2)
    options: dict[str, Any] = {"n_resamples": 999, "confidence_level": level, "method": method}
    expected = scipy_stats.bootstrap((values,), np.mean, axis=0, rng=np.random.default_rng(5), **options)
    interval = bootstrap(values, method=method, level=level, resamples=999, seed=5)
    same(interval, expected.confidence_interval.low, expected.confidence_interval.high)
    np.testing.assert_allclose(interval.estimate, values.mean(axis=0))


@pytest.mark.parametrize("method", METHODS)
def test_any_statistic_equals_scipy_on_the_same_draws(method: Method) -> None:
    values, other = skewed(25), skewed(25, seed=1)

    def correlation(first: Array, second: Array) -> float:
        return float(np.corrcoef(first, second)[0, 1])

    expected = scipy_stats.bootstrap(
        (values, other),
        correlation,
        paired=True,
        vectorized=False,
        n_resamples=500,
        method=method,
        rng=np.random.default_rng(2),
    ).confidence_interval
    interval = bootstrap_statistic(correlation, values, other, method=method, resamples=500, seed=2)
    same(interval, expected.low, expected.high)
    assert interval.statistic == "correlation"


@pytest.mark.parametrize("method", METHODS)
def test_a_paired_difference_is_the_bootstrap_of_the_differences(method: Method) -> None:
    values, other = skewed(30, 4), skewed(30, 4, seed=1)
    interval = bootstrap(values, minus=other, method=method, resamples=400)
    expected = bootstrap(values - other, method=method, resamples=400)
    same(interval, expected.low, expected.high)
    assert interval.statistic == "mean difference"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grouped", ["items", "clusters"])
def test_ratios_of_sums_equal_the_naive_loop(method: Method, grouped: str) -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(3, 15, size=24)
    errors, others = rng.binomial(words, 0.3), rng.binomial(words, 0.4)
    speakers = rng.permutation(np.repeat(np.arange(8), 3)) if grouped == "clusters" else np.arange(24)
    interval = bootstrap(
        errors,
        minus=others,
        per=words,
        clusters=None if grouped == "items" else [f"speaker {one}" for one in speakers],
        method=method,
        resamples=600,
        seed=7,
    )
    # The clusters in the order in which they first appear, each with its items.
    members = [np.flatnonzero(speakers == one) for one in dict.fromkeys(speakers.tolist())]

    def rate(chosen: Any) -> float:
        items = np.concatenate([members[one] for one in chosen])
        return float((errors[items] - others[items]).sum() / words[items].sum())

    units = len(members)
    drawn = np.random.default_rng(7).integers(0, units, size=(600, units))
    estimate = rate(range(units))
    replicates = np.array([rate(row) for row in drawn])
    replicates[np.abs(replicates - estimate) < 1e-12] = estimate
    jackknife = np.array([rate([one for one in range(units) if one != gone]) for gone in range(units)])
    same(interval, *naive(replicates, estimate, [jackknife], level=0.95, method=method))
    assert interval.units == units
    assert interval.n == 24


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grouped", ["items", "clusters"])
@pytest.mark.parametrize("divided", ["means", "ratios"])
def test_seeds_by_items_equal_the_naive_loop(method: Method, grouped: str, divided: str) -> None:
    values = skewed(4, 18, 2)
    words = np.random.default_rng(1).integers(3, 12, size=18) if divided == "ratios" else np.ones(18, dtype=int)
    speakers = np.repeat(np.arange(6), 3) if grouped == "clusters" else np.arange(18)
    interval = bootstrap_seeds(
        values,
        per=words if divided == "ratios" else None,
        clusters=speakers.tolist() if grouped == "clusters" else None,
        method=method,
        resamples=300,
        seed=11,
    )
    units = len(set(speakers.tolist()))
    generators = np.random.default_rng(11).spawn(2)
    drawn_seeds = generators[0].integers(0, 4, size=(300, 4))
    drawn_units = generators[1].integers(0, units, size=(300, units))

    def ratio(seeds: Any, chosen: Any, cell: int) -> float:
        items = np.concatenate([np.flatnonzero(speakers == one) for one in chosen])
        crossed = values[np.ix_(np.asarray(seeds), items)][..., cell]
        return float(crossed.sum() / (words[items].sum() * len(seeds)))

    for cell in range(2):
        estimate = ratio(range(4), range(units), cell)
        pairs = zip(drawn_seeds, drawn_units, strict=True)
        replicates = np.array([ratio(seeds, chosen, cell) for seeds, chosen in pairs])
        jackknives = [
            np.array([ratio([one for one in range(4) if one != gone], range(units), cell) for gone in range(4)]),
            np.array([ratio(range(4), [one for one in range(units) if one != gone], cell) for gone in range(units)]),
        ]
        low, high = naive(replicates, estimate, jackknives, level=0.95, method=method)
        one = Interval(**{**vars(interval), "low": interval.low[cell], "high": interval.high[cell]})
        same(one, low, high)


def test_a_denominator_for_every_cell() -> None:
    values, per = skewed(20, 3), skewed(20, 3, seed=1)
    together = bootstrap(values, per=per, resamples=200)
    for cell in range(3):
        alone = bootstrap(values[:, cell], per=per[:, cell], resamples=200)
        np.testing.assert_allclose(together.low[cell], alone.low)
        np.testing.assert_allclose(together.high[cell], alone.high)


@pytest.mark.parametrize("run", [bootstrap, bootstrap_seeds], ids=["items", "seeds"])
def test_blocks_do_not_change_the_result(run: Callable[..., Interval], monkeypatch: pytest.MonkeyPatch) -> None:
    values = skewed(5, 21, 4) if run is bootstrap_seeds else skewed(21, 5, 4)
    whole = run(values, resamples=300)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 8 * 21 * 7)
    monkeypatch.setattr(module, "REPLICATE_BYTES", 8 * 300 * 3)
    parts = run(values, resamples=300)
    same(parts, whole.low, whole.high)


@QUICK
@given(
    shift=st.floats(-1e6, 1e6), scale=st.floats(0.01, 1e4), seed=st.integers(0, 1000), method=st.sampled_from(METHODS)
)
def test_intervals_move_and_stretch_with_the_data(shift: float, scale: float, seed: int, method: Method) -> None:
    values = skewed(12, seed=seed)
    plain = bootstrap(values, method=method, resamples=200, seed=seed)
    moved = bootstrap(values * scale + shift, method=method, resamples=200, seed=seed)
    mirrored = bootstrap(-values, method=method, resamples=200, seed=seed)
    expected = np.array([plain.low, plain.high]) * scale + shift
    np.testing.assert_allclose([moved.low, moved.high], expected, rtol=1e-9, atol=1e-9 * (scale + abs(shift)))
    np.testing.assert_allclose([mirrored.low, mirrored.high], [-plain.high, -plain.low], rtol=1e-9)
    assert plain.low <= plain.high
    if method == "percentile":
        assert values.min() <= plain.low <= plain.high <= values.max()


@QUICK
@given(st.data())
def test_the_names_of_clusters_do_not_matter_but_their_members_do(data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 5), min_size=12, max_size=12).filter(lambda one: len(set(one)) >= 4))
    values = skewed(12)
    by_number = bootstrap(values, clusters=labels, resamples=100)
    by_name = bootstrap(values, clusters=[f"speaker {9 - label}" for label in labels], resamples=100)
    same(by_number, by_name.low, by_name.high)
    order = data.draw(st.permutations(range(12)))
    again = bootstrap(values[order], clusters=[labels[place] for place in order], resamples=100)
    np.testing.assert_allclose(again.estimate, by_number.estimate)


def test_one_cluster_per_item_is_the_plain_interval_and_says_so() -> None:
    values = skewed(20)
    clustered = bootstrap(values, clusters=range(20), resamples=100)
    plain = bootstrap(values, resamples=100)
    same(clustered, plain.low, plain.high)
    assert any("every cluster holds one item" in note for note in clustered.notes)
    assert plain.notes == ()


def test_digits_survive_far_from_zero() -> None:
    values = skewed(40)
    near, far = bootstrap(values, resamples=500), bootstrap(values + 2.0**40, resamples=500)
    np.testing.assert_allclose(far.low - 2.0**40, near.low, atol=1e-3)
    assert far.width > 0


@pytest.mark.parametrize("method", METHODS)
def test_constant_data_have_an_interval_without_width_that_says_so(method: Method) -> None:
    interval = bootstrap(np.full(30, 0.1), method=method, resamples=100)
    assert interval.low == interval.high == interval.estimate
    assert interval.notes == ("constant: every resample gives the same, so the interval has no width",)
    some = np.stack([np.full(30, 0.1), skewed(30)], axis=1)
    mixed = bootstrap(some, method=method, resamples=100)
    assert mixed.width[0] == 0 < mixed.width[1]
    assert mixed.notes == ("constant in 1 cell of 2: [0]: every resample gives the same, so the interval has no width",)


def test_constant_ratios_are_constant_too() -> None:
    words = np.arange(1, 31)
    assert bootstrap(0.1 * words, per=words, resamples=100).width == 0


def test_where_bca_is_undefined_the_percentile_interval_stands_and_says_so() -> None:
    def different(values: Array) -> int:
        return len(np.unique(values))

    values = skewed(30)
    corrected = bootstrap_statistic(different, values, resamples=200)
    plain = bootstrap_statistic(different, values, method="percentile", resamples=200)
    same(corrected, plain.low, plain.high)
    assert corrected.notes == ("BCa is undefined: the percentile interval stands there",)


def test_what_is_printed() -> None:
    values = skewed(3, 24, 2)
    told = str(bootstrap(values[0, :, 0], clusters=[one // 2 for one in range(24)], resamples=1000, seed=4))
    assert told.startswith("mean ")
    assert told.endswith(
        "(95 % BCa bootstrap, 1,000 resamples of 24 items in 12 clusters, seed 4); "
        "12 clusters are few: expect the interval to be too narrow"
    )
    told = str(bootstrap_seeds(values, method="percentile", level=0.9, resamples=1000))
    assert "mean: 2 estimates from " in told
    assert "2 intervals exclude 0 (90 % percentile bootstrap, 1,000 resamples of 3 seeds x 24 items" in told
    assert told.endswith("3 seeds understate the variance over seeds by about 33 %")


def test_another_scale_keeps_the_interval() -> None:
    interval = bootstrap(skewed(30), per=np.full(30, 4), resamples=200)
    perplexity = interval.transformed(np.exp, statistic="perplexity")
    assert (perplexity.low, perplexity.high) == (np.exp(interval.low), np.exp(interval.high))
    assert str(perplexity).startswith("perplexity ")
    with pytest.raises(BadInput, match="increases"):
        interval.transformed(np.negative, statistic="upside down")


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    values = skewed(30)
    first, again, other = (bootstrap(values, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert (first.low, first.high) == (again.low, again.high) != (other.low, other.high)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"values": []}, "values is empty"),
        ({"values": np.empty((5, 0))}, "values is empty"),
        ({"values": 3.0}, "too few axes"),
        ({"values": ["a", "b"]}, "other than real numbers"),
        ({"values": [[1.0, 2.0], [3.0]]}, "not an array"),
        ({"values": [1.0, 2.0, 3.0]}, "3 items are too few for a bootstrap interval of level 0.95"),
        ({"values": [1.0] * 4, "level": 0.999}, "at least 5 items needed"),
        ({"values": range(9), "minus": range(8)}, "the items are not paired"),
        ({"values": np.ones((9, 2)), "minus": np.ones((9, 3))}, "minus has other axes than the values"),
        ({"values": range(9), "clusters": range(8)}, "clusters needs one label per item"),
        ({"values": range(4), "clusters": ["a", None, "b", float("nan")]}, r"items 1, 3"),
        ({"values": range(9), "clusters": [1, 1, 1, 2, 2, 2, 3, 3, 3]}, "3 clusters are too few"),
        ({"values": range(9), "clusters": ["only"] * 9}, "1 cluster is too few"),
        ({"values": range(9), "per": range(8)}, "per needs one number for each item"),
        ({"values": range(4), "per": [1, 2, -1, 3]}, "1 negative number"),
        ({"values": range(4), "per": [0, 0, 0, 0]}, "sums to zero"),
        ({"values": range(4), "per": [3, 0, 0, 0]}, "all of per lies in one unit"),
        ({"values": range(4), "per": [3, 1, 0, 0]}, "nothing to divide by"),
        ({"values": range(9), "resamples": 39}, "at least 40 for an interval of level 0.95"),
        ({"values": range(9), "level": 95}, "between 0 and 1"),
        ({"values": range(9), "seed": -1}, "seed must be a whole number"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        bootstrap(**arguments)


def test_numbers_that_are_not_finite_are_counted_and_located() -> None:
    values = np.ones((6, 3))
    values[[1, 4, 5, 5], [2, 0, 0, 1]] = [np.nan, np.inf, np.nan, np.nan]
    with pytest.raises(BadInput) as caught:
        bootstrap(values)
    assert caught.value.message == "values holds 4 numbers that are not finite"
    assert caught.value.given == "nan at [1, 2], inf at [4, 0], nan at [5, 0] and 1 more"
    assert caught.value.present == "18 numbers, 3 of them NaN"


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean 'bca'"):
        bootstrap(range(9), method="bac")  # type: ignore[arg-type]


def test_one_seed_is_refused() -> None:
    with pytest.raises(BadInput, match="one seed says nothing"):
        bootstrap_seeds(np.ones((1, 9)))
    with pytest.raises(BadInput, match="too few axes"):
        bootstrap_seeds(np.ones(9))


@pytest.mark.parametrize(
    ("statistic", "columns", "told"),
    [
        (np.mean, (), "needs data"),
        (np.mean, ([1.0] * 5, [1.0] * 6), "not paired"),
        (lambda values: np.nan, ([1.0] * 5,), "undefined for these data"),
        (lambda values: 1.0 if len(np.unique(values)) > 3 else np.nan, (range(6),), "undefined for .* resamples of"),
    ],
)
def test_statistics_that_cannot_be_had(statistic: Callable[..., float], columns: tuple[Any, ...], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        bootstrap_statistic(statistic, *columns, resamples=200)
