"""From paired effects to verdicts: one rule for all claims, whole arrays of them at a time where needed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.findings import Against, Finding, Findings, Outcome
from attnlens.stats.intervals import RESAMPLES
from attnlens.stats.multiple import holm
from attnlens.stats.permutation import DRAWS, sign_flip

__all__ = ["ALPHA", "Claim", "Weighed", "judge", "weighed", "withstanding"]

ALPHA = 0.05
Direction = Literal["positive", "either"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """Something said of utterances, and the paired numbers that can speak for or against it.

    Parameters
    ----------
    claim
        A sentence.
    values
        The effect of each item [items]: positive as claimed, or of either sign with ``direction="either"``. NaN where
        an item has none (an empty span); those are left out and counted.
    per
        What sums are divided by [items], such as output tokens.
    clusters
        Whose item it is, such as the utterance: items of one flip and are drawn together.
    controls
        The same effect under each control [items], or a sentence that says why there is none.
    margin
        Claims instead that the effect is within plus and minus this.
    """

    name: str
    claim: str
    statistic: str
    values: ArrayLike
    per: ArrayLike | None = None
    clusters: Sequence[Hashable] | None = None
    controls: Mapping[str, Any] = field(default_factory=dict)
    direction: Direction = "positive"
    margin: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Weighed:
    """Effects [...] with their ends, p-values, and verdicts [...]: 1 supported, 0 inconclusive, -1 refuted."""

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    verdict: NDArray[np.int8]
    outcomes: Mapping[str, tuple[Outcome, float, float, float]]


def weighed(
    values: ArrayLike,
    *,
    per: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    controls: Mapping[str, ArrayLike] | None = None,
    direction: Direction = "positive",
    p: ArrayLike | None = None,
    p_controls: Mapping[str, ArrayLike] | None = None,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Weighed:
    """Apply the rule to effects [items, ...], each by itself.

    ``p`` [...] and ``p_controls`` [...] stand in for the p-values of the effect and of its difference to each control
    when these are corrected.

    >>> rng = np.random.default_rng(0)
    >>> effect = rng.normal(1.0, 0.5, (40, 3))
    >>> weighed(effect, resamples=999, draws=999).verdict.tolist()
    [1, 1, 1]
    >>> weighed(effect, controls={"random": effect + 0.1}, resamples=999, draws=999).verdict.tolist()
    [-1, -1, -1]
    """
    options: dict[str, Any] = {"per": per, "clusters": clusters, "seed": seed}
    interval = bootstrap(values, resamples=resamples, **options)
    known = np.asarray(sign_flip(values, alpha=alpha, draws=draws, **options).p if p is None else p)
    estimate = np.asarray(interval.estimate, dtype=np.float64)
    side = np.sign(estimate) if direction == "either" else np.ones_like(estimate)
    holds = (known <= alpha) & (side * estimate > 0) & interval.excludes()
    verdict = holds.astype(np.int8)
    outcomes: dict[str, tuple[Outcome, float, float, float]] = {}
    for name, control in (controls or {}).items():
        more = sign_flip(
            np.asarray(values) * side, minus=np.asarray(control) * side, alpha=alpha, draws=draws, **options
        )
        alone = sign_flip(np.asarray(control) * side, alpha=alpha, draws=draws, **options)
        beyond = np.asarray((p_controls or {}).get(name, more.p))
        withstood = (beyond <= alpha) & (np.asarray(more.estimate) > 0)
        same = (np.asarray(alone.p) <= alpha) & (np.asarray(alone.estimate) > 0) & ~withstood
        verdict = np.where(holds & same, -1, np.where(withstood | (verdict < 0), verdict, np.minimum(verdict, 0)))
        if not estimate.ndim:
            outcome: Outcome = "withstood" if withstood else "failed" if same else "undecided"
            outcomes[name] = outcome, float(alone.estimate * side), float(alone.p), float(beyond)
    low, high = np.asarray(interval.low), np.asarray(interval.high)
    return Weighed(estimate, low, high, known, np.asarray(verdict, dtype=np.int8), outcomes)


def judge(claims: Sequence[Claim], *, alpha: float = ALPHA, resamples: int = RESAMPLES, seed: int = 0) -> Findings:
    """Judge claims together, as one family; the rules are :data:`attnlens.stats.findings.RULES`.

    What cannot be tested, for want of utterances or because nothing varies, is inconclusive and says why.

    >>> costs = [0.4, 0.1, 0.3, 0.2, 0.5, 0.1, 0.3, 0.2]
    >>> claim = Claim(name="cut", claim="The cut costs.", statistic="nats per token", values=costs,
    ...               controls={"random keys": [0.0, 0.1, 0.0, -0.1, 0.0, 0.1, 0.0, 0.0]})
    >>> print(judge([claim]))
    supported: The cut costs.
        nats per token 0.263 [0.175, 0.362], p = 0.0078; 8 utterances; random keys +0.0125, p of the difference 0.031
        (withstood)
    """
    kept = [_kept(claim) for claim in claims]
    first = [_own(claim, alpha=alpha, seed=seed) for claim in kept]
    there = [place for place, p in enumerate(first) if not isinstance(p, str)]
    adjusted = dict(zip(there, holm([float(first[place]) for place in there]) if there else [], strict=True))
    beyond = _beyond([kept[place] for place in there], alpha=alpha, seed=seed)
    found = []
    for place, claim in enumerate(kept):
        why = first[place]
        if isinstance(why, str):
            found.append(_unclear(claim, why))
        elif claim.margin is not None:
            found.append(_absent(claim, float(adjusted[place]), alpha=alpha, resamples=resamples, seed=seed))
        else:
            more = beyond[there.index(place)]
            found.append(_present(claim, float(adjusted[place]), more, alpha=alpha, resamples=resamples, seed=seed))
    return Findings(tuple(found))


def withstanding(found: Finding, more: Sequence[Against]) -> Finding:
    """Return a finding judged against further controls that were tested elsewhere, such as permuted labels.

    >>> one = Finding(name="a", claim="It is so.", statistic="nats", verdict="supported")
    >>> withstanding(one, [Against(name="circular labels", outcome="failed")]).verdict
    'refuted by control circular labels'
    """
    verdict = found.verdict
    if verdict == "supported":
        failed = next((one.name for one in more if one.outcome == "failed"), None)
        if failed is not None:
            verdict = f"refuted by control {failed}"
        elif any(one.outcome == "undecided" for one in more):
            verdict = "inconclusive"
    return replace(found, verdict=verdict, controls=(*found.controls, *more))


def _kept(claim: Claim) -> Claim:
    """Leave out the items that have no value, and say how many they are."""
    values = np.asarray(claim.values, dtype=np.float64)
    there = np.isfinite(values)
    pick = np.flatnonzero(there)
    lost = len(values) - len(pick)
    controls: dict[str, Any] = {}
    for name, control in claim.controls.items():
        if isinstance(control, str):
            controls[name] = control
            continue
        array = np.asarray(control, dtype=np.float64)
        if array.shape != values.shape:
            raise BadInput(
                f"the control {name!r} of {claim.name!r} is not paired with the claim",
                given=f"{len(array)} items",
                present=f"{len(values)} items",
                fix="pass one value per item, NaN where there is none",
            )
        gone = int((~np.isfinite(array[pick])).sum())
        controls[name] = array[pick] if not gone else f"{gone} of {len(pick)} items have none"
    told = f"{lost} of {len(values)} items have no such span and are left out" if lost else ""
    return replace(
        claim,
        values=values[pick],
        per=None if claim.per is None else np.asarray(claim.per, dtype=np.float64)[pick],
        clusters=None if claim.clusters is None else [claim.clusters[place] for place in pick.tolist()],
        controls=controls,
        note="; ".join(one for one in (claim.note, told) if one),
    )


def _own(claim: Claim, *, alpha: float, seed: int) -> float | str:
    """Return the p of the claim by itself, or why it has none."""
    values: Any = claim.values
    if not len(values):
        return "no item has a value"
    options: dict[str, Any] = {"per": claim.per, "clusters": claim.clusters, "seed": seed, "alpha": alpha}
    try:
        bootstrap(values, per=claim.per, clusters=claim.clusters, resamples=999)
        if claim.margin is None:
            return float(sign_flip(values, **options).p)
        room = claim.margin * (np.ones_like(values) if claim.per is None else np.asarray(claim.per))
        sides = [sign_flip(one, alternative="greater", **options) for one in (values + room, room - values)]
        return max(float(one.p) for one in sides)
    except BadInput as error:
        return "; ".join(one for one in (error.message, error.present) if one)


def _beyond(claims: Sequence[Claim], *, alpha: float, seed: int) -> list[dict[str, float]]:
    """Return the p of each claim's difference to each of its controls, corrected over the claims that have it."""
    found: list[dict[str, float]] = [{} for _ in claims]
    for name in dict.fromkeys(name for claim in claims for name in claim.controls):
        p = {}
        for place, claim in enumerate(claims):
            control: Any = claim.controls.get(name)
            if control is None or isinstance(control, str):
                continue
            options: dict[str, Any] = {"per": claim.per, "clusters": claim.clusters, "seed": seed, "alpha": alpha}
            p[place] = float(sign_flip(np.asarray(claim.values), minus=control, **options).p)
        for place, value in zip(p, holm(list(p.values())) if p else [], strict=True):
            found[place][name] = float(value)
    return found


