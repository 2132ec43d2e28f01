"""What can be taken from a model, at three depths: from the prompt, from attention, from its representations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from attnlens.context.controls import CONTROLS
from attnlens.context.prompt import CONDITIONS, SHOWN, Condition, Prompt
from attnlens.context.spans import SOURCES, Source
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.evidence.edges import ARROW, Edge, edge

__all__ = ["Asked", "Cut", "Depth", "Patched", "Replaced", "Shown", "Value", "asked", "shown_as"]

Depth = Literal["prompt", "attention", "representation"]
Value = Literal["mean", "resample", "zero"]
PATCH = "patch"


@dataclass(frozen=True)
class Shown:
    """Another prompt: a condition that shows less, or a control by name."""

    name: str
    depth: Depth = "prompt"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Cut:
    """An edge of attention that is cut."""

    edge: Edge
    depth: Depth = "attention"

    def __str__(self) -> str:
        return str(self.edge)


@dataclass(frozen=True)
class Replaced:
    """A span whose states are replaced by their mean in other prompts, by those of another prompt, or by zeros."""

    span: Source
    value: Value
    depth: Depth = "representation"

    def __str__(self) -> str:
        return f"{self.value}:{self.span}"


@dataclass(frozen=True)
class Patched:
    """A span of the corrupted prompt that gets the clean prompt's states: what of the damage does that undo?"""

    span: Source
    corrupted: str = "mismatched-pairs"
    depth: Depth = "representation"

    def __str__(self) -> str:
        return f"{PATCH}:{self.span}<-{self.corrupted}"


Asked: TypeAlias = Shown | Cut | Replaced | Patched


def asked(name: str | Asked) -> Asked:
    """Read an ablation from its name.

    >>> asked("output -> demo_audio"), asked("mean:demo_audio").depth, asked("audio-silenced").depth
    (Cut(edge=Edge(queries='output', keys='demo_audio'), depth='attention'), 'representation', 'prompt')
    >>> str(asked("patch:demo_text"))
    'patch:demo_text<-mismatched-pairs'
    >>> asked("output demo_audio")
    Traceback (most recent call last):
    attnlens.errors.BadInput: there is no ablation 'output demo_audio'
      present: a condition (asr, t-icl, icl, micl, a-icl), a control, an edge ('output -> demo_text'), mean:, resample:,
        zero: or patch: before a span
      fix:     `attnlens ls controls` names the controls
    """
    if not isinstance(name, str):
        return name
    if ARROW in name:
        return Cut(edge(name))
    how, colon, rest = (part.strip() for part in name.partition(":"))
    if name in CONDITIONS or name in CONTROLS:
        return Shown(name)
    if colon and how in (*get_args(Value), PATCH):
        span, _, corrupted = (part.strip() for part in rest.partition("<-"))
        if span not in SOURCES:
            raise UnknownName.among("source", span, SOURCES)
        if how != PATCH:
            return Replaced(span, how)  # type: ignore[arg-type]
        CONTROLS.require(corrupted or Patched.corrupted)
        return Patched(span, corrupted or Patched.corrupted)
    raise BadInput(
        f"there is no ablation {name!r}",
        present=f"a condition ({', '.join(CONDITIONS)}), a control, an edge ('output {ARROW} demo_text'), "
        "mean:, resample:, zero: or patch: before a span",
        fix="`attnlens ls controls` names the controls",
    )


def shown_as(prompt: Prompt, condition: Condition) -> Prompt:
    """Return the prompt with less shown: the same demonstrations and target under another condition.

    >>> from attnlens.models.self_check import probe
    >>> print(shown_as(probe(shots=1), "icl"))
    icl prompt: 1 shot, template 'default'
      demo 0  'mana tuka' of probe-0
      target  audio of probe-target | reference, not shown: 'kuna mana'
    """
    if condition not in CONDITIONS:
        raise UnknownName.among("condition", condition, CONDITIONS)
    shown: Sequence[str] = SHOWN[condition]
    missing = [part for part in shown if part not in SHOWN[prompt.condition]]
    if missing or (prompt.target.audio is None and condition != "t-icl"):
        raise BadInput(
            f"a {prompt.condition!r} prompt cannot be shown as {condition!r}",
            given=f"it lacks {listing(missing) or 'the target audio'}",
            fix="ablate from the condition 'micl', which shows all",
        )
    demonstrations = tuple(
        replace(one, audio=one.audio if "audio" in shown else None, text=one.text if "text" in shown else None)
        for one in (prompt.demonstrations if shown else ())
    )
    target = replace(prompt.target, audio=None) if condition == "t-icl" else prompt.target
    return replace(prompt, condition=condition, demonstrations=demonstrations, target=target)
