"""Do heads that look also matter? Rank correlation of two maps over layers and heads, with interval and null."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.assignments import refuse_few_draws
from attnlens.stats.inputs import counted, finite, generator, one_of, paired, row_blocks
from attnlens.stats.intervals import RESAMPLES, finished, refuse_plan
from attnlens.stats.null import against_null
from attnlens.stats.permutation import DRAWS
from attnlens.stats.results import Alternative, Interval, Method, PermutationTest
from attnlens.stats.statistic import bootstrap_counts
from attnlens.stats.units import Units

__all__ = ["RankCorrelation", "rank_correlation"]

Drawn = Literal["items", "cells"]
Permuted = Literal["all", "within-layer"]
Replicates = Callable[[NDArray[np.float64]], NDArray[np.float64]]
ALPHA = 0.05
FEWEST_CELLS = 5
"""Two of the 4! orders of four cells are 8 % of them; of five, 2 %."""
NAME = "Spearman rho"
DIGITS = 2.0**40


@dataclass(frozen=True, eq=False, kw_only=True)
class RankCorrelation:
    """Spearman's rho between two maps: how sure it is, and whether heads in any other order would do as well."""

    interval: Interval
    test: PermutationTest
    cells: int

    @property
    def rho(self) -> float:
        """The correlation itself; NaN when one map is constant."""
        return float(self.interval.estimate)

    def __str__(self) -> str:
        return f"{self.interval}\np = {self.test.p:.4g} ({self.test.test}, {self.test.scheme})"


