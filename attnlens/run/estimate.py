"""What a plan will cost: tokens, disk, memory and time, as far as each can be known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.run.decoder import FLOAT, Decoder, weight_width, weights_of
from attnlens.run.item import Item
from attnlens.run.plan import Plan
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    from attnlens.context.encode import FrontEnd
    from attnlens.run.bench import Facts

__all__ = ["Estimate", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """The price of a plan; None where nobody can tell yet.

    ``tokens_made`` and ``disk`` are upper bounds: answers end, and what is stored is compressed. ``memory`` is weights
    and the longest prompt, ``seconds`` that of one worker, ``operations`` what reading the prompts takes of the text
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
        seconds=None if facts is None or not facts.seconds else _seconds(left, facts.seconds),
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
    # A reference has at most a token per byte.
    rows = max(len(item.reference.encode()) for item in plan.items)
    return decoder.working(longest, rows=rows, width=weight_width(plan.spec.model.name, plan.spec.model.dtype))


def _seconds(items: Sequence[Item], measured: dict[int, float]) -> float:
    """Add up the items' times on the line through the shortest and the longest that were measured."""
    lengths = np.array([item.positions for item in items], dtype=np.float64)
    known = sorted(measured)
    return float(np.interp(lengths, known, [measured[one] for one in known]).sum())
