"""A prompt as plain data: which demonstrations, which modalities of them, which target, which template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from attnlens.data.audio import Audio
from attnlens.errors import BadInput, UnknownName

__all__ = [
    "CONDITIONS",
    "SHOWN",
    "Condition",
    "Demonstration",
    "Order",
    "PairOrder",
    "Part",
    "Prompt",
    "Target",
    "stable_hash",
]

Condition = Literal["asr", "t-icl", "icl", "micl", "a-icl"]
CONDITIONS: dict[Condition, str] = {
    "asr": "the target audio alone, no demonstrations",
    "t-icl": "texts of the demonstrations, no audio at all",
    "icl": "texts of the demonstrations and the target audio",
    "micl": "audio-text pairs and the target audio",
    "a-icl": "audios of the demonstrations and the target audio",
}
Order = Literal["nearest-first", "nearest-last", "random", "as-given"]
PairOrder = Literal["audio-first", "text-first"]
Part = Literal["audio", "text"]

SHOWN: Mapping[Condition, tuple[Part, ...]] = MappingProxyType(
    {"asr": (), "t-icl": ("text",), "icl": ("text",), "micl": ("audio", "text"), "a-icl": ("audio",)}
)
"""What each condition shows of a demonstration; all but ``t-icl`` show the target audio as well."""

_LISTED = 6
_TEXT_WIDTH = 60


@dataclass(frozen=True)
class Demonstration:
    """One example in the context; a missing modality is None.

    ``id`` is the demonstration as it was retrieved and never changes; ``audio_id`` and ``text_id`` say whose audio and
    whose text now stands in its place, so that a control's effect can be read off the data. ``question`` is what was
    asked about the recording, where ``text`` is not its transcript.
    """

    id: str
    audio: Audio | None
    text: str | None
    audio_id: str
    text_id: str
    question: str | None = None


@dataclass(frozen=True)
class Target:
    """What is to be transcribed. ``text`` is the reference, never shown: it is scored, or compared with.

    ``audio_id`` says whose audio stands here when a control has swapped it; None is the target's own.
    """

    id: str
    audio: Audio | None
    text: str
    language: str
    audio_id: str | None = None
    question: str | None = None


@dataclass(frozen=True)
class Prompt:
    """Everything that determines what the model reads, before any model is named. Hashable and printable.

    ``demonstrations`` stand in prompt order. ``applied`` lists the controls that made this prompt from a clean one,
    oldest first, as ``name@seed``, followed by ``:option=value`` where a control took options.
    A prompt whose content does not match its condition cannot be made.

    >>> import numpy as np
    >>> clip = Audio.from_array(np.zeros(16000, dtype=np.float32))
    >>> demo = Demonstration("d1", clip, "ima kashka", audio_id="d1", text_id="d1")
    >>> prompt = Prompt("micl", (demo,), Target("t1", clip, "imata", "que"))
    >>> prompt.shots
    1
    >>> print(prompt)
    micl prompt: 1 shot, template 'default', audio-first
      demo 0  audio of d1 | 'ima kashka' of d1
      target  audio of t1 | reference, not shown: 'imata'
    """

    condition: Condition
    demonstrations: tuple[Demonstration, ...]
    target: Target
    template: str = "default"
    pair_order: PairOrder = "audio-first"
    applied: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.condition not in CONDITIONS:
            raise UnknownName.among("condition", self.condition, CONDITIONS)
        if self.pair_order not in get_args(PairOrder):
            raise UnknownName.among("pair order", self.pair_order, get_args(PairOrder))
        if self.condition == "asr" and self.demonstrations:
            raise BadInput(
                "an asr prompt takes no demonstrations",
                given=f"{len(self.demonstrations)} demonstrations for target {self.target.id!r}",
                fix="pass demonstrations=(), or another condition",
            )
        for place, demonstration in enumerate(self.demonstrations):
            _check_demonstration(place, demonstration, self.condition)
        _check_target(self.target, self.condition)

    @property
    def shots(self) -> int:
        """The number of demonstrations."""
        return len(self.demonstrations)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits of everything that determines what is read, to compare prompts across runs and machines.

        Counted: condition, template, the demonstrations' audio content and texts in order, the target's id, language
        and audio content, and the order inside pairs where there are pairs. Not counted: the reference (it is never
        read), whose audio and text it was, and ``applied``: how a prompt came about does not change what it says.
        Decodes the audio.
        """
        return stable_hash(
            self.condition,
            self.template,
            self.pair_order if self.condition == "micl" and self.demonstrations else None,
            self.target.id,
            self.target.language,
            _audio_digest(self.target.audio),
            *([_audio_digest(demonstration.audio), demonstration.text] for demonstration in self.demonstrations),
            *self._questions(),
        )

    def _questions(self) -> list[list[str | None]]:
        asked = [self.target.question, *(demonstration.question for demonstration in self.demonstrations)]
        return [asked] if any(asked) else []

    def to_dict(self) -> dict[str, Any]:
        """Describe the prompt in plain values for a log or a JSON file; nothing is decoded."""
        return {
            "condition": self.condition,
            "template": self.template,
            "pair_order": self.pair_order,
            "applied": list(self.applied),
            "demonstrations": [
                {
                    "id": demonstration.id,
                    "audio_id": demonstration.audio_id,
                    "text_id": demonstration.text_id,
                    "audio": _describe(demonstration.audio),
                    "text": demonstration.text,
                }
                for demonstration in self.demonstrations
            ],
            "target": {
                "id": self.target.id,
                "audio_id": self.target.audio_id or self.target.id,
                "language": self.target.language,
                "audio": _describe(self.target.audio),
                "text": self.target.text,
            },
        }

    def __str__(self) -> str:
        shots = f"{self.shots} shot{'' if self.shots == 1 else 's'}"
        pairs = f", {self.pair_order}" if self.condition == "micl" else ""
        lines = [f"{self.condition} prompt: {shots}, template {self.template!r}{pairs}"]
        if self.applied:
            lines.append(f"  made by {', '.join(self.applied)}")
        for place, demonstration in enumerate(self.demonstrations[:_LISTED]):
            audio, text = demonstration.audio, demonstration.text
            shown = [] if audio is None else [_audio_line(audio, demonstration.audio_id)]
            shown += [] if text is None else [f"{_cut(text)!r} of {demonstration.text_id}"]
            lines.append(f"  demo {place}  {' | '.join(shown)}")
        if self.shots > _LISTED:
            lines.append(f"  and {self.shots - _LISTED} more")
        target = self.target
        heard = "no audio" if target.audio is None else _audio_line(target.audio, target.audio_id or target.id)
        lines.append(f"  target  {heard} | reference, not shown: {_cut(target.text)!r}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from attnlens.context.display import prompt_html

        return prompt_html(self)


def stable_hash(*parts: object) -> str:
    """Name plain values by sixteen hex digits that are the same in every process and on every machine.

    >>> stable_hash("order", 0, "t1") == stable_hash("order", 0, "t1") != stable_hash("order", 0, "t2")
    True
    """
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def _check_demonstration(place: int, demonstration: Demonstration, condition: Condition) -> None:
    held = {"audio": demonstration.audio is not None, "text": demonstration.text is not None}
    given: list[str] = [part for part in held if held[part]]
    if given != list(SHOWN[condition]):
        raise BadInput(
            f"demonstration {place} ({demonstration.id!r}) does not fit the condition {condition!r}",
            given=" and ".join(given) or "neither audio nor text",
            present=f"{condition} shows {CONDITIONS[condition]}",
            fix="set what is not shown to None and fill in what is, or pass another condition",
        )
    if demonstration.text is not None and not demonstration.text.strip():
        raise BadInput(
            f"demonstration {place} ({demonstration.id!r}) has an empty text",
            given=repr(demonstration.text),
            fix="leave it out of the pool; `attnlens data check` lists such rows",
        )


def _check_target(target: Target, condition: Condition) -> None:
    if (target.audio is None) != (condition == "t-icl"):
        raise BadInput(
            f"the target {target.id!r} does not fit the condition {condition!r}",
            given="no target audio" if target.audio is None else "a target audio",
            present=f"{condition} shows {CONDITIONS[condition]}",
            fix="pass the target's audio" if target.audio is None else "pass audio=None, or condition='icl'",
        )


def _audio_digest(audio: Audio | None) -> str | None:
    return None if audio is None else audio.digest


def _describe(audio: Audio | None) -> dict[str, Any] | None:
    if audio is None:
        return None
    source = audio.source
    return {
        # What is in memory has no place to point at; its content names it.
        "source": source.as_posix() if isinstance(source, Path) else f"{type(source).__name__} {source.digest}",
        "start": audio.start,
        "end": audio.end,
        "edits": [[edit.name, edit.seed] for edit in audio.edits],
    }


def _audio_line(audio: Audio, owner: str) -> str:
    return ", ".join([f"audio of {owner}", *(edit.name for edit in audio.edits)])


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_WIDTH else text[: _TEXT_WIDTH - 1] + "…"
