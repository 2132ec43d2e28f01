"""What a plan will cost: tokens, disk, memory and time, as far as each can be known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.models.dimensions import KNOWN
from attnlens.models.registry import resolve
from attnlens.run.item import Item
from attnlens.run.plan import Plan
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    from attnlens.context.encode import FrontEnd
    from attnlens.run.bench import Facts

__all__ = ["Estimate", "estimate"]

FLOAT = 4


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
    text = made_by.config.get_text_config(decoder=True)
    left = plan.items if due is None else due
    weights = facts.bytes if facts is not None else _weights(plan.spec)
    longest = max(item.positions for item in plan.items)
    made = sum(plan.spec.decoding.max_new_tokens for item in left if item.transcribed)
    heads = int(text.num_attention_heads)
    layers = int(text.num_hidden_layers)
    return Estimate(
        items=len(left),
        positions=sum(item.positions for item in left),
        longest=longest,
        tokens_made=made,
        disk=_disk(plan, layers, heads),
        memory=None if weights is None else weights + _working(plan, text, longest),
        weights=weights,
        seconds=None if facts is None or not facts.seconds else _seconds(left, facts.seconds),
        operations=sum(_passes(plan.spec, item) * _operations(text, item.positions) for item in left),
        active_bytes=float(_active(text) * _width(plan.spec)),
    )


def _passes(spec: RunSpec, item: Item) -> int:
    """Return how often an item's prompt is read: along its reference, for contributions once more, and to answer."""
    return 1 + ("contribution" in spec.tracing.measures) + item.transcribed


def _active(text: Any) -> int:
    """Return the parameters of the decoder's layers that one token is multiplied with."""
    sizes = _sizes(text)
    attention = sizes.hidden * sizes.per_head * (2 * sizes.heads + 2 * sizes.keys)
    return sizes.layers * (attention + 3 * sizes.hidden * sizes.inner)


def _operations(text: Any, positions: int) -> float:
    """Return multiplications and additions of one pass: weights, and half of the square of attention."""
    sizes = _sizes(text)
    square = 2.0 * sizes.layers * sizes.heads * sizes.per_head * positions**2
    return 2.0 * _active(text) * positions + square


@dataclass(frozen=True)
class _Sizes:
    layers: int
    heads: int
    keys: int
    per_head: int
    hidden: int
    inner: int


def _sizes(text: Any) -> _Sizes:
    def told(*names: str) -> int | None:
        return next((int(found) for name in names if (found := getattr(text, name, None)) is not None), None)

    hidden, heads = int(text.hidden_size), int(text.num_attention_heads)
    experts, width = told("num_experts_per_tok"), told("moe_intermediate_size")
    # A configuration of experts names the width of one; a token passes several.
    several = experts * width if experts and width else None
    return _Sizes(
        layers=int(text.num_hidden_layers),
        heads=heads,
        keys=told("num_key_value_heads") or heads,
        per_head=told("head_dim") or hidden // heads,
        hidden=hidden,
        inner=several or told("intermediate_size", "encoder_ffn_dim") or 4 * hidden,
    )


def _width(spec: RunSpec) -> int:
    """Return the bytes of a weight: checkpoints of known size are kept in two."""
    wanted = spec.model.dtype
    if wanted == "auto" and spec.model.name in KNOWN:
        wanted = "bfloat16"
    return {"bfloat16": 2, "float16": 2}.get(wanted, FLOAT)


def _weights(spec: RunSpec) -> int | None:
    on_disk = _checkpoint_bytes(Path(resolve(spec.model.name)))
    if on_disk is None and spec.model.name in KNOWN:
        return KNOWN[spec.model.name].parameters * _width(spec)
    return on_disk


def _disk(plan: Plan, layers: int, heads: int) -> int:
    """Return the size of the store before compression."""
    from attnlens.context.spans import SOURCES
    from attnlens.traces.schema import MODALITIES, VARIABLES

    sizes = {"item": 1, "layer": layers, "head": heads, "query": 1, "source": len(SOURCES)}
    sizes |= {"demo": plan.demos, "modality": len(MODALITIES), "position": max(item.positions for item in plan.items)}
    kept = [one for name, one in VARIABLES.items() if one.needed or name in plan.spec.tracing.measures]
    return len(plan.items) * sum(FLOAT * math.prod(sizes[dim] for dim in one.dims) for one in kept)


def _working(plan: Plan, text: Any, longest: int) -> int:
    """Return about what one forward pass and the cache of a generation hold, for the longest prompt.

    To it come the attention weights of the rows that are measured, one layer at a time, and the logits of these rows.
    """
    sizes, width = _sizes(text), _width(plan.spec)
    cache = 2 * sizes.layers * sizes.keys * sizes.per_head
    passing = longest * width * (cache + 4 * sizes.hidden + 3 * sizes.inner)
    # A reference has at most a token per byte.
    rows = max(len(item.reference.encode()) for item in plan.items)
    measured = 3 * FLOAT * sizes.heads * rows * longest
    return passing + measured + 2 * FLOAT * rows * int(getattr(text, "vocab_size", 0))


def _checkpoint_bytes(folder: Path) -> int | None:
    found = [one.stat().st_size for one in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sum(found) or None


def _seconds(items: Sequence[Item], measured: dict[int, float]) -> float:
    """Add up the items' times on the line through the shortest and the longest that were measured."""
    lengths = np.array([item.positions for item in items], dtype=np.float64)
    known = sorted(measured)
    return float(np.interp(lengths, known, [measured[one] for one in known]).sum())
