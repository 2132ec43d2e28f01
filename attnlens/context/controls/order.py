"""Controls of the demonstrations' order: how much of an effect is where a demonstration stands?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attnlens.context.controls.base import WITH_DEMONSTRATIONS, Control, Draw
from attnlens.context.prompt import Prompt, stable_hash
from attnlens.errors import BadInput

__all__ = [
    "ORDER_PERMUTATION",
    "ORDER_REVERSED",
    "ORDER_SHUFFLED",
    "order_permutation",
    "order_permutations",
    "order_reversed",
    "order_shuffled",
]


def order_reversed(prompt: Prompt, draw: Draw) -> Prompt:
    """Reverse the demonstrations: the nearest moves from one end to the other.

    Keeps: every demonstration as it is.
    Destroys: the distance of each from the target, with as little else as possible.
    """
    return _reordered(prompt, range(prompt.shots)[::-1])


def order_shuffled(prompt: Prompt, draw: Draw) -> Prompt:
    """Put the demonstrations into a random order that is not the present one.

    Keeps: every demonstration as it is.
    Destroys: the order; uniform among all others.
    """
    rng = draw.rng()
    same = list(range(prompt.shots))
    order = same
    while order == same:
        order = [int(source) for source in rng.permutation(prompt.shots)]
    return _reordered(prompt, order)


def order_permutation(prompt: Prompt, draw: Draw, *, index: int, at_most: int = 24) -> Prompt:
    """Put the demonstrations into order number ``index`` of :func:`order_permutations`, to measure what order explains.

    Keeps: every demonstration as it is. The numbering depends on the seed and the number of shots alone, so that an
    index is one level of one factor over all targets.
    Destroys: the order; the present one is among the orders, as a study of their variance needs it.
    """
    orders = order_permutations(prompt.shots, at_most=at_most, seed=draw.seed)
    if not 0 <= index < len(orders):
        raise BadInput(
            f"there is no order number {index} of {prompt.shots} demonstrations",
            given=f"index={index}",
            present=f"0 to {len(orders) - 1}",
            fix="pass one of these; order_permutations lists them",
        )
    return _reordered(prompt, orders[index])


def order_permutations(shots: int, *, at_most: int = 24, seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """List the orders of so many demonstrations: all when ``at_most`` allows it (first the present one), else a sample.

    The sample is uniform, without repeats, and a larger one begins with the smaller one. The default allows all orders
    of up to four demonstrations.

    >>> order_permutations(2)
    ((0, 1), (1, 0))
    >>> len(order_permutations(4)), len(order_permutations(10, at_most=20, seed=1))
    (24, 20)
    """
    if shots < 1 or at_most < 1:
        raise BadInput(
            "there are no orders to list", given=f"shots={shots}, at_most={at_most}", fix="pass 1 or more of both"
        )
    if math.factorial(shots) <= at_most:
        return tuple(itertools.permutations(range(shots)))
    rng = np.random.default_rng(int(stable_hash("order-permutation", seed, shots), 16))
    sampled: dict[tuple[int, ...], None] = {}
    while len(sampled) < at_most:
        sampled[tuple(int(source) for source in rng.permutation(shots))] = None
    return tuple(sampled)


def _reordered(prompt: Prompt, order: Sequence[int]) -> Prompt:
    return replace(prompt, demonstrations=tuple(prompt.demonstrations[source] for source in order))


ORDER_REVERSED = Control(order_reversed, conditions=WITH_DEMONSTRATIONS, at_least=2)
ORDER_SHUFFLED = Control(order_shuffled, conditions=WITH_DEMONSTRATIONS, at_least=2)
ORDER_PERMUTATION = Control(order_permutation, conditions=WITH_DEMONSTRATIONS, at_least=2, void="allowed")
