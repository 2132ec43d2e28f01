"""How small an effect would these data have shown, and how many items would another effect need?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attnlens.errors import BadInput
from attnlens.stats.inputs import probability, shape_name, whole
from attnlens.stats.results import Numbers, unflat
from attnlens.stats.sums import Sums

__all__ = ["Detectable", "detectable_difference", "items_needed", "paired_power"]

ALPHA, POWER = 0.05, 0.8
NEGLIGIBLE = 1e-15


@dataclass(frozen=True, eq=False, kw_only=True)
class Detectable:
    """The smallest true difference that a two-sided test at ``alpha`` would find with probability ``power``.

    ``sd`` is the spread of one unit (item or cluster) that the test works against; ``items_needed`` takes it.
    """

    difference: Numbers
    sd: Numbers
    n: int
    units: int
    alpha: float
    power: float
    scheme: str

    def __str__(self) -> str:
        told = f"{100 * self.power:g} % power at {self.alpha:g}, two-sided, {self.scheme}"
        if np.ndim(self.difference) == 0:
            return f"detectable difference {self.difference:.4g} ({told})"
        return (
            f"detectable differences of {shape_name(np.shape(self.difference))} cells from "
            f"{np.min(self.difference):.4g} to {np.max(self.difference):.4g} ({told})"
        )


def detectable_difference(
    values: ArrayLike,
    *,
    minus: ArrayLike | None = None,
    per: ArrayLike | None = None,
    clusters: Iterable[Hashable] | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
) -> Detectable:
    """Say what a paired comparison could have found, so that "no difference" is not read from a small sample.

    Parameters
    ----------
    values, minus, per, clusters
        As in :func:`attnlens.stats.bootstrap.bootstrap`. With ``per`` or ``clusters`` the spread is that of the ratio,
        linearised, with clusters as units.
    alpha, power
        Level of the test (divide it by the number of tests when they are corrected) and wanted probability.

    >>> errors, other, words = [3, 0, 1, 2, 0, 4, 1, 1], [2, 0, 1, 1, 0, 2, 1, 0], [9, 7, 8, 10, 6, 11, 8, 9]
    >>> print(detectable_difference(errors, minus=other, per=words))
    detectable difference 0.08708 (80 % power at 0.05, two-sided, 8 items)
    """
    data = Sums.of(values, minus=minus, per=per, clusters=clusters)
    units = data.units
    units.require(2, "a standard deviation")
    residuals, _ = data.residuals()
    sd = np.sqrt((residuals**2).sum(axis=0) / (units.count - 1)) * units.count / data.weights().sum(axis=0)
    difference = sd * (_shift(units.count, alpha=alpha, power=power) / math.sqrt(units.count))
    return Detectable(
        difference=unflat(difference, data.shape),
        sd=unflat(sd, data.shape),
        n=units.items,
        units=units.count,
        alpha=alpha,
        power=power,
        scheme=str(units),
    )


def items_needed(effect: float, *, sd: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Say how many items (or clusters, if ``sd`` is theirs) a paired two-sided test needs to find ``effect``.

    >>> items_needed(0.05, sd=0.2)
    128
    """
    if not (math.isfinite(effect) and math.isfinite(sd)) or effect == 0 or sd < 0:
        raise BadInput(
            "an effect needs a size and a spread", given=f"effect {effect}, sd {sd}", fix="pass effect != 0 and sd >= 0"
        )
    _levels(alpha, power)
    from scipy.special import ndtri

    # The normal approximation asks for a few too few; the t distribution says how many.
    n = max(2, math.ceil(((ndtri(1 - alpha / 2) + ndtri(power)) * sd / effect) ** 2))
    while paired_power(effect, sd=sd, n=n, alpha=alpha) < power:
        n += 1
    return n


def paired_power(effect: float, *, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the probability that a two-sided paired t-test of ``n`` items finds a true ``effect``.

    The sign-flip test has the same power up to its granularity, unless the differences have heavy tails.

    >>> round(paired_power(0.05, sd=0.2, n=128), 3)
    0.802
    """
    whole(n, "n", at_least=2, why="for a standard deviation")
    probability(alpha, "alpha")
    return 1.0 if sd == 0 else _power(abs(effect) / sd * math.sqrt(n), n, alpha)


def _power(shift: float, n: int, alpha: float) -> float:
    """Integrate over the estimated spread what a normal mean, ``shift`` standard errors from zero, does against it.

    scipy's noncentral t gives NaN in the tail away from the shift, from a few standard errors on.
    """
    from scipy.integrate import quad
    from scipy.special import ndtr
    from scipy.stats import chi, t

    freedom = n - 1
    root = math.sqrt(freedom)
    edge = t.isf(alpha / 2, freedom)

    def found(spread: float) -> float:
        beyond = ndtr(shift - edge * spread) + ndtr(-shift - edge * spread)
        return float(beyond * chi.pdf(spread * root, freedom) * root)

    ends = chi.ppf(NEGLIGIBLE, freedom) / root, chi.isf(NEGLIGIBLE, freedom) / root
    turn = min(max(shift / edge, ends[0]), ends[1])
    power, _ = quad(found, *ends, points=[turn, 1.0], limit=200, epsabs=1e-12, epsrel=1e-10)
    return min(1.0, float(power))


def _shift(n: int, *, alpha: float, power: float) -> float:
    """Return how many standard errors from zero a true difference must be."""
    from scipy.optimize import brentq

    _levels(alpha, power)
    high = 1.0
    while _power(high, n, alpha) < power:
        high *= 2
    return float(brentq(lambda shift: _power(shift, n, alpha) - power, 0.0, high, xtol=1e-12))


def _levels(alpha: float, power: float) -> None:
    if probability(power, "power") <= probability(alpha, "alpha"):
        raise BadInput("power must exceed alpha", given=f"power {power}, alpha {alpha}", fix="pass power=0.8")
