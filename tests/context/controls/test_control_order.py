"""Demonstrations in another order."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.context.controls import order_permutations
from attnlens.context.prompt import Condition
from attnlens.errors import BadInput
from tests.context.controls.made import (
    WITH_DEMONSTRATIONS,
    applied,
    content,
    prompt_of,
    properties,
    seeds,
)


@pytest.mark.parametrize("condition", WITH_DEMONSTRATIONS)
@pytest.mark.parametrize("shots", [2, 3, 7])
def test_orders_keep_the_demonstrations_and_destroy_their_places(condition: Condition, shots: int) -> None:
    prompt = prompt_of(condition, shots=shots)
    assert applied(prompt, "order-reversed").demonstrations == prompt.demonstrations[::-1]
    for seed in range(20):
        shuffled = applied(prompt, "order-shuffled", seed=seed)
        assert Counter(shuffled.demonstrations) == Counter(prompt.demonstrations)
        assert shuffled.demonstrations != prompt.demonstrations
        assert shuffled.target == prompt.target


def test_every_other_order_of_demonstrations_is_drawn() -> None:
    prompt = prompt_of("t-icl", shots=3)
    drawn = {
        tuple(demo.id for demo in applied(prompt, "order-shuffled", seed=seed).demonstrations) for seed in range(60)
    }
    assert drawn == set(itertools.permutations(["p0", "p1", "p2"])) - {("p0", "p1", "p2")}


@pytest.mark.parametrize("shots", [1, 2, 3, 4])
def test_all_orders_of_few_demonstrations_are_listed(shots: int) -> None:
    orders = order_permutations(shots, seed=9)
    assert orders == tuple(itertools.permutations(range(shots)))
    assert orders[0] == tuple(range(shots))


@properties
@given(st.integers(1, 9), st.integers(1, 30), seeds)
def test_sampled_orders_are_different_reproducible_and_nested(shots: int, at_most: int, seed: int) -> None:
    orders = order_permutations(shots, at_most=at_most, seed=seed)
    assert len(set(orders)) == len(orders) == min(at_most, math.factorial(shots))
    assert all(sorted(order) == list(range(shots)) for order in orders)
    assert orders == order_permutations(shots, at_most=at_most, seed=seed)
    if at_most + 5 < math.factorial(shots):
        assert order_permutations(shots, at_most=at_most + 5, seed=seed)[:at_most] == orders


def test_an_order_is_applied_by_index_alike_for_all_targets() -> None:
    orders = order_permutations(6, at_most=20, seed=2)
    assert orders != order_permutations(6, at_most=20, seed=3)
    for target, (index, order) in itertools.product(range(2), enumerate(orders)):
        prompt = prompt_of("icl", shots=6, target=target)
        changed = applied(prompt, "order-permutation", seed=2, index=index, at_most=20)
        assert changed.demonstrations == tuple(prompt.demonstrations[source] for source in order)
        assert changed.applied == (f"order-permutation@2:index={index},at_most=20",)


def test_the_present_order_is_one_of_the_orders() -> None:
    prompt = prompt_of("icl", shots=3)
    assert content(applied(prompt, "order-permutation", index=0)) == content(prompt)


@pytest.mark.parametrize("index", [-1, 6])
def test_an_order_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(BadInput, match=f"no order number {index} of 3(.|\n)*0 to 5"):
        applied(prompt_of("icl", shots=3), "order-permutation", index=index)


@pytest.mark.parametrize(("shots", "at_most"), [(0, 5), (3, 0)])
def test_no_orders_are_refused(shots: int, at_most: int) -> None:
    with pytest.raises(BadInput, match="no orders to list"):
        order_permutations(shots, at_most=at_most)
