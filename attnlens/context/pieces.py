"""What a template yields: labelled text and audio, in order. Labels are given here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnlens.context.spans import Label
from attnlens.data.audio import Audio

__all__ = ["Clip", "Markup", "Piece", "Text"]


@dataclass(frozen=True)
class Text:
    """A string of the prompt. ``markup`` may hold special tokens; ``content`` came from data and never does.

    A transcript that happens to spell ``<|im_end|>`` must not end the turn, so content is tokenised as plain text.
    """

    text: str
    label: Label
    kind: Literal["markup", "content"] = "markup"


@dataclass(frozen=True)
class Clip:
    """A recording of the prompt; its begin and end markers take the same label."""

    audio: Audio
    label: Label


Piece = Text | Clip


@dataclass(frozen=True)
class Markup:
    """How one model family writes turns and recordings. Strings are given as the tokenizer reads them.

    ``user`` and ``system`` are what stands before and after the turn's content; ``audio`` is the begin marker, the
    placeholder that is repeated once per audio position, and the end marker.
    """

    audio: tuple[str, str, str]
    user: tuple[str, str] = ("", "\n")
    system: tuple[str, str] | None = None
    assistant: str = ""
    begin: str = ""
    default_system: str | None = None
    dialect: str = "plain"
