"""What the organism's edges carry: the mass on each, layer by layer, beside what cutting it does to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput
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

    ``tick`` is told after each row.
    """
    if not prompts:
        raise BadInput("there is nothing to read", given="no prompts", fix="pass at least one")
    told = tick or (lambda: None)
    masses = lens.trace(list(prompts), queries=tuple(dict.fromkeys(rows for rows, _ in edges)), measures=("mass",)).mass
    asked = [lens.encode(prompt) for prompt in prompts]
    bits, cer = _answers(lens, asked)
    found = [Cut(None, None, None, float("nan"), bits, cer)]
    told()
    for rows, keys in edges:
        here = masses.sel(query=rows, source=keys).mean(["item", "head"]).values
        for layer in [*range(lens.n_layers), None]:
            with lens.knockout(queries=rows, keys=keys, layers=None if layer is None else [layer]):
                bits, cer = _answers(lens, asked)
            mass = float(here.mean()) if layer is None else float(here[layer])
            found.append(Cut(rows, keys, layer, mass, bits, cer))
            told()
    return found


def _answers(lens: SpeechLM, asked: Sequence[Encoded]) -> tuple[float, float]:
    """Return bits per character of the references, and the character error rate of greedy answers in per cent."""
    found = [answered(lens, one) for one in asked]
    characters = sum(len(one.prompt.target.text) for one in asked)
    return sum(bits for _, bits, _ in found) / characters, 100 * sum(edits for _, _, edits in found) / characters
