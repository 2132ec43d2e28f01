"""What re-ranking, ablating or training will cost, step by step, before anything of it is computed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.positions import PositionCounter
from attnlens.context.prompt import Prompt
from attnlens.run.decoder import Decoder, weight_width, weights_of
from attnlens.run.estimate import UNLOADED, Estimate

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Forecast", "Pace", "SizedModel", "Step", "measure_pace", "total"]

WRITTEN = 8
"""Tokens that are written to time one."""


@dataclass(frozen=True)
class Step:
    """So many like pieces of work: prompts read, lists scored, batches learnt from."""

    corpus: str
    does: str
    count: int
    positions: int = 0
    tokens_made: int = 0
    operations: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What a spec of a kind other than a run costs: its steps, their sum, and what is not in it."""

    steps: tuple[Step, ...]
    cost: Estimate
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "estimate": self.cost.to_dict(),
            "steps": [asdict(one) for one in self.steps],
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class SizedModel:
    """A speech LLM as a plan knows it: its front end, its decoder's sizes, its weights, without having loaded them."""

    name: str
    front: Any
    decoder: Decoder
    width: int
    weights: int | None
    remarks: tuple[str, ...] = ()
    counter: PositionCounter = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counter", PositionCounter(self.front))

    @classmethod
    def of(cls, name: str, *, dtype: str = "auto", revision: str | None = None) -> SizedModel:
        """Read a checkpoint's configuration, or take the known sizes of a published one that is not here.

        >>> SizedModel.of("microsoft/Phi-4-multimodal-instruct").remarks[0][:60]
        'microsoft/Phi-4-multimodal-instruct is not on this machine: '
        """
        from attnlens.models.dimensions import KNOWN, is_here, sized_front_end
        from attnlens.models.front import load_front_end

        remarks: tuple[str, ...] = ()
        if name in KNOWN and not is_here(name, revision=revision):
            front: Any = sized_front_end(name)
            remarks = (
                f"{name} is not on this machine: reckoned from its sizes, with a token per byte of text (too many)",
            )
        else:
            front = load_front_end(name, revision=revision)
        return cls(name, front, Decoder.of(front), weight_width(name, dtype), weights_of(name, dtype), remarks)

    def positions(self, prompt: Prompt, output: str | None = None) -> int:
        """Return how many positions a prompt fills, with its answer."""
        return self.counter.count(prompt, output)

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self.counter.text(text, "content")

    def memory(self, longest: int, *, rows: int) -> int | None:
        """Return what weights and the longest prompt hold."""
        return (
            None if self.weights is None else self.weights + self.decoder.working(longest, rows=rows, width=self.width)
        )


@dataclass(frozen=True)
class Pace:
    """How fast the loaded model was: seconds of reading by positions, and seconds per written token."""

    reading: dict[int, float]
    token: float

    def seconds(self, step: Step) -> float:
        """Return how long a step takes, each of its pieces as long as their mean."""
        known = sorted(self.reading)
        each = float(np.interp(step.positions / max(1, step.count), known, [self.reading[one] for one in known]))
        return (step.count * each if step.positions else 0.0) + step.tokens_made * self.token


def measure_pace(lens: SpeechLM, prompts: Sequence[Prompt], read: Callable[[SpeechLM, Prompt], int]) -> Pace:
    """Time the shortest and the longest prompt; ``read`` does the work and returns its positions."""
    sized = sorted(prompts, key=lambda one: len(lens.encode(one).ids))
    reading: dict[int, float] = {}
    for prompt in (sized[0], sized[0], sized[-1]):  # the first is timed twice: its first time has what is done once
        start = time.perf_counter()
        positions = read(lens, prompt)
        reading[positions] = time.perf_counter() - start
    start = time.perf_counter()
    made = lens.generate(sized[-1], max_new_tokens=WRITTEN)
    whole = time.perf_counter() - start
    return Pace(reading, max(0.0, whole - reading[max(reading)]) / max(1, len(made.ids)))


def total(
    steps: Sequence[Step],
    *,
    items: int,
    longest: int,
    disk: int,
    memory: int | None = None,
    model: SizedModel | None = None,
    seconds: float | None = None,
) -> Estimate:
    """Add steps up."""
    return Estimate(
        items=items,
        positions=sum(one.positions for one in steps),
        longest=longest,
        tokens_made=sum(one.tokens_made for one in steps),
        disk=disk,
        memory=memory,
        weights=None if model is None else model.weights,
        seconds=seconds,
        untimed=UNLOADED if seconds is None else "",
        operations=sum(one.operations for one in steps),
        active_bytes=0.0 if model is None else float(model.decoder.active * model.width),
    )
