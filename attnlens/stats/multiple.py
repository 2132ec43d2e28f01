"""Many tests, some of them false alarms: adjusted p-values that can be read against the usual level."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted, finite
from attnlens.stats.results import Numbers, unflat

__all__ = ["benjamini_hochberg", "holm"]


def holm(p: ArrayLike) -> Numbers:
    """Adjust p-values so that those up to 0.05 hold a false alarm in at most 5 % of studies.

    The whole array [...] is one family. Holds for any dependence of the tests. For a handful of planned comparisons
    (controls, languages); for layers and heads the max-T of the permutation tests loses less.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values, shape = _checked(p)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    return _ranked(np.maximum.accumulate(steps), order, shape)


def benjamini_hochberg(p: ArrayLike) -> Numbers:
    """Adjust p-values so that of those up to 0.05 at most 5 % are false alarms on average.

    The whole array [...] is one family. Holds for independent and for positively dependent tests. For screening many
    heads of which some will be looked at again.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """
    values, shape = _checked(p)
    order = np.argsort(values, kind="stable")
    steps = values[order] * (len(values) / np.arange(1, len(values) + 1))
    return _ranked(np.minimum.accumulate(steps[::-1])[::-1], order, shape)


def _checked(p: ArrayLike) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    array = finite(p, "p", axes=0)
    outside = int(((array < 0) | (array > 1)).sum())
    if outside:
        raise BadInput(
            f"{counted(outside, 'p-value')} outside 0 to 1",
            given=f"between {array.min()} and {array.max()}",
            fix="pass p-values, not test statistics",
        )
    return array.ravel().astype(np.float64), array.shape


def _ranked(adjusted: NDArray[np.float64], order: NDArray[np.intp], shape: tuple[int, ...]) -> Numbers:
    back = np.empty_like(adjusted)
    back[order] = np.minimum(adjusted, 1.0)
    return unflat(back, shape)
