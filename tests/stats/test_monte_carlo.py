"""On data without an effect, tests raise a false alarm as often as they say, and intervals cover as often as they say.

Bounds are those within which a binomial count with the nominal rate falls 999 times in 1,000. Seeds are fixed, so that
a test here fails when the code is wrong and not once in a thousand runs.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from attnlens.stats.bootstrap import bootstrap, bootstrap_seeds
from attnlens.stats.null import against_null
from attnlens.stats.permutation import label_permutation, sign_flip
from attnlens.stats.rank import rank_correlation
from attnlens.stats.results import Interval, Method

REPETITIONS = 500
Array = NDArray[np.float64]


def bounds(rate: float, repetitions: int = REPETITIONS) -> tuple[float, float]:
    low, high = scipy_stats.binom.interval(0.999, repetitions, rate)
    return low / repetitions, high / repetitions


def nominal(share: float, rate: float, repetitions: int = REPETITIONS) -> None:
    low, high = bounds(rate, repetitions)
    assert low <= share <= high, f"{share:.3f} is outside {low:.3f} to {high:.3f} for a rate of {rate}"


def covered(interval: Interval, true: float) -> float:
    return float(np.mean(~interval.excludes(true)))


def test_sign_flips_on_null_data() -> None:
    # One call: the repetitions are cells, each with data of its own.
    null = np.random.default_rng(1).standard_t(3, size=(25, REPETITIONS))
    for alternative in ("two-sided", "greater", "less"):
        found = sign_flip(null, alternative=alternative, draws=999)
        nominal(np.mean(found.p <= 0.05), 0.05)
        nominal(np.mean(found.p <= 0.2), 0.2)


def test_sign_flips_of_clusters_on_null_data_with_speakers() -> None:
    rng = np.random.default_rng(2)
    speakers = np.repeat(np.arange(12), 5)
    null = rng.normal(size=(12, REPETITIONS))[speakers] + rng.normal(size=(60, REPETITIONS))
    nominal(np.mean(sign_flip(null, clusters=speakers.tolist(), draws=999).p <= 0.05), 0.05)
    # Taking the sixty items for independent raises far too many false alarms: that is what clusters are for.
    assert np.mean(sign_flip(null, draws=999).p <= 0.05) > 0.15


def test_labels_on_null_data() -> None:
    null = np.random.default_rng(3).exponential(size=(30, REPETITIONS))
    nominal(np.mean(label_permutation(null[:12], null[12:], draws=999).p <= 0.05), 0.05)


def test_max_t_keeps_the_family_wise_rate_over_correlated_layers_and_heads() -> None:
    rng = np.random.default_rng(4)
    alarms = [0, 0]
    for _ in range(REPETITIONS):
        layers = rng.normal(size=(20, 6, 1))
        null = layers + rng.normal(size=(20, 6, 4)) * np.geomspace(0.1, 10, 6)[:, None]
        found = sign_flip(null, draws=199)
        alarms[0] += bool((found.p_family <= 0.05).any())
        alarms[1] += bool((found.p <= 0.05).any())
    nominal(alarms[0] / REPETITIONS, 0.05)
    # Uncorrected, a study of 24 cells raises a false alarm more often than not.
    assert alarms[1] / REPETITIONS > 0.4


def test_nulls_drawn_elsewhere_keep_the_family_wise_rate() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(REPETITIONS):
        every = rng.normal(0.5, 1.0, size=(200, 8)) * np.arange(1, 9)
        alarms += bool((against_null(every[0], every[1:], centre="null").p_family <= 0.05).any())
    nominal(alarms / REPETITIONS, 0.05)


def test_rank_permutation_on_unrelated_maps() -> None:
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(REPETITIONS):
        first, second = rng.random((2, 6, 4))
        alarms += bool(rank_correlation(first, second, drawn="cells", resamples=40, draws=99).test.p <= 0.05)
    nominal(alarms / REPETITIONS, 0.05)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_of_means_cover(method: Method) -> None:
    values = np.random.default_rng(7).normal(3.0, 2.0, size=(100, REPETITIONS))
    nominal(covered(bootstrap(values, method=method, resamples=2_000), 3.0), 0.95)
    nominal(covered(bootstrap(values, method=method, level=0.8, resamples=2_000), 3.0), 0.8)


def test_intervals_of_error_rates_cover() -> None:
    rng = np.random.default_rng(8)
    words = rng.integers(3, 20, size=(120, REPETITIONS))
    nominal(covered(bootstrap(rng.binomial(words, 0.3), per=words, resamples=2_000), 0.3), 0.95)


def test_bca_misses_skewed_means_more_evenly_than_percentiles() -> None:
    values = np.random.default_rng(9).exponential(size=(40, 2_000))
    missed = {}
    for method in ("bca", "percentile"):
        interval = bootstrap(values, method=method, resamples=2_000)
        missed[method] = np.mean(interval.low > 1), np.mean(interval.high < 1)
    gap = {method: above - below for method, (below, above) in missed.items()}
    assert 0 < gap["bca"] < gap["percentile"]
    assert sum(missed["bca"]) < sum(missed["percentile"])


def test_clustered_intervals_cover_where_plain_ones_do_not() -> None:
    rng = np.random.default_rng(10)
    speakers = np.repeat(np.arange(50), 4)
    values = rng.normal(size=(50, REPETITIONS))[speakers] + rng.normal(size=(200, REPETITIONS))
    nominal(covered(bootstrap(values, clusters=speakers.tolist(), resamples=2_000), 0.0), 0.95)
    assert covered(bootstrap(values, resamples=2_000), 0.0) < 0.85


def test_intervals_over_seeds_cover_and_are_cautious() -> None:
    rng = np.random.default_rng(11)
    seeds, items = rng.normal(size=(25, 1, REPETITIONS)), rng.normal(size=(1, 50, REPETITIONS))
    additive = seeds + items + 0.1 * rng.normal(size=(25, 50, REPETITIONS))
    low, _ = bounds(0.95)
    # 25 seeds are few for a percentile-like interval: their variance is understated by 4 %.
    assert covered(bootstrap_seeds(additive, resamples=1_000), 0.0) >= low - 0.01
    # The items alone say nothing about other seeds.
    assert covered(bootstrap(additive.mean(axis=0), resamples=1_000), 0.0) < 0.85
    # Noise of single crossings is counted once too often in each direction: the interval errs to the wide side.
    noise = rng.normal(size=(25, 50, REPETITIONS))
    assert covered(bootstrap_seeds(noise, resamples=1_000), 0.0) > 0.97
