"""How long prompts will be, told by the front end alone: no features, no weights."""

from __future__ import annotations

from typing import Any

from attnlens.context.encode import FrontEnd
from attnlens.context.pieces import Text
from attnlens.context.prompt import Prompt
from attnlens.context.templates import TEMPLATES
from attnlens.data.audio import Audio

__all__ = ["PositionCounter"]


class PositionCounter:
    """Count positions of prompts, each clip measured once however many prompts it stands in.

    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.context.encode import encode
    >>> from attnlens.testing import corpus, front_end
    >>> front, speech = front_end("qwen3-asr"), corpus()
    >>> prompt = build_prompt(speech.test[0], speech.pool, condition="micl", shots=2)
    >>> PositionCounter(front).count(prompt) == len(encode(prompt, front).ids)
    True
    """

    def __init__(self, front: FrontEnd) -> None:
        self.front = front
        self._clips: dict[Audio, int] = {}
        self._texts: dict[tuple[str, str], int] = {}

    def count(self, prompt: Prompt, output: str | None = None) -> int:
        """Return how many positions :func:`attnlens.context.encode.encode` would fill."""
        own: Any = getattr(self.front, "encode", None)
        if own is not None:
            return len(own(prompt, output=output).ids)
        begin, _, end = self.front.markup.audio
        markers = sum(self.text(one, "markup") for one in (begin, end) if one)
        total = 0 if output is None else self.text(output, "content")
        for piece in TEMPLATES[prompt.template].pieces(prompt, self.front.markup):
            total += self.text(piece.text, piece.kind) if isinstance(piece, Text) else markers + self._clip(piece.audio)
        return total

    def text(self, text: str, kind: Any) -> int:
        """Return how many tokens a text has."""
        if (text, kind) not in self._texts:
            self._texts[text, kind] = len(self.front.tokenise(text, kind=kind))
        return self._texts[text, kind]

    def _clip(self, audio: Audio) -> int:
        if audio not in self._clips:
            self._clips[audio] = self.front.audio_positions(len(audio.load()))
        return self._clips[audio]
