"""What a plan will cost: tokens, disk, memory and time, as far as each can be known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attnlens.run.batches import MOST_BYTES, planned_batches, strata
from attnlens.run.decoder import FLOAT, Decoder, weight_width, weights_of
from attnlens.run.item import Item
from attnlens.run.plan import Plan
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    from attnlens.context.encode import FrontEnd
    from attnlens.run.bench import Facts

__all__ = ["UNLOADED", "Estimate", "estimate", "estimated_seconds"]

TOO_FEW = "unknown: so few items are done as soon as timed"
UNLOADED = "unknown before the model is loaded (--measure)"


@dataclass(frozen=True)
class Estimate:
    """The price of a plan; None where nobody can tell yet.

    ``tokens_made`` and ``disk`` are upper bounds: answers end, and what is stored is compressed. ``memory`` is weights
    and the longest prompt, ``seconds`` that of one worker for the items alone, or None for the reason ``untimed``.
    ``operations`` is what reading the prompts takes of the text
    decoder (encoders left out: a clip is encoded once), ``active_bytes`` what each written token fetches.
    """

    items: int
    positions: int
    longest: int
    tokens_made: int
    disk: int
    memory: int | None
    weights: int | None
    seconds: float | None
    untimed: str
    operations: float
    active_bytes: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def estimate(
    plan: Plan, *, facts: Facts | None = None, due: Sequence[Item] | None = None, front: FrontEnd | None = None
) -> Estimate:
    """Reckon what a plan costs, from the loaded model where there is one, else from its configuration or known sizes.

    ``due`` are the items that are left to do, for tokens and time; by default all. Disk and memory are the whole's.
    ``front`` is the front end the plan was made with, where that is not the checkpoint's own.

    >>> from attnlens.run.plan import make_plan
    >>> from attnlens.run.spec import RunSpec
    >>> spec = RunSpec(data={"corpora": "synthetic", "limit": 1}, context={"shots": "0"})
    >>> found = estimate(make_plan(spec))
    >>> found.items, found.tokens_made, found.seconds is None
    (2, 192, True)
    """
    from attnlens.models.front import load_front_end

    made_by: Any = front or load_front_end(plan.spec.model.name, revision=plan.spec.model.revision)
    decoder = Decoder.of(made_by)
    model = plan.spec.model
    left = plan.items if due is None else due
    weights = facts.bytes if facts is not None else weights_of(model.name, model.dtype)
    longest = max(item.positions for item in plan.items)
    made = sum(plan.spec.decoding.max_new_tokens for item in left if item.transcribed)
    return Estimate(
        items=len(left),
        positions=sum(item.positions for item in left),
        longest=longest,
        tokens_made=made,
        disk=_disk(plan, decoder),
        memory=None if weights is None else weights + _working(plan, decoder, longest),
        weights=weights,
        untimed=UNLOADED if facts is None else "" if facts.seconds else TOO_FEW,
        seconds=None if facts is None or not facts.seconds else estimated_seconds(plan, facts, left),
        operations=sum(_passes(plan.spec, item) * decoder.operations(item.positions) for item in left),
        active_bytes=float(decoder.active * weight_width(model.name, model.dtype)),
    )


def _passes(spec: RunSpec, item: Item) -> int:
    """Return how often an item's prompt is read: along its reference, for contributions once more, and to answer."""
    return 1 + ("contribution" in spec.tracing.measures) + item.transcribed


def _disk(plan: Plan, decoder: Decoder) -> int:
    """Return the size of the store before compression."""
    from attnlens.context.spans import SOURCES
    from attnlens.traces.schema import MODALITIES, VARIABLES

    sizes = {"item": 1, "layer": decoder.layers, "head": decoder.heads, "query": 1, "source": len(SOURCES)}
    sizes |= {"demo": plan.demos, "modality": len(MODALITIES), "position": max(item.positions for item in plan.items)}
    kept = [one for name, one in VARIABLES.items() if one.needed or name in plan.spec.tracing.measures]
    return len(plan.items) * sum(FLOAT * math.prod(sizes[dim] for dim in one.dims) for one in kept)


def _working(plan: Plan, decoder: Decoder, longest: int) -> int:
    """Return what the longest prompt takes, and what its batch does: caches twice, rows and logits."""
    # A reference has at most a token per byte.
    rows = max(len(item.reference.encode()) for item in plan.items)
    width = weight_width(plan.spec.model.name, plan.spec.model.dtype)
    beside = min(plan.spec.decoding.batch, len(plan.items)) - 1
    caches = min(beside * longest * decoder.cached * width, MOST_BYTES)
    one = decoder.working(longest, rows=rows, width=width)
    return one + 2 * caches + beside * (decoder.working(longest, rows=rows, width=0))


def estimated_seconds(plan: Plan, facts: Facts, due: Sequence[Item]) -> float:
    """Add up what the batches of one worker take, each as long as the one that was timed of its stratum."""
    parts = strata(planned_batches(plan, facts, due))
    return sum(len(part) * seconds for part, seconds in zip(parts, facts.seconds, strict=True))