def _count(claim: Claim) -> int:
    return len(set(claim.clusters)) if claim.clusters is not None else len(np.asarray(claim.values))


def _unclear(claim: Claim, why: str) -> Finding:
    values, per = np.asarray(claim.values, dtype=np.float64), claim.per
    total = len(values) if per is None else float(np.sum(np.asarray(per)))
    return Finding(
        name=claim.name,
        claim=claim.claim,
        statistic=claim.statistic,
        verdict="inconclusive",
        estimate=float(values.sum() / total) if total else None,
        n=_count(claim),
        why="; ".join(one for one in (why, claim.note) if one),
    )


def _present(
    claim: Claim, p: float, beyond: Mapping[str, float], *, alpha: float, resamples: int, seed: int
) -> Finding:
    defined = {name: one for name, one in claim.controls.items() if not isinstance(one, str)}
    found = weighed(
        claim.values,
        per=claim.per,
        clusters=claim.clusters,
        controls=defined,
        direction=claim.direction,
        p=p,
        p_controls=beyond,
        alpha=alpha,
        resamples=resamples,
        seed=seed,
    )
    controls = []
    for name, one in claim.controls.items():
        if isinstance(one, str):
            controls.append(Against(name=name, outcome="undefined", why=one))
        else:
            outcome, estimate, alone, difference = found.outcomes[name]
            controls.append(Against(name=name, outcome=outcome, estimate=estimate, p=alone, p_difference=difference))
    failed = next((one.name for one in controls if one.outcome == "failed"), None)
    verdict = {1: "supported", 0: "inconclusive", -1: f"refuted by control {failed}"}[int(found.verdict)]
    return Finding(
        name=claim.name,
        claim=claim.claim,
        statistic=claim.statistic,
        verdict=verdict,
        estimate=float(found.estimate),
        low=float(found.low),
        high=float(found.high),
        p=p,
        n=_count(claim),
        controls=tuple(controls),
        why=claim.note,
    )


def _absent(claim: Claim, p: float, *, alpha: float, resamples: int, seed: int) -> Finding:
    level = 1 - 2 * alpha
    ends = bootstrap(claim.values, per=claim.per, clusters=claim.clusters, level=level, resamples=resamples, seed=seed)
    margin = float(claim.margin or 0.0)
    inside = p <= alpha and -margin < float(ends.low) and float(ends.high) < margin
    return Finding(
        name=claim.name,
        claim=claim.claim,
        statistic=claim.statistic,
        verdict="supported" if inside else "inconclusive",
        estimate=float(ends.estimate),
        low=float(ends.low),
        high=float(ends.high),
        level=level,
        p=p,
        n=_count(claim),
        why="; ".join(one for one in (f"margin {margin:.3g}", claim.note) if one),
    )