def rank_correlation(
    measure: ArrayLike,
    effect: ArrayLike,
    *,
    drawn: Drawn = "items",
    permuted: Permuted = "all",
    clusters: Iterable[Hashable] | None = None,
    alternative: Alternative = "two-sided",
    method: Method = "bca",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> RankCorrelation:
    """Ask whether a measure, such as attention mass, ranks layers and heads as their causal effect does.

    Parameters
    ----------
    measure, effect
        Two maps [items, layer, ...] of the same items, averaged over items before they are ranked; or, with
        ``drawn="cells"``, two finished maps [layer, ...].
    drawn
        What the interval is about: ``"items"``, these very heads with other utterances; ``"cells"``, other heads.
    permuted
        The null: ``"all"`` gives every head the effect of any other; ``"within-layer"`` exchanges heads of a layer
        only, which asks whether the measure knows more than the layer.
    clusters
        A label per item (not for ``drawn="cells"``); items of one speaker or recording are then drawn as one.
    alternative, method, level, resamples, draws, seed
        As in the bootstrap and the permutation tests.

    >>> rng = np.random.default_rng(0)
    >>> mass = rng.random((12, 4, 3))
    >>> found = rank_correlation(mass, mass.mean(axis=0) + 0.1 * rng.normal(size=(12, 4, 3)), resamples=999, draws=999)
    >>> round(found.rho, 2), bool(found.test.p < 0.05)
    (0.9, True)
    """
    one_of(drawn, Drawn, "choice of what is drawn")
    one_of(permuted, Permuted, "null")
    one_of(alternative, Alternative, "alternative")
    refuse_few_draws(draws, ALPHA)
    leading = 1 if drawn == "items" else 0
    first = finite(measure, "measure", axes=leading + 1)
    second = paired(first, effect, "effect", axes=leading)
    shape = first.shape[leading:]
    _refuse(shape, permuted, drawn, clusters)
    pair = [array.reshape(*array.shape[:leading], -1).astype(np.float64) for array in (first, second)]
    if drawn == "items":
        units = Units.of(clusters, items=len(first))
        maps = [array.mean(axis=0) for array in pair]
        replicates = _over_items(pair[0], pair[1], units)
    else:
        units = Units.of(None, items=len(pair[0]))
        maps, replicates = pair, _over_cells(pair[0], pair[1], units)
    refuse_plan(units, method=method, level=level, resamples=resamples)
    ranked = [_standard_ranks(one[None])[0] for one in maps]
    constant = [name for name, ranks in zip(("measure", "effect"), ranked, strict=True) if not ranks.any()]
    test = _permutation(*ranked, shape=shape, permuted=permuted, alternative=alternative, draws=draws, seed=seed)
    if constant:
        interval = _undefined(units, constant, method=method, level=level, resamples=resamples, seed=seed)
        test = replace(test, estimate=np.float64(np.nan), notes=interval.notes)
    else:
        interval = bootstrap_counts(
            replicates, units, name=NAME, method=method, level=level, resamples=resamples, seed=seed
        )
    n = units.items if drawn == "items" else None
    return RankCorrelation(interval=interval, test=replace(test, n=n, units=n and units.count), cells=len(maps[0]))


def _over_items(measure: NDArray[np.float64], effect: NDArray[np.float64], units: Units) -> Replicates:
    sums = [units.sums(array) for array in (measure, effect)]
    sizes = units.sums(np.ones((units.items, 1)))

    def replicates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.empty(len(counts))
        for rows in row_blocks(len(counts), measure.shape[1]):
            items = counts[rows] @ sizes
            found[rows] = _correlation(*(counts[rows] @ one / items for one in sums))
        return found

    return replicates


def _over_cells(measure: NDArray[np.float64], effect: NDArray[np.float64], units: Units) -> Replicates:
    def replicates(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = np.stack([units.members(count) for count in counts])
        return _correlation(measure[drawn], effect[drawn])

    return replicates


def _correlation(measure: NDArray[np.float64], effect: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Spearman's rho of each row [rows, cells], NaN for constant rows."""
    first, second = _standard_ranks(measure), _standard_ranks(effect)
    rho = np.clip((first * second).sum(axis=1), -1.0, 1.0)
    return np.where(first.any(axis=1) & second.any(axis=1), rho, np.nan)


def _standard_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centred ranks of unit length [rows, cells], ties sharing their mean rank; zeros for constant rows."""
    from scipy.stats import rankdata

    # Means of equal cells may differ in their last bits with their place in a product, and must tie all the same.
    mantissa, exponent = np.frexp(values)
    ranks = rankdata(np.ldexp(np.round(mantissa * DIGITS), exponent), axis=1)
    centred = ranks - (values.shape[1] + 1) / 2
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)


def _permutation(
    measure: NDArray[np.float64],
    effect: NDArray[np.float64],
    *,
    shape: tuple[int, ...],
    permuted: Permuted,
    alternative: Alternative,
    draws: int,
    seed: int,
) -> PermutationTest:
    cells = len(measure)
    blocks = shape[0] if permuted == "within-layer" else 1
    starts = np.arange(blocks)[:, None] * (cells // blocks)
    rng = generator(seed)
    null = np.empty(draws)
    for rows in row_blocks(draws, cells):
        keys = rng.random((rows.stop - rows.start, blocks, cells // blocks))
        order = np.argsort(keys, axis=2) + starts
        null[rows] = effect[order.reshape(-1, cells)] @ measure
    # With layers kept, what the layers share stays in the null, which then is not centred on zero.
    centre: Literal["zero", "null"] = "zero" if permuted == "all" else "null"
    test = against_null(measure @ effect, null, alternative=alternative, centre=centre, name=NAME)
    where = f"{counted(cells, 'cell')}" + ("" if permuted == "all" else f", within {counted(blocks, 'layer')}")
    return replace(test, test="rank permutation", scheme=where, seed=seed)


def _undefined(
    units: Units, constant: list[str], *, method: Method, level: float, resamples: int, seed: int
) -> Interval:
    # NaN rather than zero: zero would claim that the maps are unrelated.
    nan, no = np.full(1, np.nan), np.zeros(1, dtype=bool)
    made = finished(
        NAME,
        estimate=nan,
        low=nan,
        high=nan,
        shape=(),
        units=units,
        constant=no,
        undefined=no,
        method=method,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    verb = "is" if len(constant) == 1 else "are"
    return replace(
        made, notes=(f"{' and '.join(constant)} {verb} constant: there are no ranks, so p is 1", *made.notes)
    )


def _refuse(shape: tuple[int, ...], permuted: Permuted, drawn: Drawn, clusters: object) -> None:
    cells = int(np.prod(shape, dtype=int))
    if cells < FEWEST_CELLS:
        raise BadInput(
            f"{counted(cells, 'cell')} {'is' if cells == 1 else 'are'} too few for a rank correlation",
            given=f"maps of shape {shape}",
            present=f"at least {FEWEST_CELLS} cells needed",
            fix="rank over layers x heads, not layers alone" if cells else None,
        )
    if permuted == "within-layer" and (len(shape) == 1 or shape[1] == 1):
        raise BadInput(
            "heads cannot be exchanged within layers of one cell",
            given=f"maps of shape {shape}",
            fix="pass maps over layers and heads, or permuted='all'",
        )
    if drawn == "cells" and clusters is not None:
        raise BadInput(
            "clusters are clusters of items, and there are no items in finished maps",
            given="drawn='cells' with clusters",
            fix="pass maps with an item axis and drawn='items', or no clusters",
        )
