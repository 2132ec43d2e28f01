"""What ablations say in sentences: which edges are used, which only looked along, and by which path a span acts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from attnlens.evidence.asked import Cut, Patched, Replaced, Shown
from attnlens.evidence.effects import UNIT, Ablations, Effect
from attnlens.stats.findings import Finding, Findings
from attnlens.stats.judge import Claim, judge

__all__ = ["BUSY", "IDLE_SHARE", "explain", "said"]

BUSY = 0.05
"""Share of a row's attention from which an edge counts as looked along."""
IDLE_SHARE = 0.05
"""An edge is without effect within this share of the most costly cut."""
PEOPLE: dict[str, str] = {
    "demo_audio": "the demonstrations' audio",
    "demo_text": "the demonstrations' text",
    "demo_label": "the demonstrations' labels",
    "target_audio": "the target's audio",
    "output": "the output",
    "sink": "the first token",
}
REMOVED: dict[str, tuple[str, ...]] = {
    "demo_audio": ("icl", "audio-silenced", "audio-noise", "mean:demo_audio", "resample:demo_audio"),
    "demo_text": ("a-icl", "character-shuffle", "mean:demo_text", "resample:demo_text"),
    "target_audio": ("t-icl", "target-audio-swapped", "mean:target_audio", "resample:target_audio"),
}
"""Ablations that take a source away as a whole, the plainest first."""


def said(source: str) -> str:
    """Name a source as people do.

    >>> said("demo_audio"), said("task")
    ("the demonstrations' audio", 'the task')
    """
    return PEOPLE.get(source, f"the {source.replace('_', ' ')}")


def explain(table: Ablations) -> Findings:
    """Turn a table of ablations into findings: costs of edges, mass without effect, paths, patches, prompts.

    Edges are judged at the widest window of layers they were cut in, together, with Holm's correction; so are all that
    are looked along for being without effect, and all other ablations.
    """
    cuts = _widest(table)
    edges = judge([_used(table, one) for one in cuts], seed=table.seed)
    rest = judge([_costs(table, one) for one in _whole(table)], seed=table.seed)
    # Without effect is said next to an effect: in a model that uses nothing there is nothing to compare with.
    scale = [one for one, found in zip(cuts, edges, strict=True) if found.verdict == "supported"]
    idle = judge([_idle(table, one, scale) for one in cuts if _busy(one)] if scale else [], seed=table.seed)
    shown = Findings(tuple(one for one in idle if one.verdict == "supported"))
    ordered = sorted(edges, key=lambda one: -(one.estimate or 0.0))
    return Findings((*_paths(edges, rest, shown), *ordered, *shown, *rest))


def _widest(table: Ablations) -> list[Effect]:
    found: dict[str, Effect] = {}
    for one in table.effects:
        if isinstance(one.asked, Cut) and (one.layers == "all" or str(one.asked) not in found):
            found[str(one.asked)] = one
    return list(found.values())


def _whole(table: Ablations) -> list[Effect]:
    # Of a span replaced or patched in many windows the table tells; a sentence is about the whole.
    return [one for one in table.effects if not isinstance(one.asked, Cut) and one.layers in ("", "all")]


def _edge_name(effect: Effect) -> str:
    return f"cut {effect.asked}" + ("" if effect.layers == "all" else f" @ {effect.layers}")


def _used(table: Ablations, effect: Effect) -> Claim:
    assert isinstance(effect.asked, Cut)  # noqa: S101 - by construction
    edge, where = effect.asked.edge, "" if effect.layers == "all" else f" in layers {effect.layers}"
    sentence = f"{_capital(said(edge.queries))} uses what it reads from {said(edge.keys)}: cutting that{where} costs."
    made = table.claim(effect, said=_plural(sentence, edge.queries))
    return Claim(**{**vars(made), "name": _edge_name(effect)})


