"""Does looking foretell mattering? Rank correlation of every measure of attention with causal effect."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from attnlens.errors import BadInput
from attnlens.stats.findings import Finding, Findings
from attnlens.stats.judge import ALPHA
from attnlens.stats.multiple import holm
from attnlens.stats.rank import RankCorrelation, rank_correlation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Faithfulness", "faithfulness"]

FEWEST = 4


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Spearman's rho of each measure with the effect, the best first; prints as one line each."""

    found: Mapping[str, RankCorrelation]
    utterances: int

    def __getitem__(self, measure: str) -> RankCorrelation:
        return self.found[measure]

    def findings(self) -> Findings:
        """Say in sentences which measure foretells the effect: supported where interval and null exclude 0."""
        found = []
        # One question asked of several measures is a family.
        adjusted = holm([float(one.test.p) for one in self.found.values()])
        for p, (name, one) in zip(adjusted, self.found.items(), strict=True):
            # Without utterances the interval is over heads alone, and says nothing of other prompts.
            holds = self.utterances > 0 and p <= ALPHA and bool(one.interval.excludes()) and math.isfinite(one.rho)
            said = "foretells" if one.rho > 0 else "foretells by its absence"
            found.append(
                Finding(
                    name=f"faithfulness {name}",
                    claim=f"A head's {name.replace('_', ' ')} {said} what its loss costs.",
                    statistic="Spearman rho",
                    estimate=one.rho if math.isfinite(one.rho) else None,
                    low=float(one.interval.low),
                    high=float(one.interval.high),
                    p=float(p),
                    n=self.utterances,
                    verdict="supported" if holds else "inconclusive",
                    why=f"{one.cells} heads",
                )
            )
        return Findings(tuple(found))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per measure."""
        import pandas as pd

        rows = [
            {
                "measure": name,
                "rho": one.rho,
                "low": float(one.interval.low),
                "high": float(one.interval.high),
                "p": float(one.test.p),
                "cells": one.cells,
                "utterances": self.utterances,
            }
            for name, one in self.found.items()
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        over = f"{self.utterances} utterances" if self.utterances else "cells"
        head = f"Spearman correlation with the effect of a cut, over layers and heads; intervals over {over}"
        lines = [
            f"  {name:14} rho {one.rho:+.2f} [{one.interval.low:+.2f}, {one.interval.high:+.2f}], p = {one.test.p:.3g}"
            for name, one in self.found.items()
        ]
        return "\n".join([head, *lines])


def faithfulness(
    measures: Mapping[str, ArrayLike],
    effect: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    permuted: Literal["all", "within-layer"] = "all",
    seed: int = 0,
) -> Faithfulness:
    """Correlate maps [items, layers, ...] of several measures with one of effects, over all their cells.

    With fewer than four utterances the maps are averaged and the interval is over cells.

    >>> rng = np.random.default_rng(0)
    >>> effect = rng.random((8, 4, 4))
    >>> noise = rng.random(effect.shape)
    >>> found = faithfulness({"mass": effect + 0.1 * noise, "noise": noise}, effect)
    >>> list(found.found), bool(found["mass"].rho > 0.8)
    (['mass', 'noise'], True)
    """
    if not measures:
        raise BadInput("there is no measure to compare with the effect", fix="pass at least one")
    outcome = np.asarray(effect, dtype=np.float64)
    names = list(range(len(outcome))) if clusters is None else list(clusters)
    enough = len(set(names)) >= FEWEST
    found = {}
    for name, values in measures.items():
        array = np.asarray(values, dtype=np.float64)
        if array.shape != outcome.shape:
            raise BadInput(
                f"{name!r} and the effect are of different items or cells",
                given=f"shape {array.shape}",
                present=f"shape {outcome.shape}",
                fix="measure both on the same prompts",
            )
        first, second = (array, outcome) if enough else (array.mean(0), outcome.mean(0))
        found[name] = rank_correlation(
            first,
            second,
            drawn="items" if enough else "cells",
            clusters=names if enough and clusters is not None else None,
            permuted=permuted,
            resamples=2_000,
            draws=1_999,
            seed=seed,
        )
    ordered = dict(sorted(found.items(), key=lambda pair: -(pair[1].rho if math.isfinite(pair[1].rho) else -2.0)))
    return Faithfulness(ordered, len(set(names)) if enough else 0)
