"""What a plan will cost: tokens, disk, memory and time, as far as each can be known beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.models.registry import resolve
from attnlens.run.item import Item
from attnlens.run.plan import Plan

if TYPE_CHECKING:
    from attnlens.run.bench import Facts

__all__ = ["Estimate", "estimate"]

FLOAT = 4


@dataclass(frozen=True)
class Estimate:
    """The price of a plan; None where nobody can tell yet.

    ``tokens_made`` and ``disk`` are upper bounds: answers end, and what is stored is compressed. ``memory`` is weights
    and the longest prompt, ``seconds`` that of one worker.
    """

    items: int
    positions: int
    longest: int
    tokens_made: int
    disk: int
    memory: int | None
    weights: int | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def estimate(plan: Plan, *, facts: Facts | None = None, due: Sequence[Item] | None = None) -> Estimate:
    """Reckon what a plan costs, from the loaded model where there is one, else from its configuration.

    ``due`` are the items that are left to do, for tokens and time; by default all. Disk and memory are the whole's.

    >>> from attnlens.run.plan import make_plan
    >>> from attnlens.run.spec import RunSpec
    >>> spec = RunSpec(data={"corpora": "synthetic", "limit": 1}, context={"shots": "0"})
    >>> found = estimate(make_plan(spec))
    >>> found.items, found.tokens_made, found.seconds is None
    (2, 192, True)
    """
    from attnlens.models.front import load_front_end

    text = load_front_end(plan.spec.model.name, revision=plan.spec.model.revision).config.get_text_config(decoder=True)
    left = plan.items if due is None else due
    weights = facts.bytes if facts is not None else _checkpoint_bytes(Path(resolve(plan.spec.model.name)))
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
    )


def _disk(plan: Plan, layers: int, heads: int) -> int:
    """Return the size of the store before compression."""
    from attnlens.context.spans import SOURCES
    from attnlens.traces.schema import MODALITIES, VARIABLES

    sizes = {"item": 1, "layer": layers, "head": heads, "query": 1, "source": len(SOURCES)}
    sizes |= {"demo": plan.demos, "modality": len(MODALITIES)}
    kept = [one for name, one in VARIABLES.items() if one.needed or name in plan.spec.tracing.measures]
    return len(plan.items) * sum(FLOAT * math.prod(sizes[dim] for dim in one.dims) for one in kept)


def _working(plan: Plan, text: Any, longest: int) -> int:
    """Return about what one forward pass and the cache of a generation hold, for the longest prompt."""
    width = {"bfloat16": 2, "float16": 2}.get(plan.spec.model.dtype, FLOAT)
    hidden = int(text.hidden_size)
    inner = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    keys = int(getattr(text, "num_key_value_heads", None) or text.num_attention_heads)
    per_head = int(getattr(text, "head_dim", None) or hidden // int(text.num_attention_heads))
    cache = 2 * int(text.num_hidden_layers) * keys * per_head
    return longest * width * (cache + 4 * hidden + 3 * inner)


def _checkpoint_bytes(folder: Path) -> int | None:
    found = [one.stat().st_size for one in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sum(found) or None


def _seconds(items: Sequence[Item], measured: dict[int, float]) -> float:
    """Add up the items' times on the line through the shortest and the longest that were measured."""
    lengths = np.array([item.positions for item in items], dtype=np.float64)
    known = sorted(measured)
    return float(np.interp(lengths, known, [measured[one] for one in known]).sum())
