"""What the organism's edges carry: the grid of knockouts, and beside it what the organism writes under each cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.evidence.ablate import knockout_grid
from attnlens.evidence.edges import Edge
from attnlens.evidence.effects import Ablations
from attnlens.models.speechlm import SpeechLM
from attnlens.organism.evaluation import answered

__all__ = ["EDGES", "Cut", "cut_edges"]

EDGES: tuple[tuple[Source, Source], ...] = (
    ("output", "demo_text"),
    ("output", "target_audio"),
    ("output", "demo_audio"),
    ("demo_text", "demo_audio"),
    ("demo_text", "demo_text"),
    ("target_audio", "demo_audio"),
    ("target_audio", "demo_text"),
)
"""From the rows of a span to the keys of another."""


@dataclass(frozen=True)
class Cut:
    """One edge at one layer, None for all of them at once: its mass, and the answer without it.

    ``mass`` is the mean over heads and prompts of what the rows give to the keys; ``bits`` per character of the
    reference; ``cer`` in per cent, greedy.
    """

    queries: Source | None
    keys: Source | None
    layer: int | None
    mass: float
    bits: float
    cer: float


def cut_edges(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    edges: Sequence[tuple[Source, Source]] = EDGES,
    tick: Callable[[], None] | None = None,
) -> list[Cut]:
    """Cut every edge at every layer and everywhere, by ``mask``; the first row is the whole model.

    ``tick`` is told after each row. Masses and costs are those of :func:`attnlens.evidence.ablate.knockout_grid`.
    """
    grid = knockout_grid(
        lens,
        prompts,
        edges=[Edge(*one) for one in edges],
        windows=[(layer,) for layer in range(lens.n_layers)],
        controls=(),
        tick=lambda: None,
    )
    return list(_cuts(lens, prompts, grid, edges, tick or (lambda: None)))


def _cuts(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    grid: Ablations,
    edges: Sequence[tuple[Source, Source]],
    told: Callable[[], None],
) -> Iterator[Cut]:
    characters = float(grid.characters.sum())
    effects = iter(grid.effects)
    places: list[tuple[Source | None, Source | None, int | None]] = [(None, None, None)]
    places += [(rows, keys, layer) for rows, keys in edges for layer in (*range(lens.n_layers), None)]
    for rows, keys, layer in places:
        cost, mass = float(grid.clean.sum()), float("nan")
        if rows is not None:
            effect = next(effects)
            cost += float(np.nansum(effect.change))
            mass = float(np.nanmean(effect.mass)) if effect.mass is not None else mass
        cut = nullcontext()
        if rows is not None and keys is not None:
            cut = lens.knockout(queries=rows, keys=keys, layers=None if layer is None else [layer])  # type: ignore[assignment]
        with cut:
            edits = sum(answered(lens, lens.encode(prompt))[2] for prompt in prompts)
        yield Cut(rows, keys, layer, mass, cost / np.log(2) / characters, 100 * edits / characters)
        told()
