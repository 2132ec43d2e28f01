"""The matched-pairs test that speech recognition evaluations report (MAPSSWE): a z of differences per segment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attnlens.errors import BadInput
from attnlens.stats.inputs import counted

__all__ = ["MatchedPairs", "matched_pairs"]

FEW = 30


@dataclass(frozen=True, kw_only=True)
class MatchedPairs:
    """Mean difference per segment, its spread, and z with its two-sided p under the normal distribution."""

    mean: float
    sd: float
    n: int
    z: float
    p: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f"matched pairs z = {self.z:.3f}, p = {self.p:.4g} (two-sided, {counted(self.n, 'segment')})"
        return "; ".join([told, *self.notes])


def matched_pairs(first: ArrayLike, second: ArrayLike) -> MatchedPairs:
    """Compare the errors of two systems segment by segment (Gillick and Cox 1989), as NIST's scoring does.

    z = mean(d) / (sd(d) / sqrt(n)) over the differences d of the segments, read against the normal distribution. For
    few segments it promises too much; the sign flip does not. Without any segment, or with one, nothing can be said: z
    is 0 and p is 1. Where all segments differ by the same amount z is infinite and p is 0. The notes say all of this.

    Parameters
    ----------
    first, second
        Errors of each system in each segment [segments].

    >>> print(matched_pairs([2, 1, 3, 1, 2, 2], [1, 1, 1, 0, 2, 1]))
    matched pairs z = 2.712, p = 0.006695 (two-sided, 6 segments); 6 segments are few for a normal approximation
    """
    one, other = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if one.ndim != 1 or one.shape != other.shape:
        raise BadInput("segments are not paired", given=f"shapes {one.shape} and {other.shape}")
    difference = one - other
    if not np.isfinite(difference).all():
        raise BadInput("errors are counts", given=f"{int((~np.isfinite(difference)).sum())} numbers not finite")
    n = len(difference)
    if n < 2:  # noqa: PLR2004 - no spread of one
        mean = float(difference.sum())
        note = "the systems make no error" if n == 0 else "one segment says nothing about its spread"
        return MatchedPairs(mean=mean, sd=0.0, n=n, z=0.0, p=1.0, notes=(note,))
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    notes = [f"{n} segments are few for a normal approximation"] if n < FEW else []
    if sd == 0:
        z = 0.0 if mean == 0 else math.copysign(math.inf, mean)
        notes.append("constant: no segment differs" if mean == 0 else "constant: all segments differ by the same")
    else:
        z = mean / (sd / math.sqrt(n))
    return MatchedPairs(mean=mean, sd=sd, n=n, z=z, p=math.erfc(abs(z) / math.sqrt(2)), notes=tuple(notes))
