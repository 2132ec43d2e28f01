"""Who may look at whom: edges between spans, windows of layers, and which edges a prompt has at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Encoded
from attnlens.context.spans import SOURCES, Source
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.models.interventions import key_flags, query_flags

__all__ = ["ENDS", "Edge", "Window", "edge", "every_edge", "window_name", "windows"]

ENDS: tuple[Source, ...] = ("output", "target_audio", "demo_text", "demo_audio", "demo_label", "sink")
"""The spans whose edges are cut: who reads, and who is read."""
ARROW = "->"
Window = tuple[int, ...]
"""Layers that are changed together."""


@dataclass(frozen=True)
class Edge:
    """From the rows of one span to the keys of another.

    >>> str(Edge("output", "demo_text"))
    'output -> demo_text'
    """

    queries: Source
    keys: Source

    def __str__(self) -> str:
        return f"{self.queries} {ARROW} {self.keys}"

    def flags(self, encoded: Encoded) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Return rows and keys of the edge in a prompt [positions]; None where the prompt has no such edge.

        Keys that stand behind every row are never seen, so they are no edge.
        """
        rows = query_flags(encoded, (self.queries,))
        if not len(encoded.spans.positions(self.queries)):
            return None
        keys = key_flags(encoded, (self.keys,))
        if self.queries == "output":
            rows[-1] = False  # The last token of the answer predicts nothing that is asked about.
        if not rows.any():
            return None
        keys[int(np.flatnonzero(rows)[-1]) + 1 :] = False
        return (rows, keys) if keys.any() else None

    def spared(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Return what random keys leave alone [positions]: the rows' own span, and of the output its own recording.

        Without these a row cannot do its work at all, so that cutting some of them would make any control costly.
        """
        own: tuple[Source, ...] = ("output", "target_audio") if self.queries == "output" else (self.queries,)
        return key_flags(encoded, own)


def edge(name: str | Edge) -> Edge:
    """Read an edge from its name.

    >>> edge("demo_text -> demo_audio").keys
    'demo_audio'
    >>> edge("output -> demo audio")
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown source 'demo audio'
      present: sink, system, instruction, demo_audio, demo_label, demo_text, target_audio, task, output, other
      fix:     did you mean 'demo_audio'?
    """
    if isinstance(name, Edge):
        return name
    queries, arrow, keys = (part.strip() for part in name.partition(ARROW))
    if not arrow:
        raise BadInput(
            f"{name!r} is no edge", present=f"queries {ARROW} keys", fix=f"write 'output {ARROW} demo_audio'"
        )
    for end in (queries, keys):
        if end not in SOURCES:
            raise UnknownName.among("source", end, SOURCES)
    return Edge(queries, keys)  # type: ignore[arg-type]


def every_edge(prompts: Sequence[Encoded], *, ends: Sequence[Source] = ENDS) -> list[Edge]:
    """Return every edge among some spans that at least one prompt has, in the order of the spans.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> edges = every_edge([load("tiny:qwen3-asr").encode(probe(), "suti")])
    >>> "output -> demo_audio" in map(str, edges), "demo_audio -> target_audio" in map(str, edges)
    (True, False)
    """
    made = [Edge(queries, keys) for queries in ends for keys in ends if queries != "sink"]
    return [one for one in made if any(one.flags(prompt) is not None for prompt in prompts)]


def windows(n_layers: int, *, count: int | None = None, width: int | None = None) -> list[Window]:
    """Cut the layers of a model into windows side by side: so many of them, or of a width; up to 8 by default.

    >>> windows(4), windows(6, width=4)
    ([(0,), (1,), (2,), (3,)], [(0, 1, 2, 3), (4, 5)])
    """
    if count is not None and width is not None:
        raise BadInput("count and width of windows say the same thing", fix="pass one of them")
    if any(number is not None and not 1 <= number <= n_layers for number in (count, width)):
        raise BadInput(
            "windows hold at least one layer",
            given=f"count={count}, width={width}",
            present=f"{n_layers} layers",
            fix=f"pass 1 to {n_layers}",
        )
    if width is not None:
        return [tuple(range(at, min(at + width, n_layers))) for at in range(0, n_layers, width)]
    parts = np.array_split(np.arange(n_layers), count or min(n_layers, 8))
    return [tuple(int(layer) for layer in part) for part in parts]


def window_name(layers: Sequence[int], n_layers: int) -> str:
    """Name layers as people do.

    >>> window_name((0, 1, 2, 3), 4), window_name((1, 2), 4), window_name((2,), 4), window_name((-1,), 4)
    ('all', '1-2', '2', 'input')
    """
    wrong = [layer for layer in layers if not -1 <= layer < n_layers]
    if wrong or not len(layers):
        raise BadInput(
            "a window names layers of the model",
            given=listing(layers) or "none",
            present=f"layers 0 to {n_layers - 1}",
            fix="count from 0",
        )
    ordered = sorted(layers)
    if [layer for layer in ordered if layer >= 0] == list(range(n_layers)):
        return "all"
    if ordered == [-1]:
        return "input"
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ",".join(map(str, ordered))
