"""Clips as vectors: log-mel statistics by default, states of a speech encoder when named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.logmel import LogMel
from attnlens.context.retrieval.progress import tracked
from attnlens.context.retrieval.speech_encoder import SpeechEncoder
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.data.audio import Audio
    from attnlens.data.cache import ArrayCache
    from attnlens.data.utterance import Utterance

__all__ = ["AudioEncoder", "Summary", "audio_encoder", "mean", "mean_and_std", "summarised"]

Summary: TypeAlias = "Callable[[NDArray[np.float32]], NDArray[np.float32]]"
"""What reduces frames [frames, dimensions] to one row."""


class AudioEncoder(Protocol):
    """Anything that describes a clip by a row per frame."""

    @property
    def identity(self) -> str:
        """Return what tells this encoder's frames from any other's, for the cache."""
        ...

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        """Return [frames, dimensions], at least one frame, none of them padding."""
        ...


def audio_encoder(encoder: str | AudioEncoder | None, *, layer: int | None, device: str) -> AudioEncoder:
    """Return the encoder meant by an option: None for log-mel frames, a name or path for transformers, or itself."""
    if isinstance(encoder, str):
        return SpeechEncoder(encoder, layer=layer, device=device)
    if layer is not None:
        raise BadInput("a layer was chosen, but no speech encoder", given=f"layer={layer}", fix="pass encoder= as well")
    return LogMel() if encoder is None else encoder


def mean(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average frames [frames, dimensions] over time."""
    average: NDArray[np.float32] = frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    return average


def mean_and_std(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean, then the standard deviation, of frames [frames, dimensions]: [2 x dimensions]."""
    return np.concatenate([mean(frames), frames.std(axis=0, dtype=np.float64).astype(np.float32)])


def summarised(
    utterances: Sequence[Utterance],
    encoder: AudioEncoder,
    summary: Summary,
    *,
    name: str,
    cache: ArrayCache | None,
) -> NDArray[np.float32]:
    """Reduce each clip's frames to one row [utterances, summary]; frames are forgotten, the rows cached by ``name``."""
    rows = []
    for utterance in tracked(utterances, total=len(utterances), what="listening"):
        audio = utterance.audio

        def compute(audio: Audio = audio) -> NDArray[np.float32]:
            return summary(encoder.frames(audio))

        row = (
            compute()
            if cache is None
            else cache.get_or_compute(f"audio-summary.v1:{encoder.identity}:{name}:{audio.digest}", compute)
        )
        if not np.isfinite(row).all():
            raise BadInput(
                f"the audio of {utterance.id!r} gives numbers that are not finite",
                given=audio.describe(),
                fix="look for NaN samples with `attnlens data check`",
            )
        rows.append(row)
    return np.stack(rows)
