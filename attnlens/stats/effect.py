"""How large is it? Changes of likelihood in nats per token and bits per character, and in standard deviations."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput, listing
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.inputs import counted, finite, paired, places, shape_name
from attnlens.stats.intervals import RESAMPLES
from attnlens.stats.results import Interval, Method, Numbers, unflat
from attnlens.stats.sums import Sums

__all__ = ["NLLEffect", "StandardisedEffect", "nll_effect", "standardised_effect"]

FEWEST_FOR_G = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class StandardisedEffect:
    """A paired effect in standard deviations of its differences: ``d`` = mean / sd, ``g`` corrected for few items.

    Comparable across measures of different units, not across corpora: longer utterances vary less.
    """

    d: Numbers
    g: Numbers
    n: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if np.ndim(self.d) == 0:
            found = f"standardised effect d = {self.d:.3g} (g = {self.g:.3g}, {counted(self.n, 'item')})"
        else:
            found = (
                f"{shape_name(np.shape(self.d))} standardised effects d from {np.min(self.d):.3g} "
                f"to {np.max(self.d):.3g} ({counted(self.n, 'item')})"
            )
        return "; ".join([found, *self.notes])


@dataclass(frozen=True, eq=False, kw_only=True)
class NLLEffect:
    """What a change costs the output, in the model's own unit and in one that is comparable across tokenizers.

    Positive means that the output became less likely. All three describe the same differences.
    """

    nats_per_token: Interval
    bits_per_character: Interval
    standardised: StandardisedEffect
    n: int
    tokens: int
    characters: int

    def __str__(self) -> str:
        return (
            f"nats per token: {self.nats_per_token}\nbits per character: {self.bits_per_character}\n"
            f"{self.standardised}\n{counted(self.n, 'item')}, {counted(self.tokens, 'token')}, "
            f"{counted(self.characters, 'character')}"
        )


def nll_effect(
    nll: ArrayLike,
    *,
    minus: ArrayLike,
    tokens: ArrayLike,
    characters: ArrayLike,
    clusters: Iterable[Hashable] | None = None,
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> NLLEffect:
    """Measure by how much a knockout, control or condition changes the likelihood of the same outputs.

    Parameters
    ----------
    nll
        Negative log-likelihood of each item's whole output under the change, in nats [items, ...].
    minus
        The same without the change [items, ...].
    tokens, characters
        Length of each output [items].
    clusters, method, level, resamples, seed
        As in :func:`attnlens.stats.bootstrap.bootstrap`.

    >>> cut, clean = [9.0, 6.5, 8.0, 7.0], [7.0, 6.0, 7.5, 7.0]
    >>> effect = nll_effect(cut, minus=clean, tokens=[5, 4, 6, 5], characters=[20, 15, 24, 21])
    >>> float(effect.nats_per_token.estimate), float(effect.bits_per_character.estimate.round(4))
    (0.15, 0.0541)
    """
    changed = finite(nll, "nll")
    clean = paired(changed, minus, "minus")
    tokens, characters = (
        _lengths(*one, items=len(changed)) for one in ((tokens, "tokens"), (characters, "characters"))
    )
    groups = None if clusters is None else list(clusters)

    def interval(nats: float, per: NDArray[np.float64]) -> Interval:
        return bootstrap(
            changed / nats,
            minus=clean / nats,
            per=per,
            clusters=groups,
            method=method,
            level=level,
            resamples=resamples,
            seed=seed,
        )

    per_token = interval(1.0, tokens)
    column = tokens.reshape(-1, *[1] * (changed.ndim - 1))
    return NLLEffect(
        nats_per_token=per_token,
        bits_per_character=interval(math.log(2), characters),
        standardised=standardised_effect(changed / column, minus=clean / column),
        n=len(changed),
        tokens=int(tokens.sum()),
        characters=int(characters.sum()),
    )


def standardised_effect(values: ArrayLike, *, minus: ArrayLike | None = None) -> StandardisedEffect:
    """Express paired differences [items, ...] in their own standard deviations, to compare measures of different units.

    Data that differ by the same amount everywhere have no spread to compare with: their effect is infinite, which the
    notes say.

    >>> print(standardised_effect([1.0, 3.0, 2.0, 2.0]))
    standardised effect d = 2.45 (g = 1.77, 4 items)
    """
    from scipy.special import gammaln

    data = Sums.of(values, minus=minus)
    data.units.require(2, "a standard deviation")
    residuals, mean = data.residuals()
    n = data.units.count
    sd = np.sqrt((residuals**2).sum(axis=0) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        d = np.where(mean == 0, 0.0, mean / sd)
    # The exact factor of Hedges (1981), not its usual approximation.
    half = (n - 1) / 2
    few = math.exp(gammaln(half) - gammaln(half - 0.5)) / math.sqrt(half) if n >= FEWEST_FOR_G else math.nan
    constant = sd == 0
    notes = [f"constant{places(constant, data.shape)}: the differences have no spread"] if constant.any() else []
    if n < FEWEST_FOR_G:
        notes.append("g does not exist for 2 items")
    return StandardisedEffect(d=unflat(d, data.shape), g=unflat(d * few, data.shape), n=n, notes=tuple(notes))


def _lengths(values: ArrayLike, name: str, *, items: int) -> NDArray[np.float64]:
    lengths = finite(values, name).astype(np.float64)
    if lengths.shape != (items,):
        raise BadInput(f"{name} needs one length per item", given=f"shape {lengths.shape}", present=f"{items:,} items")
    empty = np.flatnonzero(lengths <= 0)
    if len(empty):
        raise BadInput(
            f"{counted(len(empty), 'item')} without {name}",
            given=f"items {listing(empty, at_most=6)}",
            fix="leave items with an empty output out of every array, and report how many",
        )
    return lengths
