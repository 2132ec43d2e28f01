"""Adjusted p-values equal statsmodels', keep their order and never fall below what was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from attnlens.errors import BadInput
from attnlens.stats.multiple import benjamini_hochberg, holm

QUICK = settings(derandomize=True, max_examples=50, deadline=None)
# Few different values, so that ties are common.
P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.02, 0.5, 1.0])), min_size=1, max_size=30)


@QUICK
@given(P_VALUES)
def test_both_equal_their_definitions(values: list[float]) -> None:
    ranked, size = sorted(values), len(values)
    for p, found in zip(values, holm(values), strict=True):
        last = max(place for place, other in enumerate(ranked) if other == p)
        assert found == pytest.approx(min(1.0, max((size - place) * ranked[place] for place in range(last + 1))))
    for p, found in zip(values, benjamini_hochberg(values), strict=True):
        assert found == pytest.approx(min(1.0, *(size / (place + 1) * q for place, q in enumerate(ranked) if q >= p)))


@pytest.mark.parametrize("size", [1, 2, 7, 40, 1536])
def test_both_equal_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).beta(0.3, 1.0, size=size).round(3)
    for adjust, name in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        np.testing.assert_allclose(adjust(p), multipletests(p, method=name)[1], rtol=1e-12, atol=0)


@QUICK
@given(P_VALUES, st.randoms(use_true_random=False))
def test_both_keep_the_order_and_only_raise(values: list[float], rng: Any) -> None:
    p = np.array(values)
    order = rng.sample(range(len(p)), len(p))
    for adjust in (holm, benjamini_hochberg):
        adjusted = adjust(p)
        assert ((adjusted >= p) & (adjusted <= 1)).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
        np.testing.assert_array_equal(adjust(p[order]), adjusted[order])
    assert (benjamini_hochberg(p) <= holm(p) + 1e-15).all()


def test_shapes_stay_and_one_array_is_one_family() -> None:
    p = np.array([[0.01, 0.2], [0.03, 0.5]])
    assert holm(p).shape == (2, 2)
    np.testing.assert_array_equal(holm(p).ravel(), holm(p.ravel()))
    assert holm(0.04) == benjamini_hochberg(0.04) == 0.04


@pytest.mark.parametrize(
    ("p", "told"), [([], "p is empty"), ([0.1, np.nan], "not finite"), ([0.1, 1.2, -0.1], "2 p-values outside 0 to 1")]
)
@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_is_refused(adjust: Any, p: list[float], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        adjust(p)
