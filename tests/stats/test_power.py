"""Power equals statsmodels' and what simulated tests achieve; detectable differences and numbers of items invert it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower

from attnlens.errors import BadInput
from attnlens.stats.permutation import sign_flip
from attnlens.stats.power import detectable_difference, items_needed, paired_power


@pytest.mark.parametrize("n", [2, 5, 40, 1000])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("effect", [0.01, 0.05, 0.2])
def test_power_equals_statsmodels(n: int, alpha: float, effect: float) -> None:
    expected = TTestPower().power(effect, n, alpha)
    assert paired_power(-3 * effect, sd=3.0, n=n, alpha=alpha) == pytest.approx(expected, rel=1e-8)


def test_power_where_statsmodels_has_none() -> None:
    assert np.isnan(TTestPower().power(0.4, 1000, 0.05))
    assert paired_power(0.4, sd=1.0, n=1000) == pytest.approx(1.0)
    # The tail on the side of the effect is all there is.
    assert paired_power(7.771 / math.sqrt(3), sd=1.0, n=3) == pytest.approx(
        scipy_stats.nct.sf(scipy_stats.t.isf(0.025, 2), 2, 7.771), rel=1e-8
    )


@pytest.mark.parametrize("n", [3, 30, 500])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_the_detectable_difference_has_the_power_it_says(n: int, power: float) -> None:
    values = np.random.default_rng(n).normal(size=(n, 2)) * [1.0, 7.0]
    found = detectable_difference(values, minus=np.ones((n, 2)), power=power)
    np.testing.assert_allclose(found.sd, values.std(axis=0, ddof=1))
    for sd, difference in zip(found.sd, found.difference, strict=True):
        assert paired_power(difference, sd=sd, n=n) == pytest.approx(power)


@pytest.mark.parametrize("effect", [0.03, 0.2, 1.5, -6.0])
def test_the_number_of_items_is_the_smallest_that_does(effect: float) -> None:
    n = items_needed(effect, sd=0.7, alpha=0.01)
    assert paired_power(effect, sd=0.7, n=n, alpha=0.01) >= 0.8
    assert n == 2 or paired_power(effect, sd=0.7, n=n - 1, alpha=0.01) < 0.8


def test_a_sign_flip_test_finds_the_detectable_difference_as_often_as_promised() -> None:
    repetitions, n = 500, 30
    noise = np.random.default_rng(1).normal(size=(n, repetitions))
    true = detectable_difference(noise[:, 0]).difference / noise[:, 0].std(ddof=1)
    found = sign_flip(noise + true, draws=999)
    share = np.mean(found.p <= 0.05)
    low, high = scipy_stats.binom.interval(0.999, repetitions, 0.8)
    assert low <= share * repetitions <= high


def test_spread_of_ratios_and_clusters() -> None:
    rng = np.random.default_rng(2)
    errors, words, speakers = rng.integers(0, 5, 40), rng.integers(3, 12, 40), np.arange(40) // 4
    found = detectable_difference(errors, per=words, clusters=speakers.tolist())
    rate = errors.sum() / words.sum()
    parts = np.array([(errors - rate * words)[speakers == one].sum() for one in range(10)])
    error = math.sqrt(10 / 9 * (parts**2).sum()) / words.sum()
    assert found.sd == pytest.approx(error * math.sqrt(10))
    assert (found.n, found.units, found.scheme) == (40, 10, "40 items in 10 clusters")


def test_what_is_printed() -> None:
    values = np.random.default_rng(0).normal(size=(20, 3))
    assert str(detectable_difference(values[:, 0])).endswith("(80 % power at 0.05, two-sided, 20 items)")
    assert str(detectable_difference(values)).startswith("detectable differences of 3 cells from ")
    assert detectable_difference(np.ones(8)).difference == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"effect": 0.0, "sd": 1.0}, "a size and a spread"),
        ({"effect": math.nan, "sd": 1.0}, "a size and a spread"),
        ({"effect": 1.0, "sd": -1.0}, "a size and a spread"),
        ({"effect": 1.0, "sd": 1.0, "alpha": 5}, "between 0 and 1"),
        ({"effect": 1.0, "sd": 1.0, "power": 0.01}, "power must exceed alpha"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        items_needed(**arguments)


def test_one_item_is_refused() -> None:
    with pytest.raises(BadInput, match="1 item is too few for a standard deviation"):
        detectable_difference([1.0])
    with pytest.raises(BadInput, match="at least 2 for a standard deviation"):
        paired_power(1.0, sd=1.0, n=1)


def test_no_spread_needs_the_fewest_items() -> None:
    assert items_needed(0.1, sd=0.0) == 2
