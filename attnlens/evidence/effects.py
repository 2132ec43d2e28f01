"""What ablations cost, prompt by prompt, and the one table that compares them at every depth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.evidence.asked import Asked, Patched
from attnlens.evidence.random_keys import ENOUGH
from attnlens.stats.findings import Finding, Findings
from attnlens.stats.judge import Claim, judge

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ablations", "Effect", "RandomCut"]

Numbers = NDArray[np.float64]
UNIT = "nats per token"
NEAR_ZERO = 0.02
"""Nats per token: a corruption that costs less than this leaves nothing to recover, so a recovery is undefined."""


@dataclass(frozen=True, eq=False)
class RandomCut:
    """What cutting random keys costs [items], in nats, and how much of the count or mass they match [items]."""

    change: Numbers
    share: Numbers


@dataclass(frozen=True, eq=False)
class Effect:
    """One ablation in one window of layers: the change of the answer's cost [items] in nats, NaN where there is none.

    Of a patch, ``change`` is against the corrupted prompt, whose own change is ``damage`` [items]. ``other`` [items] is
    the change of another utterance's reference under the same ablation, scaled to as many tokens.
    """

    asked: Asked
    layers: str
    change: Numbers
    mass: Numbers | None = None
    random: Mapping[str, RandomCut] = field(default_factory=dict)
    damage: Numbers | None = None
    other: Numbers | None = None
    whys: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The ablation and its layers as one name."""
        return f"{self.asked} @ {self.layers}" if self.layers else str(self.asked)


