"""Controls of a knockout: other keys at random, as many as were cut, or with as much attention on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BESIDE", "ENOUGH", "KEY_CONTROLS", "OTHER", "Beside", "KeyControl", "Matched", "random_keys"]

KeyControl = Literal["equal-count", "equal-mass"]
KEY_CONTROLS: tuple[KeyControl, ...] = ("equal-count", "equal-mass")
OTHER: Literal["other-answer"] = "other-answer"
"""The same ablation, and the reference of another utterance: what is used raises the cost of the right answer alone."""
Beside = Literal["equal-count", "equal-mass", "other-answer"]
BESIDE: tuple[Beside, ...] = (*KEY_CONTROLS, OTHER)
"""What stands beside an ablation."""
ENOUGH = 0.9
"""A control that reaches less of what was cut than this is shown, and decides nothing."""


@dataclass(frozen=True)
class Matched:
    """Keys drawn at random [positions], and how much of the count or mass of the cut ones they reach."""

    keys: NDArray[np.bool_]
    share: float


def random_keys(
    rows: NDArray[np.bool_],
    keys: NDArray[np.bool_],
    *,
    kind: KeyControl,
    spared: NDArray[np.bool_] | None = None,
    mass: NDArray[np.floating] | None = None,
    rng: np.random.Generator,
) -> Matched:
    """Draw keys that were not cut, among those that the rows can see, the first token left out.

    Parameters
    ----------
    rows, keys
        The edge that was cut, boolean [positions].
    kind
        ``equal-count`` draws as many as were cut; ``equal-mass`` draws until their attention comes nearest.
    spared
        Positions that are never drawn [positions]: what the rows cannot do without, whatever is asked.
    mass
        What the rows give each position in the layers cut [positions]; for ``equal-mass``.

    >>> rows, keys = np.arange(8) > 5, (np.arange(8) > 1) & (np.arange(8) < 4)
    >>> found = random_keys(rows, keys, kind="equal-count", rng=np.random.default_rng(0))
    >>> int(found.keys.sum()), bool((found.keys & keys).any()), found.share
    (2, False, 1.0)
    """
    last = int(np.flatnonzero(rows)[-1])
    others = np.flatnonzero(~(keys if spared is None else keys | spared)[: last + 1])
    others = rng.permutation(others[others > 0])
    drawn = np.zeros_like(keys)
    if kind == "equal-count":
        wanted = int(keys.sum())
        drawn[others[:wanted]] = True
        return Matched(drawn, min(len(others) / wanted, 1.0))
    weights = np.zeros(len(keys)) if mass is None else np.asarray(mass, dtype=np.float64)
    target = float(weights[keys].sum())
    reached = 0.0
    for key in others.tolist():
        # A key that would carry the sum past the target is passed over, the sum then ends close below it.
        if reached + weights[key] <= target:
            drawn[key] = True
            reached += float(weights[key])
    return Matched(drawn, reached / target if target > 0 else 0.0)
