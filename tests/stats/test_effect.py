"""Effect sizes are the sums they say, in units that convert into each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.errors import BadInput
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.effect import nll_effect, standardised_effect

QUICK = settings(derandomize=True, max_examples=50, deadline=None)


def corpus(*cells: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(4, 20, size=25)
    clean = rng.gamma(2.0, size=(25, *cells)) * tokens.reshape(-1, *[1] * len(cells))
    return {
        "nll": clean + rng.normal(1.0, 2.0, size=clean.shape),
        "minus": clean,
        "tokens": tokens,
        "characters": tokens * 3 + 1,
    }


def test_both_units_are_ratios_of_sums_with_their_intervals() -> None:
    data = corpus(3, 2)
    found = nll_effect(**data, resamples=300, seed=3)
    change = (data["nll"] - data["minus"]).sum(axis=0)
    np.testing.assert_allclose(found.nats_per_token.estimate, change / data["tokens"].sum())
    np.testing.assert_allclose(found.bits_per_character.estimate, change / math.log(2) / data["characters"].sum())
    alone = bootstrap(data["nll"], minus=data["minus"], per=data["tokens"], resamples=300, seed=3)
    np.testing.assert_array_equal(found.nats_per_token.low, alone.low)
    per_token = (data["nll"] - data["minus"]) / data["tokens"][:, None, None]
    np.testing.assert_allclose(found.standardised.d, per_token.mean(axis=0) / per_token.std(axis=0, ddof=1))
    assert (found.n, found.tokens, found.characters) == (25, data["tokens"].sum(), data["characters"].sum())


def test_what_is_printed() -> None:
    told = str(nll_effect(**corpus(), resamples=200)).splitlines()
    assert [line.split(" ")[0] for line in told] == ["nats", "bits", "standardised", "25"]
    assert told[-1] == f"25 items, {corpus()['tokens'].sum()} tokens, {corpus()['characters'].sum()} characters"


@QUICK
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_standardised_effects_know_no_unit(seed: int, scale: float, shift: float) -> None:
    values, other = np.random.default_rng(seed).normal(size=(2, 12))
    plain = standardised_effect(values, minus=other)
    moved = standardised_effect(values * scale + shift, minus=other * scale + shift)
    np.testing.assert_allclose(moved.d, plain.d, rtol=1e-6, atol=1e-9)
    assert abs(plain.g) < abs(plain.d)
    np.testing.assert_allclose(plain.g / plain.d, 1 - 3 / (4 * 11 - 1), rtol=2e-3)


def test_effects_without_spread_are_named() -> None:
    nothing, same = standardised_effect(np.zeros(9)), standardised_effect(np.full(9, -0.2))
    assert (nothing.d, same.d) == (0, -np.inf)
    assert nothing.notes == same.notes == ("constant: the differences have no spread",)
    two = standardised_effect([1.0, 2.0])
    assert np.isnan(two.g)
    assert two.notes == ("g does not exist for 2 items",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tokens": np.ones(24)}, "tokens needs one length per item"),
        ({"tokens": np.ones((25, 2))}, "tokens needs one length per item"),
        ({"characters": np.arange(25)}, "1 item without characters"),
        ({"minus": np.ones(24)}, "not paired"),
        ({"nll": np.full(25, np.nan)}, "nll holds 25 numbers"),
        ({"clusters": [1] * 25}, "1 cluster is too few"),
    ],
)
def test_what_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        nll_effect(**{**corpus(), **change})


def test_one_item_has_no_spread() -> None:
    with pytest.raises(BadInput, match="1 item is too few"):
        standardised_effect([1.0])