@dataclass(frozen=True, eq=False)
class Ablations:
    """Ablations at all depths of the same prompts, paired with the clean ones; prints and shows as one table.

    ``clean`` [items] is what the answers cost in nats, ``tokens`` and ``characters`` [items] how long they are,
    ``utterances`` [items] whose they are. Costs are nats per token: sums over prompts before ratios.
    """

    effects: tuple[Effect, ...]
    clean: Numbers
    tokens: Numbers
    characters: Numbers
    utterances: tuple[str, ...]
    model: str
    seed: int = 0

    def __len__(self) -> int:
        return len(self.effects)

    def __getitem__(self, name: str) -> Effect:
        """Return an effect by its name, ``output -> demo_text @ 2``; layers may be left out where there is one."""
        found = [one for one in self.effects if name in (one.name, str(one.asked))]
        if len(found) != 1:
            raise KeyError(name)
        return found[0]

    @cached_property
    def findings(self) -> Findings:
        """A verdict on every row: does the ablation cost more than nothing, and than its random controls?"""
        return judge([self.claim(one) for one in self.effects], seed=self.seed)

    def claim(self, effect: Effect, *, said: str | None = None, **options: Any) -> Claim:
        """Return the claim that an effect costs something, with the controls beside it."""
        patched = isinstance(effect.asked, Patched)
        controls: dict[str, Any] = {}
        for name, one in effect.random.items():
            known = np.isfinite(one.share)
            if known.any() and float(one.share[known].mean()) >= ENOUGH:
                controls[f"{name} random keys"] = one.change
            else:
                share = f"{100 * one.share[known].mean():.0f} %" if known.any() else "nothing"
                cost = np.nansum(one.change) / self.tokens.sum()
                controls[f"{name} random keys"] = f"other keys reach {share} of it, and cost {cost:+.3g}"
        if effect.other is not None:
            signed = -effect.other if patched else effect.other
            known = np.isfinite(signed) | ~np.isfinite(effect.change)
            controls["another answer"] = signed if known.all() else "no other utterance has another reference"
        where = f" in layers {effect.layers}" if effect.layers not in ("", "all") else ""
        verb = f"Patching {effect.asked}{where} restores the answer." if patched else f"{effect.asked}{where} costs."
        return Claim(
            name=effect.name,
            claim=said or verb,
            statistic=UNIT,
            values=-effect.change if patched else effect.change,
            per=self.tokens,
            clusters=self.utterances,
            controls=options.pop("controls", controls),
            **options,
        )

    def explain(self) -> Findings:
        """Return what the table says in sentences: paths, edges that are used, mass without effect.

        See :func:`attnlens.evidence.paths.explain`.
        """
        from attnlens.evidence.paths import explain

        return explain(self)

    def recovery(self, effect: Effect) -> tuple[float, int]:
        """Return the share of the damage that a patch undoes, and for how many prompts there was none to undo."""
        if effect.damage is None:
            raise BadInput("only a patch recovers something", given=effect.name, fix="ask for patch:demo_text")
        there = np.isfinite(effect.change)
        defined = there & (np.abs(effect.damage) >= NEAR_ZERO * self.tokens)
        undefined = int((there & ~defined).sum())
        total = float(effect.damage[defined].sum())
        return (float(-effect.change[defined].sum()) / total if total else math.nan), undefined

    def to_frame(self) -> pd.DataFrame:
        """Return the table: one row per ablation and window, all depths together."""
        import pandas as pd

        return pd.DataFrame([self._row(one, found) for one, found in zip(self.effects, self.findings, strict=True)])

    def knockouts(self) -> pd.DataFrame:
        """Return the cuts as :func:`attnlens.plots.cause.knockout_grid` takes them."""
        frame = self.to_frame()
        frame = frame[frame["depth"] == "attention"]
        if not len(frame):
            raise BadInput("no edge was cut", fix="ask for edges, such as 'output -> demo_text'")
        columns = {"ablation": "edge", "layers": "window", "cost": "estimate"}
        return frame.rename(columns=columns)[["edge", "window", "estimate", "low", "high", "mass", "verdict"]]

    def _row(self, effect: Effect, found: Finding) -> dict[str, Any]:
        there = np.isfinite(effect.change)
        total = float(np.nansum(effect.change))
        patched = effect.damage is not None
        nothing = not there.any()
        sign = -1.0 if patched else 1.0
        row: dict[str, Any] = {
            "depth": effect.asked.depth,
            "ablation": str(effect.asked),
            "layers": effect.layers,
            "n": found.n,
            "cost": math.nan if nothing else total / float(self.tokens[there].sum()),
            "low": _number(found.high if patched else found.low) * sign,
            "high": _number(found.low if patched else found.high) * sign,
            "p": _number(found.p),
            "bits_per_character": math.nan if nothing else total / math.log(2) / float(self.characters[there].sum()),
            "mass": math.nan if effect.mass is None or nothing else float(np.nanmean(effect.mass)),
        }
        for name, one in effect.random.items():
            key = name.replace("-", "_")
            known = np.isfinite(one.change)
            row[key] = float(one.change[known].sum() / self.tokens[known].sum()) if known.any() else math.nan
            row[f"{key}_share"] = float(np.nanmean(one.share)) if np.isfinite(one.share).any() else math.nan
        if effect.other is not None:
            known = np.isfinite(effect.other)
            row["other_answer"] = (
                float(effect.other[known].sum() / self.tokens[known].sum()) if known.any() else math.nan
            )
        if patched:
            row["recovery"], row["undefined"] = self.recovery(effect)
        return row | {"verdict": found.verdict}

    def __str__(self) -> str:
        base = self.clean.sum() / self.tokens.sum()
        count = len(set(self.utterances))
        many = f"{count} utterance{'' if count == 1 else 's'}"
        head = f"{many}; the clean prompts cost {base:.3f} {UNIT}; each ablation adds"
        lines = [f"{'depth':14} {'ablation':34} {'layers':>6} {'cost':>8} {'95 %':>18} {'p':>7}  verdict"]
        for row in self.to_frame().to_dict("records"):
            ends = "" if math.isnan(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
            p = "" if math.isnan(row["p"]) else f"{row['p']:.4f}"
            lines.append(
                f"{row['depth']:14} {row['ablation']:34} {row['layers']:>6} {row['cost']:>+8.3f} {ends:>18} {p:>7}  "
                f"{row['verdict']}"
            )
        lost = [f"{one.name}: {count} x {why}" for one in self.effects for why, count in one.whys.items()]
        return "\n".join([head, *lines, *lost])

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        return f"<p>{escape(str(self).splitlines()[0])}</p>{frame.to_html(index=False, float_format='{:.3g}'.format)}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
