"""What a control is: a named, seeded change of a prompt that should destroy the effect under study, and only that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from attnlens.context.prompt import CONDITIONS, SHOWN, Condition, Part, Prompt, stable_hash
from attnlens.errors import BadInput, UnknownName, listing

__all__ = [
    "ALL_CONDITIONS",
    "NONE",
    "WITH_AUDIO",
    "WITH_DEMONSTRATIONS",
    "WITH_PAIRS",
    "WITH_TARGET_AUDIO",
    "WITH_TEXT",
    "Control",
    "Draw",
    "What",
    "none",
    "parts_of",
]

ALL_CONDITIONS: tuple[Condition, ...] = tuple(CONDITIONS)
WITH_DEMONSTRATIONS: tuple[Condition, ...] = tuple(name for name in CONDITIONS if SHOWN[name])
WITH_AUDIO: tuple[Condition, ...] = tuple(name for name in CONDITIONS if "audio" in SHOWN[name])
WITH_TEXT: tuple[Condition, ...] = tuple(name for name in CONDITIONS if "text" in SHOWN[name])
WITH_PAIRS: tuple[Condition, ...] = tuple(name for name in CONDITIONS if len(SHOWN[name]) > 1)
WITH_TARGET_AUDIO: tuple[Condition, ...] = tuple(name for name in CONDITIONS if name != "t-icl")

What: TypeAlias = Literal["pair", "text", "audio"]


@dataclass(frozen=True)
class Draw:
    """Where a control gets its chance from: seed, control and target, so that the order of work does not matter.

    >>> draw = Draw(seed=0, control="word-shuffle", target="t1")
    >>> bool(draw.rng("d1").integers(1000) == draw.rng("d1").integers(1000))
    True
    """

    seed: int
    control: str
    target: str

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return a fresh generator; ``key`` names what is drawn, such as one demonstration of several."""
        return np.random.default_rng(int(stable_hash(self.seed, self.control, self.target, *key), 16))

    def seed_of(self, *key: str | int) -> int:
        """Return a 32-bit seed to hand on, for a change that is carried out later."""
        return int(stable_hash(self.seed, self.control, self.target, *key)[:8], 16)


@dataclass(frozen=True)
class Control:
    """A change with what it applies to. Its docstring says what it keeps and what it destroys.

    Parameters
    ----------
    change
        ``change(prompt, draw, **options) -> Prompt``, pure; an option named ``corpus`` receives the run's corpus.
    conditions
        Where it changes something; elsewhere it is refused, because a void control would look like a passed one.
    at_least
        The fewest demonstrations it needs.
    unchanged
        ``recorded``: demonstrations that could not change are counted in ``Prompt.applied``; ``by-design``: it leaves
        some alone on purpose.
    void
        ``allowed`` for a change that may be the identity on purpose.

    >>> from attnlens.context.controls import CONTROLS
    >>> [CONTROLS["mismatched-pairs"].applies_to(condition, shots=2) for condition in ("micl", "icl")]
    [True, False]
    """

    change: Callable[..., Prompt]
    conditions: tuple[Condition, ...]
    at_least: int = 1
    unchanged: Literal["by-design", "recorded"] = "by-design"
    void: Literal["refused", "allowed"] = "refused"

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.change.__doc__)

    def applies_to(self, condition: Condition, *, shots: int) -> bool:
        """Say whether the control means anything there, so that a plan can leave it out instead of failing later."""
        return condition in self.conditions and shots >= self.at_least

    def require(self, name: str, prompt: Prompt) -> None:
        """Refuse a prompt that the control, known as ``name``, would leave as it is."""
        if prompt.condition not in self.conditions:
            raise BadInput(
                f"the control {name!r} would change nothing in the condition {prompt.condition!r}",
                given=f"{prompt.condition}: {CONDITIONS[prompt.condition]}",
                present=f"it applies to {listing(self.conditions)}",
                fix="leave the control out for this condition, or pass another condition",
            )
        if prompt.shots < self.at_least:
            raise BadInput(
                f"the control {name!r} needs more demonstrations",
                given=f"{prompt.shots} for target {prompt.target.id!r}",
                present=f"it needs at least {self.at_least}",
                fix="leave the control out for this number of shots, or ask for more shots",
            )


def parts_of(prompt: Prompt, what: What) -> tuple[Part, ...]:
    """Return the parts of a demonstration that ``what`` means here: ``pair`` is all that the condition shows of it."""
    if what not in get_args(What):
        raise UnknownName.among("part", what, get_args(What))
    shown = SHOWN[prompt.condition]
    if what == "pair":
        return shown
    if what not in shown:
        raise BadInput(
            f"the condition {prompt.condition!r} shows no {what} of its demonstrations",
            given=f"what={what!r}",
            present=f"it shows {listing(shown)}",
            fix="pass what='pair', which is all that a condition shows",
        )
    return (what,)


def none(prompt: Prompt, draw: Draw) -> Prompt:
    """Give the clean prompt a name among the controls it is compared with.

    Keeps everything. Destroys nothing.
    """
    return prompt


NONE = Control(none, conditions=ALL_CONDITIONS, at_least=0, void="allowed")
