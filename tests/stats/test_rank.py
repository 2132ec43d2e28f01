"""Rank correlations equal scipy's, their intervals and nulls the naive loops over the same draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from attnlens.errors import BadInput
from attnlens.stats import inputs
from attnlens.stats.rank import rank_correlation

QUICK = settings(derandomize=True, max_examples=30, deadline=None)
Array = NDArray[np.float64]


def maps(items: int = 15, *, seed: int = 0) -> tuple[Array, Array]:
    """Make two related maps over 5 layers and 4 heads, with whole numbers so that heads tie."""
    rng = np.random.default_rng(seed)
    common = rng.integers(0, 4, size=(5, 4))
    first, second = (common + rng.integers(0, 3, size=(items, 5, 4)) for _ in range(2))
    return first.astype(float), second.astype(float)


def rho(first: Array, second: Array) -> float:
    return float(scipy_stats.spearmanr(first.ravel(), second.ravel()).statistic)


@pytest.mark.parametrize("drawn", ["items", "cells"])
@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_interval_equals_scipy_on_the_same_draws(drawn: Any, method: Any) -> None:
    first, second = maps()
    if drawn == "cells":
        first, second = first[0], second[0]
    rows = (first, second) if drawn == "items" else (first.ravel(), second.ravel())
    expected = scipy_stats.bootstrap(
        (np.arange(len(rows[0])),),
        lambda chosen: rho(*((row[chosen].mean(axis=0) if drawn == "items" else row[chosen]) for row in rows)),
        vectorized=False,
        n_resamples=300,
        method=method,
        rng=np.random.default_rng(4),
    ).confidence_interval
    found = rank_correlation(first, second, drawn=drawn, method=method, resamples=300, draws=99, seed=4)
    np.testing.assert_allclose([found.interval.low, found.interval.high], [expected.low, expected.high], rtol=1e-9)
    assert found.rho == pytest.approx(rho(*((row.mean(axis=0) if drawn == "items" else row) for row in rows)))
    assert found.cells == 20


def test_null_equals_the_naive_loop_and_comes_near_to_the_t_approximation() -> None:
    first, second = maps(1)
    first, second = first[0], second[0] + 2 * np.random.default_rng(5).normal(size=(5, 4))
    found = rank_correlation(first, second, drawn="cells", resamples=99, draws=2_000, seed=6)
    keys = np.random.default_rng(6).random((2_000, 20))
    null = np.array([rho(first, second.ravel()[np.argsort(key)]) for key in keys])
    observed = rho(first, second)
    assert found.test.p == pytest.approx((1 + np.sum(np.abs(null) >= abs(observed) - 1e-12)) / 2_001)
    assert abs(found.test.p - scipy_stats.spearmanr(first.ravel(), second.ravel()).pvalue) < 0.04


def test_exchanging_within_layers_asks_for_more_than_the_layer() -> None:
    # Both maps rise with the layer and have nothing else in common.
    rng = np.random.default_rng(3)
    first, second = (np.arange(6)[:, None] + 0.3 * rng.normal(size=(10, 6, 5)) for _ in range(2))
    anywhere = rank_correlation(first, second, resamples=99, draws=499)
    within = rank_correlation(first, second, permuted="within-layer", resamples=99, draws=499)
    assert anywhere.rho == within.rho > 0.8
    assert anywhere.test.p == 1 / 500
    assert within.test.p > 0.05
    # And where heads agree within layers, it finds that.
    third = second.mean(axis=0) + 0.1 * rng.normal(size=second.shape)
    assert rank_correlation(second, third, permuted="within-layer", resamples=99, draws=499).test.p < 0.01


def test_clusters_of_items() -> None:
    first, second = maps(18)
    speakers = [number % 6 for number in range(18)]
    found = rank_correlation(first, second, clusters=speakers, method="percentile", resamples=200, draws=99, seed=1)
    drawn = np.random.default_rng(1).integers(0, 6, size=(200, 6))
    naive = []
    for row in drawn:
        chosen = np.concatenate([np.flatnonzero(np.array(speakers) == one) for one in row])
        naive.append(rho(first[chosen].mean(axis=0), second[chosen].mean(axis=0)))
    np.testing.assert_allclose([found.interval.low, found.interval.high], np.quantile(naive, [0.025, 0.975]))
    assert (found.test.n, found.test.units) == (18, 6)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = maps()
    whole = rank_correlation(first, second, resamples=100, draws=100)
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 8 * 20 * 3)
    parts = rank_correlation(first, second, resamples=100, draws=100)
    assert (parts.interval.low, parts.interval.high, parts.test.p) == (
        whole.interval.low,
        whole.interval.high,
        whole.test.p,
    )


def test_means_that_are_equal_but_for_rounding_share_their_rank() -> None:
    # Tenths are no binary fractions, so the same numbers added up in another order give another last bit.
    rng = np.random.default_rng(0)
    column = rng.integers(0, 9, size=(12, 1))
    tied = np.concatenate([rng.permuted(column, axis=0) for _ in range(10)] + [column + 1, column + 2], axis=1)
    effect = rng.random((12, 12))
    whole, tenths = (rank_correlation(one, effect, resamples=99, draws=99) for one in (tied, tied / 10))
    assert len(np.unique((tied / 10).mean(axis=0))) > 3
    assert (tenths.rho, tenths.test.p) == (whole.rho, whole.test.p)
    assert (tenths.interval.low, tenths.interval.high) == (whole.interval.low, whole.interval.high)


@QUICK
@given(seed=st.integers(0, 10_000), power=st.floats(0.2, 5), order=st.permutations(range(12)))
def test_only_ranks_count(seed: int, power: float, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random(12), rng.random(12)
    plain = rank_correlation(first, second, drawn="cells", resamples=40, draws=19)
    again = rank_correlation(first[order] ** power, second[order] * 3 + 1, drawn="cells", resamples=40, draws=19)
    swapped = rank_correlation(second, -first, drawn="cells", resamples=40, draws=19)
    assert again.rho == pytest.approx(plain.rho)
    assert swapped.rho == pytest.approx(-plain.rho)
    assert 0 < plain.test.p <= 1


@pytest.mark.parametrize("which", ["measure", "effect", "both"])
def test_constant_maps_have_no_ranks_and_p_one(which: str) -> None:
    first, second = maps()
    if which in ("measure", "both"):
        first = np.full_like(first, 0.1)
    if which in ("effect", "both"):
        second = np.full_like(second, 0.1)
    found = rank_correlation(first, second, resamples=100, draws=99)
    assert np.isnan([found.rho, found.interval.low, found.interval.high, found.test.estimate]).all()
    assert found.test.p == 1
    names = "measure and effect are" if which == "both" else f"{which} is"
    assert found.interval.notes[0] == f"{names} constant: there are no ranks, so p is 1"
    assert names in str(found)


def test_what_is_printed() -> None:
    told = str(rank_correlation(*maps(), permuted="within-layer", resamples=200, draws=199, seed=2)).splitlines()
    assert told[0].startswith("Spearman rho 0.")
    assert "200 resamples of 15 items, seed 2" in told[0]
    assert told[1].endswith("(rank permutation, 20 cells, within 5 layers)")


@pytest.mark.parametrize(
    ("shape", "options", "told"),
    [
        ((9, 4), {}, "4 cells are too few for a rank correlation"),
        ((3, 9), {}, "3 items are too few for a bootstrap interval"),
        ((9, 8), {"permuted": "within-layer"}, "heads cannot be exchanged"),
        ((9, 8), {"drawn": "cells", "clusters": [1] * 9}, "no items in finished maps"),
        ((9,), {}, "too few axes"),
        ((9, 8), {"draws": 5}, "at least 19"),
    ],
)
def test_what_is_refused(shape: tuple[int, ...], options: dict[str, Any], told: str) -> None:
    values = np.random.default_rng(0).random(shape)
    with pytest.raises(BadInput, match=told):
        rank_correlation(values, values, **options)


def test_other_items_are_refused() -> None:
    with pytest.raises(BadInput, match="not paired"):
        rank_correlation(np.ones((9, 8)), np.ones((8, 8)))
