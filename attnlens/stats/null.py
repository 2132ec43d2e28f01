"""Judge a statistic by draws of it under a null that was made elsewhere, such as permuted modality labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from attnlens.errors import BadInput
from attnlens.stats.assignments import refuse_few_draws
from attnlens.stats.inputs import finite, one_of, places, row_blocks
from attnlens.stats.results import Alternative, PermutationTest, unflat
from attnlens.stats.tally import Tally, families

__all__ = ["against_null"]

Centre = Literal["zero", "null"]


def against_null(
    observed: ArrayLike,
    null: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    centre: Centre = "zero",
    over: Sequence[int] | Literal["all"] = "all",
    alpha: float = 0.05,
    name: str = "statistic",
) -> PermutationTest:
    """Compare an observed statistic with draws of it under the null, cell by cell and over families by max-T.

    Parameters
    ----------
    observed
        The statistic of the data [...], such as a log density ratio per layer.
    null
        The same statistic of each draw under the null [draws, ...].
    centre
        What extreme is measured from: ``"zero"``, or the mean of the draws (``"null"``) when the null itself prefers a
        side, as permuted labels of unequal length may.
    over
        Axes of ``null`` that are searched together; axis 0 is the draws, so 1 is the first axis of ``observed``.
    alpha
        The level that the test must be able to reach; too few draws for that are refused.
    name
        What the result calls the statistic.

    >>> null = np.random.default_rng(0).normal(size=(999, 2))
    >>> against_null([0.3, 4.0], null).p.tolist()
    [0.773, 0.001]
    """
    data, drawn = finite(observed, "observed", axes=0), finite(null, "null")
    if drawn.shape[1:] != data.shape:
        raise BadInput(
            "the draws under the null have other axes than the observed statistic",
            given=f"observed of shape {data.shape}, null of shape {drawn.shape}",
            present="expected null [draws, ...] behind observed [...]",
        )
    one_of(alternative, Alternative, "alternative")
    one_of(centre, Centre, "centre")
    refuse_few_draws(len(drawn), alpha)
    family = families(data.shape, over)
    cells = data.astype(np.float64).ravel()
    flat = drawn.reshape(len(drawn), -1)
    draws = len(flat)
    # The observed value is one of the exchangeable draws, so it has its part in the centre and in the scale.
    middle = np.zeros_like(cells) if centre == "zero" else (cells + flat.sum(axis=0, dtype=np.float64)) / (1 + draws)
    squares = (cells - middle) ** 2
    for rows in row_blocks(draws, len(cells)):
        squares += ((flat[rows] - middle) ** 2).sum(axis=0)
    scale = np.sqrt(squares / (1 + draws))
    nothing = scale == 0
    safe = np.where(nothing, 1.0, scale)
    tally = Tally((cells - middle) / safe, alternative=alternative, family=family, draws=draws)
    for rows in row_blocks(draws, len(cells)):
        tally.add((flat[rows] - middle) / safe)
    notes = [f"constant{places(nothing, data.shape)}: the null does not vary, so p is 1"] if nothing.any() else []
    return PermutationTest(
        statistic=name,
        estimate=unflat(cells, data.shape),
        p=unflat(tally.p(), data.shape),
        p_family=unflat(tally.p_family(), data.shape),
        family=int(np.bincount(family).max()),
        alternative=alternative,
        test="comparison with the null",
        n=None,
        units=None,
        draws=draws,
        drawn="sampled",
        seed=None,
        scheme=f"measured from {'zero' if centre == 'zero' else 'the mean of the null'}",
        notes=tuple(notes),
    )
