"""What the report's explorer holds: per item, exact shares of every span and the weight on every position, packed."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnlens.data.audio import Audio
from attnlens.errors import BadInput
from attnlens.plots.clip import peaks
from attnlens.plots.tokens import Tokens

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_BYTES", "explorer_data"]

MOST_BYTES = 6_000_000
"""How much all items together may add to the page; beyond, heads that put little on demonstrations are left out."""
LEVELS = 32_767
"""Weights on single positions are kept in steps of 1/32,767; shares of spans are kept as they were measured."""
COARSE_LEVELS = 127
"""Where that leaves no room for heads: steps of the square root, which are fine where weights are small."""
Steps: TypeAlias = Literal["fine", "coarse"]
MEASURES = {"weights": "attention", "effects": "effect on the logit"}
PEAKS = 240
BEST_PACKING = 6
EVERY = -1
"""Stands for all layers or all heads of a slot."""


def explorer_data(tokens: Mapping[str, Tokens], *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Pack items for the explorer as plain JSON: clips once each, and per item its tokens, positions and numbers.

    What can be chosen in the page are *slots*: the mean over all layers and heads, the mean of each layer, and single
    heads. Means are always there, and over all heads. When space is short, positions are kept in coarser steps, and
    then heads by their attention on demonstrations; ``steps`` and ``heads_kept`` say so.

    >>> explorer_data({})
    {'items': [], 'clips': []}
    """
    clips: dict[str, int] = {}
    packed_clips: list[dict[str, Any]] = []
    items = []
    share = most_bytes // max(len(tokens), 1)
    # As it is comes before its controls, and utterances stay together.
    for one in sorted(tokens.values(), key=_order):
        if "weights" not in one.detail:
            raise BadInput(
                f"the detail of {one.item} has no weights on positions",
                present=", ".join(map(str, one.detail.data_vars)),
                fix="measure it with attnlens.models.detail.token_detail",
            )
        places = {}
        for name, path in one.clips.items():
            if path.name not in clips:
                clips[path.name] = len(packed_clips)
                packed_clips.append(_clip(path.read_bytes()))
            places[name] = clips[path.name]
        items.append(_item(one, places, share))
    return {"items": items, "clips": packed_clips}