def _idle(table: Ablations, effect: Effect, cuts: list[Effect]) -> Claim:
    assert isinstance(effect.asked, Cut)  # noqa: S101 - by construction
    edge = effect.asked.edge
    most = max(float(np.nansum(one.change) / table.tokens.sum()) for one in cuts)
    mass = float(np.nanmean(effect.mass)) if effect.mass is not None else math.nan
    return Claim(
        name=f"idle {effect.asked}",
        claim=f"Mass without effect: {100 * mass:.0f} % of the attention of {said(edge.queries)} is on "
        f"{said(edge.keys)}, and cutting that changes next to nothing.",
        statistic=UNIT,
        values=effect.change,
        per=table.tokens,
        clusters=table.utterances,
        margin=max(IDLE_SHARE * most, 1e-6),
    )


def _busy(effect: Effect) -> bool:
    return effect.mass is not None and bool(np.isfinite(effect.mass).any()) and float(np.nanmean(effect.mass)) >= BUSY


def _costs(table: Ablations, effect: Effect) -> Claim:
    asked = effect.asked
    if isinstance(asked, Patched):
        share, undefined = table.recovery(effect)
        told = f"{100 * share:.0f} % of the damage" if math.isfinite(share) else "the damage"
        sentence = f"Giving {said(asked.span)} the states of the clean prompt undoes {told} of {asked.corrupted}."
        note = f"{undefined} prompts with nothing to recover" if undefined else ""
        return table.claim(effect, said=sentence, note=note)
    if isinstance(asked, Replaced):
        how = {"mean": "their mean in other prompts", "resample": "those of another prompt", "zero": "zeros"}
        return table.claim(effect, said=f"Replacing the states of {said(asked.span)} by {how[asked.value]} costs.")
    assert isinstance(asked, Shown)  # noqa: S101 - the rest
    return table.claim(effect, said=f"What {asked.name} takes from the prompt is used.")


def _paths(edges: Findings, rest: Findings, idle: Findings) -> Iterator[Finding]:
    by_edge = {tuple(one.name.removeprefix("cut ").split(" @ ")[0].split(" -> ")): one for one in edges}
    sources = list(dict.fromkeys(keys for _, keys in by_edge if keys in REMOVED))
    for source in sources:
        removed = _removed(source, rest)
        if removed is not None:
            yield Finding(
                **{
                    **vars(removed),
                    "name": f"matters {source}",
                    "claim": f"{_capital(said(source))} matters: without it ({removed.name}) the answer costs more.",
                }
            )
        direct = by_edge.get(("output", source))
        still = next((one for one in idle if one.name == f"idle output -> {source}"), None)
        if direct is not None and direct.verdict == "supported":
            yield _path(source, (), [direct])
        elif still is not None:
            yield Finding(
                **{
                    **vars(still),
                    "name": f"not direct {source}",
                    "claim": f"{_capital(said(source))} does not act directly on the output: cutting that changes "
                    "next to nothing.",
                }
            )
        for (queries, keys), first in by_edge.items():
            second = by_edge.get(("output", queries))
            if keys != source or queries in ("output", source) or second is None:
                continue
            if "supported" in (first.verdict, second.verdict):
                yield _path(source, (queries,), [first, second])


def _removed(source: str, rest: Findings) -> Finding | None:
    for name in REMOVED[source]:
        for one in rest:
            if one.name.split(" @ ")[0] == name:
                return one
    return None


def _path(source: str, through: tuple[str, ...], steps: list[Finding]) -> Finding:
    """Join edges to a path: it holds when every step does, and no better than its weakest step."""
    weakest = max(steps, key=lambda one: (one.verdict != "supported", one.p if one.p is not None else 1.0))
    way = " -> ".join(("output", *through, source))
    told = f"through {said(through[0])}" if through else "directly"
    tail = f"{said(through[0])} reads it, and the output reads {said(through[0])}" if through else "the output reads it"
    return Finding(
        **{
            **vars(weakest),
            "name": f"path {way}",
            "claim": f"{_capital(said(source))} acts {told}: {tail}.",
            "why": "; ".join(part for part in (f"weakest step: {weakest.name}", weakest.why) if part),
        }
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _plural(sentence: str, queries: str) -> str:
    return sentence.replace(" uses what it reads", " use what they read") if queries == "demo_label" else sentence
