"""Could chance alone have done this? Sign flips for paired items, label permutation for two groups, max-T for both."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput, listing
from attnlens.stats.assignments import label_blocks, refuse_few_labels, refuse_few_signs, sign_blocks
from attnlens.stats.inputs import counted, finite, one_of, places
from attnlens.stats.results import Alternative, PermutationTest, unflat
from attnlens.stats.sums import ROUNDING, Sums
from attnlens.stats.tally import Tally, families
from attnlens.stats.units import Units

__all__ = ["DRAWS", "label_permutation", "sign_flip"]

DRAWS = 9_999
"""One less than a round number, so that p-values are round ones: (1 + as extreme) / 10,000."""


def sign_flip(
    values: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    per: ArrayLike | None = None,
    clusters: Iterable[Hashable] | None = None,
    alternative: Alternative = "two-sided",
    over: Sequence[int] | Literal["all"] = "all",
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> PermutationTest:
    """Test whether paired differences are centred on zero: under the null each could as well have the other sign.

    For two systems on the same utterances this is approximate randomisation: swapping the systems of an utterance flips
    the sign of its difference. When there are no more than ``draws`` other ways to flip, all are looked at.

    Parameters
    ----------
    values, minus
        Two conditions of the same items [items, ...], or their differences alone.
    per
        Denominators [items] or [items, ...], for an estimate that is a difference of ratios; p does not depend on it.
    clusters
        A label per item; the differences of one speaker or recording then flip together.
    over
        The axes that are searched together, for ``p_family``: ``(1, 2)`` for layers x heads, ``(2,)`` for heads within
        each layer. Cells are compared on the scale of their own t statistic.
    alpha
        The level that the test must be able to reach; too few items for that are refused.
    draws, seed
        How many random assignments, and what makes them the same again.

    >>> print(sign_flip([0.4, 0.1, 0.3, 0.2, 0.5, -0.1, 0.3, 0.2]))
    mean 0.2375, p = 0.02344 (two-sided sign flip, 8 items, all 255 other assignments)
    """
    data = Sums.of(values, minus=minus, per=per, clusters=clusters)
    one_of(alternative, Alternative, "alternative")
    family = families(data.shape, over)
    units = data.units
    refuse_few_signs(units, alternative=alternative, alpha=alpha, draws=draws)
    numerators = data.numerators()
    standard = _standardised(numerators)
    made, exhaustive, blocks = sign_blocks(units.count, draws=draws, width=data.cells, seed=seed)
    tally = Tally(standard.sum(axis=0), alternative=alternative, family=family, draws=made)
    for signs in blocks:
        tally.add(signs @ standard)
    nothing = np.asarray(~standard.any(axis=0))
    same = (numerators == numerators[0]).all(axis=0) & ~nothing
    notes = units.notes()
    if nothing.any():
        notes.append(f"constant{places(nothing, data.shape)}: no {units.noun} differs, so p is 1")
    if same.any():
        notes.append(f"constant{places(same, data.shape)}: every {units.noun} differs by the same amount")
    if not data.shape and (equal := int((numerators == 0).sum())) and not nothing.any():
        notes.append(f"{equal:,} of {counted(units.count, units.noun)} {'does' if equal == 1 else 'do'} not differ")
    return PermutationTest(
        statistic=data.name,
        estimate=unflat(data.estimate(), data.shape),
        p=unflat(tally.p(), data.shape),
        p_family=unflat(tally.p_family(), data.shape),
        family=int(np.bincount(family).max()),
        alternative=alternative,
        test="sign flip",
        n=units.items,
        units=units.count,
        draws=made,
        drawn="all" if exhaustive else "sampled",
        seed=seed,
        scheme=str(units),
        notes=tuple(notes),
    )


def label_permutation(
    first: ArrayLike,
    second: ArrayLike,
    *,
    clusters: tuple[Iterable[Hashable], Iterable[Hashable]] | None = None,
    alternative: Alternative = "two-sided",
    over: Sequence[int] | Literal["all"] = "all",
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> PermutationTest:
    """Test whether two groups of different items are alike: under the null any item could carry either label.

    The statistic is mean(first) - mean(second). For the same items under two conditions use :func:`sign_flip`.

    Parameters
    ----------
    first, second
        The groups [items, ...]; numbers of items may differ.
    clusters
        A label per item of each group; whole clusters then change groups, and no cluster may be in both.
    alternative, over, alpha, draws, seed
        As in :func:`sign_flip`; ``"greater"`` means that the first group is greater.

    >>> print(label_permutation([3.1, 2.9, 3.4, 3.3], [2.1, 2.8, 2.0, 2.2, 2.4]))
    difference of means 0.875, p = 0.01587 (two-sided label permutation, 4 against 5 items, all 125 other assignments)
    """
    one, other = finite(first, "first"), finite(second, "second")
    shape = one.shape[1:]
    if shape != other.shape[1:]:
        raise BadInput(
            "the groups have different axes behind the items",
            given=f"first of shape {one.shape}, second of shape {other.shape}",
        )
    one_of(alternative, Alternative, "alternative")
    family = families(shape, over)
    units, in_first = _groups(len(one), len(other), clusters)
    size = int(in_first.sum())
    refuse_few_labels(units, size, alternative=alternative, alpha=alpha, draws=draws)
    pooled = np.concatenate([one, other]).reshape(units.items, -1).astype(np.float64)
    centred = pooled - pooled.mean(axis=0)
    centred[np.abs(centred) <= ROUNDING * np.abs(pooled).max(axis=0)] = 0.0
    estimate = centred[: len(one)].mean(axis=0) - centred[len(one) :].mean(axis=0)
    standard, sizes = _standardised(units.sums(centred)), units.sums(np.ones((units.items, 1)))

    def differences(labels: NDArray[np.float64]) -> NDArray[np.float64]:
        inside, items = labels @ standard, labels @ sizes
        return (inside / items - (standard.sum(axis=0) - inside) / (units.items - items)) * units.items

    made, exhaustive, blocks = label_blocks(in_first, draws=draws, width=len(family), seed=seed)
    observed = differences(in_first[None].astype(np.float64))[0]
    tally = Tally(observed, alternative=alternative, family=family, draws=made)
    for labels in blocks:
        tally.add(differences(labels))
    notes = units.notes()
    if (nothing := np.asarray(~standard.any(axis=0))).any():
        notes.append(f"constant{places(nothing, shape)}: all {units.noun}s are alike, so p is 1")
    scheme = f"{len(one):,} against {counted(len(other), 'item')}"
    if units.clustered:
        scheme += f" in {size:,} against {counted(units.count - size, 'cluster')}"
    return PermutationTest(
        statistic="difference of means",
        estimate=unflat(estimate, shape),
        p=unflat(tally.p(), shape),
        p_family=unflat(tally.p_family(), shape),
        family=int(np.bincount(family).max()),
        alternative=alternative,
        test="label permutation",
        n=units.items,
        units=units.count,
        draws=made,
        drawn="all" if exhaustive else "sampled",
        seed=seed,
        scheme=scheme,
        notes=tuple(notes),
    )


def _standardised(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    # Flips and permuted labels leave the root sum of squares alone. Over it, the statistic is an increasing function of
    # t, the same one for every cell: the largest of these over a family is the largest t.
    largest = np.abs(sums).max(axis=0)
    scaled = np.divide(sums, largest, out=np.zeros_like(sums), where=largest > 0)
    norm = np.sqrt((scaled**2).sum(axis=0))
    return np.divide(scaled, norm, out=np.zeros_like(sums), where=norm > 0)


def _groups(
    first: int, second: int, clusters: tuple[Iterable[Hashable], Iterable[Hashable]] | None
) -> tuple[Units, NDArray[np.bool_]]:
    """Return the units of both groups together, and which of them are in the first [units]."""
    if clusters is None:
        return Units.of(None, items=first + second), np.arange(first + second) < first
    labels = [list(group) for group in clusters]
    for group, items, name in zip(labels, (first, second), ("first", "second"), strict=True):
        Units.of(group, items=items, name=f"clusters of the {name} group")
    both = sorted(set(labels[0]) & set(labels[1]), key=str)
    if both:
        raise BadInput(
            f"{counted(len(both), 'cluster')} with items in both groups",
            given=listing(both, at_most=6),
            fix="compare within clusters: average each cluster's items per group and use sign_flip",
        )
    units = Units.of([*labels[0], *labels[1]], items=first + second)
    return units, np.arange(units.count) < len(set(labels[0]))
