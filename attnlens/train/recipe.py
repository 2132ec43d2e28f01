"""What a recipe is: everything of a training run that is not the loop. Recipes are found by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from attnlens.errors import UnknownName
from attnlens.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RECIPES", "Better", "Changing", "Recipe", "make_recipe", "require_options"]

Better = Literal["lower", "higher"]


class Recipe(Protocol):
    """What the loop asks of a recipe.

    ``batch`` depends on its arguments and on what :class:`Changing` keeps alone: a resumed run then sees what an
    uninterrupted one sees.
    """

    metric: str
    """The dev metric that chooses the checkpoint, a key of what ``evaluate`` returns."""
    better: Better
    ahead: bool
    """Whether batches may be made ahead, in other processes: not where they depend on ``state``."""

    @property
    def module(self) -> nn.Module:
        """Everything that is trained, in one module."""
        ...

    def batch(self, rng: np.random.Generator) -> Any:
        """Make one batch from a generator that is seeded for this batch alone; runs in a worker, without a GPU."""
        ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and figures for the log."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Return dev metrics; draws nothing from a global generator."""
        ...

    def export(self, folder: Path) -> None:
        """Write what was trained, in the form that is used afterwards."""
        ...


@runtime_checkable
class Changing(Protocol):
    """What a recipe also has, all of it, if something beside its weights changes in training, as in a curriculum."""

    def after_step(self, step: int, figures: dict[str, float]) -> str | None:
        """Learn of a step's figures; a returned word is logged, and ``done`` ends the run."""
        ...

    def state(self) -> dict[str, Any]:
        """Return plain values that change during training beside the weights."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` returned."""
        ...


RECIPES: Registry[Callable[..., Recipe]] = Registry(
    "recipe",
    group="attnlens.recipes",
    builtin={
        "asr-ft": ("attnlens.train.adaptation:AsrFt", "a speech LLM on transcription, no demonstrations shown"),
        "sicl-at": ("attnlens.train.adaptation:SiclAt", "a speech LLM to learn in context, over several tasks"),
        "smile": (
            "attnlens.train.adaptation:Smile",
            "Whisper to learn from a recording and its text",
        ),
        "tft": ("attnlens.train.adaptation:Tft", "a speech LLM with demonstrations, in the target language"),
        "xft": ("attnlens.train.adaptation:Xft", "a speech LLM with demonstrations, in other languages alone"),
        "acoustic-ctc": ("attnlens.asr.ctc_recipe:AcousticCtcRecipe", "a CTC model on transcribed speech of corpora"),
        "episodes": ("attnlens.train.finetune:EpisodesRecipe", "any wrapped speech LLM on episodes of corpora"),
        "organism-discrete": (
            "attnlens.organism.discrete:DiscreteRecipe",
            "the organism's decoder on phoneme tokens, by a curriculum",
        ),
        "organism-encoder": (
            "attnlens.organism.encoder:EncoderRecipe",
            "the organism's audio encoder on phonemes of frames",
        ),
        "organism-joint": ("attnlens.organism.joint:JointRecipe", "the organism as a whole on episodes of speech"),
        "text-lm": ("attnlens.asr.text_lm_recipe:TextLmRecipe", "a small language model on the texts of a pool"),
    },
)
"""Recipes by name; each value makes one from ``seed``, ``device``, ``steps`` where it asks, and the spec's options."""


def make_recipe(name: str, *, seed: int, device: str, steps: int, options: dict[str, Any]) -> Recipe:
    """Make a recipe by name, refusing options it does not take."""
    factory = RECIPES[name]
    given: dict[str, Any] = {"seed": seed, "device": device}
    parameters = inspect.signature(factory).parameters
    if "steps" in parameters:
        given["steps"] = steps
    require_options(name, options)
    return factory(**given, **options)


def require_options(name: str, options: Iterable[str]) -> dict[str, Any]:
    """Refuse options that a recipe does not take; returns those it takes with their defaults, None where one is due."""
    parameters = inspect.signature(RECIPES[name]).parameters
    known = {one: None if each.default is each.empty else each.default for one, each in parameters.items()}
    known = {one: default for one, default in known.items() if one not in ("seed", "device", "steps")}
    for option in options:
        if option not in known:
            raise UnknownName.among(f"option of the recipe {name!r}:", option, sorted(known))
    return known
