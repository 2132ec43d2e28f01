"""From a prompt to token ids with a label on every one of them, before any weights exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.context.pieces import Markup, Text
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Label, SpanMap
from attnlens.context.templates import TEMPLATES
from attnlens.data.audio import Audio
from attnlens.errors import BadInput, SelfCheckFailed

__all__ = ["DoesNotFit", "Ears", "Encoded", "Features", "FrontEnd", "encode", "encode_fitting", "hear"]


class DoesNotFit(BadInput):
    """A prompt that is too long for a model in a way that fewer demonstrations would mend."""


@dataclass(frozen=True)
class Features:
    """What a feature extractor makes of one clip: the model's arrays and how many positions they will fill."""

    arrays: dict[str, NDArray[Any]]
    positions: int


Ears = Callable[[Audio], Features]
"""Gives a clip's features from elsewhere, such as a cache, in place of decoding and extracting."""


class FrontEnd(Protocol):
    """A family's tokenizer and feature extractor, as far as encoding needs them; no weights."""

    @property
    def markup(self) -> Markup:
        """How the family writes turns and recordings."""
        ...

    @property
    def context_length(self) -> int | None:
        """How many positions fit, None when nobody says."""
        ...

    @property
    def audio_token_id(self) -> int:
        """The placeholder that audio positions hold."""
        ...

    def tokenise(self, text: str, *, kind: Literal["markup", "content"]) -> list[int]:
        """Return ids of a piece on its own; ``content`` is never read as special tokens."""
        ...

    def strings(self, ids: NDArray[np.int64]) -> list[str]:
        """Return each token as a person would read it."""
        ...

    def audio_positions(self, samples: int) -> int:
        """Return how many positions a clip of so many samples at 16 kHz fills; refuses what the family would cut."""
        ...

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Extract the features of one clip [samples]."""
        ...


@dataclass(frozen=True)
class Encoded:
    """A prompt as a model reads it: ids, a label for each, and the features of its clips in order.

    ``shots_dropped`` counts demonstrations that ``on_overflow="fewer-shots"`` left out. ``encoder_spans`` label the
    positions of an encoder that the decoder attends to, where recordings have no positions among the ids (Whisper).
    ``frames_lost`` are positions of that encoder for which its window had no room: of all clips, of the target's.
    """

    prompt: Prompt
    ids: NDArray[np.int64]
    spans: SpanMap
    features: tuple[Features, ...]
    shots_dropped: int = 0
    encoder_spans: SpanMap | None = None
    frames_lost: tuple[int, int] = (0, 0)


def encode(prompt: Prompt, front: FrontEnd, *, output: str | None = None, ears: Ears | None = None) -> Encoded:
    """Turn a prompt into labelled ids and features; ``output`` appends tokens as the answer.

    ``ears`` say what the extractor makes of a clip, where that is known already: training reads each clip many times.

    Each piece is tokenised on its own, so that a border between pieces is a border between tokens, whatever the
    tokenizer would merge across it. What stands in a clip's positions is counted twice, by the family's length rule and
    by its feature extractor, and the two must agree. A family whose recordings do not stand among its tokens encodes by
    a method of its own.
    """
    own: Callable[..., Encoded] | None = getattr(front, "encode", None)
    if own is not None:
        if ears is not None:
            raise BadInput(
                "recordings do not stand among this family's tokens: their features cannot be given",
                given=type(front).__name__,
                fix="leave ears out",
            )
        return own(prompt, output=output)
    ids: list[int] = []
    lengths: list[tuple[Label, int, float | None]] = []
    features: list[Features] = []
    begin, placeholder, end = front.markup.audio
    for piece in TEMPLATES[prompt.template].pieces(prompt, front.markup):
        if isinstance(piece, Text):
            new = front.tokenise(piece.text, kind=piece.kind)
            ids += new
            lengths.append((piece.label, len(new), None))
            continue
        clip = hear(piece.audio, front) if ears is None else ears(piece.audio)
        features.append(clip)
        opening = front.tokenise(begin, kind="markup") if begin else []
        closing = front.tokenise(end, kind="markup") if end else []
        ids += [*opening, *[front.audio_token_id] * clip.positions, *closing]
        lengths.append((piece.label, len(opening) + clip.positions + len(closing), piece.audio.seconds))
    if output is not None:
        new = front.tokenise(output, kind="content")
        ids += new
        lengths.append((Label("output"), len(new), None))
    encoded = Encoded(prompt, np.asarray(ids, dtype=np.int64), SpanMap.of(lengths), tuple(features))
    _check(encoded, front, placeholder)
    return encoded


def encode_fitting(
    build: Callable[[int], Prompt],
    front: FrontEnd,
    *,
    shots: int,
    on_overflow: Literal["refuse", "fewer-shots"] = "refuse",
    reserve: int = 0,
) -> Encoded:
    """Encode ``build(shots)``, keeping ``reserve`` positions free for the answer; say or shrink when it does not fit.

    With ``fewer-shots`` the largest number of shots that fits is used and the rest is counted in ``shots_dropped``.
    """
    try:
        return _encode_within(build(shots), front, reserve)
    except DoesNotFit:
        if on_overflow == "refuse":
            raise
    fits: Encoded | None = None
    low, high = 0, shots - 1
    while low <= high:
        middle = (low + high) // 2
        try:
            fits, low = _encode_within(build(middle), front, reserve), middle + 1
        except DoesNotFit:
            high = middle - 1
    if fits is None:
        raise BadInput(
            f"even without demonstrations the prompt for {build(0).target.id!r} is longer than the context",
            present=f"a context of {front.context_length} positions, {reserve} of them kept for the answer",
            fix="leave this utterance out, or use a model with a longer context",
        )
    return replace(fits, shots_dropped=shots - len(fits.prompt.demonstrations))


def _encode_within(prompt: Prompt, front: FrontEnd, reserve: int) -> Encoded:
    encoded, limit = encode(prompt, front), front.context_length
    if limit is not None and len(encoded.ids) + reserve > limit:
        raise DoesNotFit(
            f"the prompt is longer than the model's context: {len(encoded.ids)} + {reserve} positions",
            given=f"{prompt.shots} shots for {prompt.target.id!r}",
            present=f"a context of {limit} positions",
            fix="lower the shots, or choose on_overflow='fewer-shots'",
        )
    return encoded


def hear(audio: Audio, front: FrontEnd) -> Features:
    """Return what a front end makes of a clip; refused where its length rule says otherwise."""
    samples = audio.load()
    expected = front.audio_positions(len(samples))
    features = front.features(samples)
    if features.positions != expected:
        raise SelfCheckFailed(
            f"the length rule and the feature extractor disagree about {audio.describe()}",
            given=f"{len(samples)} samples",
            present=f"rule: {expected} positions, extractor: {features.positions}",
            fix="report this: spans computed for this model would be wrong",
        )
    return features


def _check(encoded: Encoded, front: FrontEnd, placeholder: str) -> None:
    if len(encoded.spans) != len(encoded.ids):
        raise SelfCheckFailed(
            "labels and tokens differ in number", given=len(encoded.spans), present=f"{len(encoded.ids)} tokens"
        )
    due = sum(clip.positions for clip in encoded.features)
    there = int((encoded.ids == front.audio_token_id).sum())
    if due != there:
        raise SelfCheckFailed(
            f"{there} positions hold the audio placeholder {placeholder!r}, the features fill {due}",
            given=encoded.prompt.target.id,
            fix="check that no text of the prompt is read as a placeholder",
        )