def slots_of(detail: xr.Dataset, heads: int) -> list[tuple[int, int]]:
    """Return the slots as places (layer, head), -1 for all; ``heads`` single heads are the most attentive ones."""
    layers, count = detail.sizes["layer"], detail.sizes["head"]
    slots = [(EVERY, EVERY), *((layer, EVERY) for layer in range(layers))]
    if heads >= layers * count:
        return slots + [(layer, head) for layer in range(layers) for head in range(count)]
    labels = detail["key_label"].values.astype(str)
    shown = np.char.startswith(labels, "demo_audio") | np.char.startswith(labels, "demo_text")
    mass = detail["weights"].values[..., shown].sum(-1).mean(-1)
    best = np.argsort(-mass, axis=None, kind="stable")[:heads]
    return slots + sorted((int(place) // count, int(place) % count) for place in best)


def _item(one: Tokens, clips: dict[str, int], most_bytes: int) -> dict[str, Any]:
    detail = one.detail
    labels = detail["key_label"].values.astype(str).tolist()
    # Positions of one name that stand apart, such as turn markers, are blocks of their own in the page.
    starts = [place for place in range(len(labels)) if place == 0 or labels[place] != labels[place - 1]]
    block = np.searchsorted(starts, np.arange(len(labels)), side="right") - 1
    every = detail.sizes["layer"] * detail.sizes["head"]
    # Nothing packs better than this, so there is no need to try more heads.
    each = detail.sizes["token"] * detail.sizes["key"] * sum(name in detail for name in MEASURES)
    heads = min(every, BEST_PACKING * most_bytes // each)
    steps: Steps = "fine" if 2 * every * each <= BEST_PACKING * most_bytes else "coarse"
    slots, measures, size = _measures(detail, heads, block, steps)
    while size > most_bytes and (heads > 0 or steps == "fine"):
        heads = heads if steps == "fine" else int(heads * min(0.8, 0.9 * most_bytes / size))
        steps = "coarse"
        slots, measures, size = _measures(detail, heads, block, steps)
    about = one.about
    seconds = detail["seconds"].values if "seconds" in detail else np.full(len(labels), np.nan)
    return {
        "item": one.item,
        **{name: about.get(name, "") for name in ("utterance", "condition", "shots", "control", "seed", "language")},
        "reference": about.get("prompt", {}).get("target", {}).get("text", ""),
        "tokens": detail["token_text"].values.astype(str).tolist(),
        "keys": detail["key_text"].values.astype(str).tolist(),
        "seconds": [None if np.isnan(time) else round(float(time), 4) for time in seconds],
        "blocks": [
            {"label": labels[start], "start": start, "stop": stop}
            for start, stop in zip(starts, [*starts[1:], len(labels)], strict=True)
        ],
        "clips": clips,
        "layers": detail["layer"].values.tolist(),
        "heads": detail["head"].values.tolist(),
        "slots": slots,
        "steps": steps,
        "heads_kept": [len(slots) - 1 - detail.sizes["layer"], every],
        "measures": measures,
    }


def _order(one: Tokens) -> tuple[str, bool, str]:
    control = str(one.about.get("control", "none"))
    return str(one.about.get("utterance", "")), control != "none", control


def _measures(
    detail: xr.Dataset, heads: int, block: NDArray[np.int64], steps: Steps
) -> tuple[list[tuple[int, int]], dict[str, Any], int]:
    """Return the slots, their measures packed, and how many characters those are."""
    slots = slots_of(detail, heads)
    measures = {name: _packed(detail[name].values, slots, block, steps) for name in MEASURES if name in detail}
    return slots, measures, sum(len(text) for part in measures.values() for text in part.values())


def _packed(
    values: NDArray[np.float32], slots: list[tuple[int, int]], block: NDArray[np.int64], steps: Steps
) -> dict[str, str]:
    """Pack [layer, head, token, key]: steps per position with the top of each row, and sums per block.

    ``positions`` are int16 or int8 [slot, token, key], ``tops`` float32 [slot, token], ``shares`` float32 [slot, token,
    block]. A fine step is 1/32,767 of the row's top; coarse ones are 1/127 of its square root.
    """
    rows = np.stack([_slot(values, slot) for slot in slots])
    sums = np.add.reduceat(rows, np.flatnonzero(np.diff(block, prepend=-1)), axis=-1).astype("<f4")
    tops = np.abs(rows).max(-1)
    parts = rows / np.where(tops == 0, 1, tops)[..., None]
    if steps == "fine":
        positions = np.rint(parts * LEVELS).astype("<i2")
    else:
        positions = np.rint(np.sign(parts) * np.sqrt(np.abs(parts)) * COARSE_LEVELS).astype("i1")
    return {"positions": _squeezed(positions), "tops": _squeezed(tops.astype("<f4")), "shares": _squeezed(sums)}


def _slot(values: NDArray[np.float32], slot: tuple[int, int]) -> NDArray[np.float32]:
    layer, head = slot
    part = values if layer == EVERY else values[layer : layer + 1]
    part = part if head == EVERY else part[:, head : head + 1]
    return np.asarray(part.mean((0, 1), dtype=np.float64), dtype=np.float32)


def _squeezed(values: NDArray[Any]) -> str:
    return base64.b64encode(gzip.compress(values.tobytes(), 6, mtime=0)).decode()


def _clip(data: bytes) -> dict[str, Any]:
    samples = Audio.from_bytes(data).load()
    low, high = peaks(samples, count=PEAKS)
    top = max(float(np.abs(samples).max()), 1e-6)
    return {
        "src": "data:audio/ogg;base64," + base64.b64encode(data).decode(),
        "seconds": round(len(samples) / 16_000, 4),
        "low": np.rint(low / top * 100).astype(int).tolist(),
        "high": np.rint(high / top * 100).astype(int).tolist(),
    }
