"""Interventions written as one word, as specs and flags hold them: what is cut, where, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attnlens.context.prompt import SHOWN, Prompt
from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, UnknownName
from attnlens.models.interventions import ablate_heads, knockout, shuffle_values

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["NamedIntervention", "parse_intervention"]

Make = Callable[..., AbstractContextManager[None]]
KINDS: dict[str, tuple[Make, tuple[str, ...], tuple[str, ...]]] = {
    "knockout": (knockout, ("queries", "keys"), ("layers", "heads", "how", "site")),
    "ablate-heads": (ablate_heads, ("layers", "heads"), ("queries",)),
    "shuffle-values": (shuffle_values, ("span",), ("layers", "what")),
}
"""By name: the function, the options it needs, and those it may have."""
NUMBERS, SPANS = ("layers", "heads"), ("queries", "keys", "span")


@dataclass(frozen=True)
class NamedIntervention:
    """One intervention, ready to be put in force on any model."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def on(self, lens: SpeechLM) -> AbstractContextManager[None]:
        """Return the context in which it is in force; layers and heads that the model lacks are refused."""
        return KINDS[self.kind][0](lens, **self.options)

    @property
    def spoken(self) -> str:
        """What is done, as tables and figures tell it.

        >>> parse_intervention("knockout:queries=output:keys=demo_text+demo_label:layers=2-3").spoken
        'cut output → demo text + demo label, layers 2-3'
        >>> parse_intervention("ablate-heads:layers=1:heads=0+2").spoken
        'take away heads 0+2, layers 1'
        """
        said = dict(part.partition("=")[::2] for part in self.name.split(":")[1:])
        names = {key: said.pop(key).replace("_", " ").replace("+", " + ") for key in SPANS if key in said}
        what = {
            "knockout": f"cut {names.get('queries')} → {names.get('keys')}",
            "ablate-heads": f"take away heads {said.pop('heads', '')}" if self.kind == "ablate-heads" else "",
            "shuffle-values": f"shuffle within {names.get('span')}",
        }[self.kind]
        if self.kind == "ablate-heads" and "queries" in names:
            what += f" at {names['queries']}"
        return ", ".join([what, *(f"{key} {value}" for key, value in said.items())])

    def means_something(self, prompt: Prompt) -> bool:
        """Return whether a prompt has any of the spans that are cut.

        >>> from attnlens.models.self_check import probe
        >>> cut = parse_intervention("knockout:queries=output:keys=demo_audio")
        >>> cut.means_something(probe()), cut.means_something(probe(shots=0, condition="asr"))
        (True, False)
        """
        keys = self.options.get("keys", self.options.get("span", "all"))
        return keys == "all" or any(_there(one, prompt) for one in ([keys] if isinstance(keys, str) else keys))


def parse_intervention(text: str) -> NamedIntervention:
    """Read ``kind:key=value:key=value``; several values stand with ``+``, ranges of numbers with ``-``.

    >>> parse_intervention("knockout:queries=output:keys=demo_text+demo_label:layers=2-3").options["layers"]
    [2, 3]
    >>> parse_intervention("knockout:keys=demo_text")
    Traceback (most recent call last):
    attnlens.errors.BadInput: the intervention knockout lacks queries
      given:   knockout:keys=demo_text
      fix:     write for instance knockout:queries=output:keys=demo_text:layers=2-3
    """
    kind, *parts = text.split(":")
    if kind not in KINDS:
        raise UnknownName.among("intervention", kind, KINDS)
    _, needed, optional = KINDS[kind]
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not value or key in options:
            raise BadInput("options of an intervention are written key=value, each once", given=part, present=text)
        if key not in (*needed, *optional):
            raise UnknownName.among(f"option of {kind}", key, (*needed, *optional))
        options[key] = _value(key, value)
    lacking = [key for key in needed if key not in options]
    if lacking:
        raise BadInput(
            f"the intervention {kind} lacks {lacking[0]}",
            given=text,
            fix="write for instance knockout:queries=output:keys=demo_text:layers=2-3",
        )
    return NamedIntervention(text, kind, options)


def _value(key: str, value: str) -> Any:
    if key in NUMBERS:
        try:
            ends = [[int(end) for end in part.split("-")] for part in value.split("+")]
        except ValueError:
            raise BadInput(f"{key} are numbers", given=value, fix="write for instance 0+2-4") from None
        return [number for part in ends for number in range(part[0], part[-1] + 1)]
    if key not in SPANS:
        return value
    names = value.split("+")
    for name in names:
        if name not in (*SOURCES, "all"):
            raise UnknownName.among("source", name, (*SOURCES, "all"))
    return names[0] if len(names) == 1 else names


def _there(source: str, prompt: Prompt) -> bool:
    shown = SHOWN[prompt.condition]
    if source.startswith("demo_"):
        return prompt.shots > 0 and (source == "demo_label" or source.removeprefix("demo_") in shown)
    return source != "target_audio" or prompt.condition != "t-icl"
