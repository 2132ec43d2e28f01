"""Permutation tests equal full enumeration and scipy, keep clusters together and find families' largest cells."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from attnlens.errors import BadInput, UnknownName
from attnlens.stats import inputs
from attnlens.stats.null import against_null
from attnlens.stats.permutation import label_permutation, sign_flip
from attnlens.stats.results import Alternative

QUICK = settings(derandomize=True, max_examples=50, deadline=None)
ALTERNATIVES: list[Alternative] = ["two-sided", "greater", "less"]
Array = NDArray[np.float64]


def normal(*shape: int, seed: int = 0, shift: float = 0.0) -> Array:
    return np.random.default_rng(seed).normal(shift, 1.0, size=shape)


def extreme(values: Any, alternative: Alternative) -> Any:
    return {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative](values)


def t_statistic(differences: Array) -> Array:
    return np.asarray(np.sqrt(len(differences)) * differences.mean(axis=0) / differences.std(axis=0, ddof=1))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_sign_flips_equal_scipy_enumerating_all(alternative: Alternative) -> None:
    first, second = normal(9, 3, shift=0.5), normal(9, 3, seed=1)
    expected = scipy_stats.permutation_test(
        (first, second),
        lambda one, two, axis: np.mean(one - two, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative=alternative,
        axis=0,
    )
    found = sign_flip(first, minus=second, alternative=alternative)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-12)
    np.testing.assert_allclose(found.estimate, expected.statistic)
    assert (found.draws, found.drawn) == (2**9 - 1, "all")


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("sizes", [(5, 5), (4, 7)])
def test_label_permutation_equals_scipy_enumerating_all(alternative: Alternative, sizes: tuple[int, int]) -> None:
    first, second = normal(sizes[0], 3, shift=0.7), normal(sizes[1], 3, seed=1)
    expected = scipy_stats.permutation_test(
        (first, second),
        lambda one, two, axis: np.mean(one, axis=axis) - np.mean(two, axis=axis),
        vectorized=True,
        n_resamples=np.inf,
        alternative=alternative,
        axis=0,
    )
    found = label_permutation(first, second, alternative=alternative)
    if alternative == "two-sided":
        # scipy doubles the smaller tail, we count by size: the naive count is the reference here.
        pooled = np.concatenate([first, second])
        drawn = []
        for chosen in combinations(range(len(pooled)), len(first)):
            inside = np.isin(np.arange(len(pooled)), chosen)
            drawn.append(pooled[inside].mean(axis=0) - pooled[~inside].mean(axis=0))
        observed = first.mean(axis=0) - second.mean(axis=0)
        np.testing.assert_allclose(found.p, (np.abs(drawn) >= np.abs(observed) - 1e-12).mean(axis=0))
    else:
        np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-12)
    np.testing.assert_allclose(found.estimate, expected.statistic)
    assert found.drawn == "all"


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_max_t_equals_the_naive_loop_over_t_statistics(alternative: Alternative) -> None:
    # Cells of very different spread: only on the t scale is the search fair.
    values = normal(8, 3, 2, shift=0.4) * np.array([1.0, 100.0, 0.01])[:, None]
    observed = extreme(t_statistic(values), alternative)
    drawn = np.array(
        [
            extreme(t_statistic(values * np.array(signs)[:, None, None]), alternative)
            for signs in product([1, -1], repeat=8)
        ]
    )
    for over, axes in {"all": (1, 2), (1, 2): (1, 2), (2,): (2,), (1,): (1,)}.items():
        found = sign_flip(values, over=over, alternative=alternative)  # type: ignore[arg-type]
        largest = drawn.max(axis=axes, keepdims=True)
        np.testing.assert_allclose(found.p_family, (largest >= observed - 1e-9).mean(axis=0))
        np.testing.assert_allclose(found.p, (drawn >= observed - 1e-9).mean(axis=0))
        assert found.family == np.prod([values.shape[axis] for axis in axes])


def test_max_t_of_labels_equals_the_naive_loop_over_t_statistics() -> None:
    first, second = (normal(4, 3, shift=1.0) * [1, 50, 0.1], normal(5, 3, seed=1) * [1, 50, 0.1])
    pooled = np.concatenate([first, second])

    def t(inside: NDArray[np.bool_]) -> Array:
        return np.abs(scipy_stats.ttest_ind(pooled[inside], pooled[~inside], axis=0).statistic)

    observed = t(np.arange(9) < 4)
    drawn = np.array([t(np.isin(np.arange(9), chosen)) for chosen in combinations(range(9), 4)])
    found = label_permutation(first, second)
    np.testing.assert_allclose(found.p, (drawn >= observed - 1e-9).mean(axis=0))
    np.testing.assert_allclose(found.p_family, (drawn.max(axis=1, keepdims=True) >= observed - 1e-9).mean(axis=0))


def test_clusters_flip_together() -> None:
    values = normal(20, 2, shift=0.3)
    speakers = [number // 2 for number in range(20)]
    found = sign_flip(values, clusters=speakers)
    sums = values.reshape(10, 2, 2).sum(axis=1)
    drawn = np.array([(sums * np.array(signs)[:, None]).sum(axis=0) for signs in product([1, -1], repeat=10)])
    np.testing.assert_allclose(found.p, (np.abs(drawn) >= np.abs(sums.sum(axis=0)) - 1e-9).mean(axis=0))
    assert (found.n, found.units, found.drawn) == (20, 10, "all")


def test_clusters_change_groups_together() -> None:
    first, second = normal(9, shift=0.8), normal(8, seed=1)
    speakers = ([0, 0, 1, 1, 1, 2, 2, 3, 3], [4, 4, 5, 6, 6, 6, 7, 7])
    found = label_permutation(first, second, clusters=(speakers[0], speakers[1]))
    pooled, codes = np.concatenate([first, second]), np.array([*speakers[0], *speakers[1]])
    drawn = []
    for chosen in combinations(range(8), 4):
        inside = np.isin(codes, chosen)
        drawn.append(pooled[inside].mean() - pooled[~inside].mean())
    assert found.p == pytest.approx(np.mean(np.abs(drawn) >= abs(first.mean() - second.mean()) - 1e-9))
    assert found.scheme == "9 against 8 items in 4 against 4 clusters"


def test_denominators_change_the_estimate_and_not_the_p() -> None:
    errors, others, words = np.array([3, 0, 2, 2, 5, 4, 1]), np.array([2, 0, 1, 2, 3, 3, 1]), np.arange(5, 12)
    rate, plain = sign_flip(errors, minus=others, per=words), sign_flip(errors, minus=others)
    assert rate.p == plain.p
    assert rate.estimate == pytest.approx((errors - others).sum() / words.sum())
    assert rate.notes == ("3 of 7 items do not differ",)


def test_sampled_flips_come_near_to_all_of_them() -> None:
    values = normal(13, shift=0.35)
    exact, sampled = sign_flip(values), sign_flip(values, draws=4_000)
    assert (exact.drawn, sampled.drawn) == ("all", "sampled")
    # Four standard errors of a share.
    assert abs(exact.p - sampled.p) < 4 * np.sqrt(exact.p * (1 - exact.p) / 4_000) + 1 / 4_001
    groups = (normal(9, shift=0.9), normal(9, seed=1))
    exact, sampled = label_permutation(*groups, draws=48_619), label_permutation(*groups, draws=4_000)
    assert (exact.drawn, sampled.drawn) == ("all", "sampled")
    assert abs(exact.p - sampled.p) < 4 * np.sqrt(exact.p * (1 - exact.p) / 4_000) + 1 / 4_001


def test_more_assignments_than_can_be_counted_are_sampled() -> None:
    values = normal(2_000, shift=0.1)
    flipped, labelled = sign_flip(values, draws=99), label_permutation(values, normal(2_000, seed=1), draws=99)
    assert (flipped.draws, flipped.drawn, flipped.p) == (99, "sampled", 0.01)
    assert (labelled.draws, labelled.drawn, labelled.p) == (99, "sampled", 0.01)


@pytest.mark.parametrize("draws", [200, 99_999])
def test_blocks_do_not_change_the_result(draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values, other = normal(10, 4), normal(7, 4, seed=3, shift=0.5)
    wholes = [sign_flip(values, draws=draws), label_permutation(values, other, draws=draws)]
    monkeypatch.setattr(inputs, "BLOCK_BYTES", 8 * 17 * 13)
    parts = [sign_flip(values, draws=draws), label_permutation(values, other, draws=draws)]
    for whole, part in zip(wholes, parts, strict=True):
        np.testing.assert_array_equal(part.p, whole.p)
        np.testing.assert_array_equal(part.p_family, whole.p_family)


@QUICK
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3), order=st.permutations(range(9)))
def test_p_depends_on_neither_order_nor_scale(seed: int, scale: float, order: list[int]) -> None:
    values = normal(9, 2, seed=seed, shift=0.3)
    first, again = sign_flip(values), sign_flip(values[order] * scale)
    np.testing.assert_array_equal(first.p, again.p)
    np.testing.assert_array_equal(first.p_family, again.p_family)
    assert ((first.p > 0) & (first.p <= first.p_family) & (first.p_family <= 1)).all()
    np.testing.assert_allclose(sign_flip(-values).p, first.p)


@QUICK
@given(seed=st.integers(0, 10_000), shift=st.floats(-100, 100), order=st.permutations(range(5)))
def test_labels_depend_on_neither_order_nor_shift(seed: int, shift: float, order: list[int]) -> None:
    first, second = normal(5, seed=seed), normal(5, seed=seed + 1, shift=0.5)
    plain = label_permutation(first, second)
    assert label_permutation(first[order] + shift, second + shift).p == plain.p
    assert label_permutation(second, first).p == plain.p
    assert 0 < plain.p <= 1
    one_sided = [label_permutation(first, second, alternative=side).p for side in ("greater", "less")]
    # Both tails hold the observed labelling.
    assert sum(one_sided) == pytest.approx(1 + 1 / 252, abs=1e-9)


def test_ties_by_rounding_count_as_ties() -> None:
    # Every flip that moves 0.1 and 0.2 against 0.3 ties in real arithmetic, and not in floating point.
    values = np.array([0.1, 0.2, -0.3, 0.7, 0.7, -0.7, 0.1])
    whole = np.round(values * 10)
    assert sign_flip(values).p == sign_flip(whole).p
    assert sign_flip(values + 0.3, minus=np.full(7, 0.3)).p == sign_flip(whole).p


def test_without_any_difference_p_is_one_and_this_is_said() -> None:
    values = normal(12)
    found = sign_flip(values, minus=values)
    assert (found.estimate, found.p, found.p_family) == (0, 1, 1)
    assert found.notes == ("constant: no item differs, so p is 1",)
    # What is equal up to rounding is equal.
    assert sign_flip(np.full(12, 0.1) + 0.2, minus=np.full(12, 0.3)).p == 1
    alike = label_permutation(np.full(6, 0.1), np.full(5, 0.1))
    assert (alike.estimate, alike.p) == (0, 1)
    assert alike.notes == ("constant: all items are alike, so p is 1",)
    mixed = sign_flip(np.stack([np.zeros(8), normal(8, shift=5)], axis=1))
    assert mixed.p[0] == 1 > mixed.p[1]
    assert mixed.notes == ("constant in 1 cell of 2: [0]: no item differs, so p is 1",)


def test_the_same_difference_everywhere_is_as_significant_as_can_be_and_named() -> None:
    found = sign_flip(np.full(8, 0.25))
    assert found.p == 2 / 2**8
    assert found.notes == ("constant: every item differs by the same amount",)


def test_what_is_printed() -> None:
    told = str(sign_flip(normal(30, 2, 3, shift=1), over=(2,), alternative="greater", draws=999, seed=8))
    assert "mean: 2 x 3 cells, 6 with family-wise p <= 0.05 (families of 3), the smallest 0.001 at [" in told
    assert told.endswith("(greater sign flip, 30 items, 999 random assignments, seed 8)")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"values": [1.0] * 5}, "5 items are too few for a two-sided sign-flip test to reach p = 0.05"),
        ({"values": [1.0] * 4, "alternative": "greater"}, "at least 5 items needed"),
        ({"values": [1.0] * 9, "alpha": 0.001}, "at least 11 items needed"),
        ({"values": range(9), "clusters": [0, 0, 0, 1, 1, 1, 2, 2, 2]}, "3 clusters are too few"),
        ({"values": range(9), "minus": range(7)}, "not paired"),
        ({"values": [0.0, np.nan] * 5}, "5 numbers that are not finite"),
        ({"values": range(30), "draws": 18}, "at least 19 to reach p = 0.05"),
        ({"values": range(30), "over": (1,)}, "no cell axes"),
        ({"values": np.ones((30, 2)), "over": (0, 1)}, r"cell axes \[1\]"),
        ({"values": np.ones((30, 2)), "over": "layers"}, r"cell axes \[1\]"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        sign_flip(**arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"first": [1.0] * 3, "second": [2.0] * 3}, "3 against 3 items are too few .*\n.*0.1\n.*4 against 4 items"),
        ({"first": [1.0], "second": range(9)}, "1 against 9 items are too few"),
        ({"first": np.ones((9, 2)), "second": np.ones((9, 3))}, "different axes"),
        ({"first": [], "second": range(9)}, "first is empty"),
        (
            {"first": range(6), "second": range(6), "clusters": ("aabbcc", "ccddee")},
            "1 cluster with items in both groups",
        ),
        ({"first": range(6), "second": range(6), "clusters": ("abcdef", "ghijk")}, "clusters of the second group"),
    ],
)
def test_which_groups_are_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        label_permutation(**arguments)


def test_unequal_groups_need_fewer_items() -> None:
    assert label_permutation(range(3), range(10, 20)).p == pytest.approx(1 / 286)
    assert label_permutation([0.0], range(1, 20), alternative="less").p == pytest.approx(0.05)


def test_an_unknown_alternative_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean 'greater'"):
        sign_flip(range(9), alternative="greatr")  # type: ignore[arg-type]


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("centre", ["zero", "null"])
def test_draws_made_elsewhere_equal_the_naive_count(alternative: Alternative, centre: Any) -> None:
    null = normal(400, 3, 2, seed=2, shift=0.4) * np.array([1.0, 10.0, 0.1])[:, None]
    observed = normal(3, 2, seed=5) * np.array([2.0, 20.0, 0.2])[:, None]
    every = np.concatenate([observed[None], null])
    middle = every.mean(axis=0) if centre == "null" else 0.0
    scaled = extreme((every - middle) / np.sqrt(np.mean((every - middle) ** 2, axis=0)), alternative)
    found = against_null(observed, null, alternative=alternative, centre=centre, over=(1,))
    np.testing.assert_allclose(found.p, (scaled >= scaled[0]).mean(axis=0))
    np.testing.assert_allclose(found.p_family, (scaled.max(axis=1, keepdims=True) >= scaled[0]).mean(axis=0))
    assert found.family == 3
    assert found.n is None


def test_draws_made_elsewhere_are_checked() -> None:
    with pytest.raises(BadInput, match="other axes"):
        against_null([1.0, 2.0], np.zeros((99, 3)))
    with pytest.raises(BadInput, match="at least 19"):
        against_null(1.0, np.zeros(5))
    constant = against_null([0.0, 1.0], np.zeros((99, 2)))
    assert constant.p.tolist() == [1.0, 0.01]
    assert constant.notes == ("constant in 1 cell of 2: [0]: the null does not vary, so p is 1",)
