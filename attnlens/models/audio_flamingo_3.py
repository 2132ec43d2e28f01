"""Audio Flamingo 3: windows of 30 s laid end to end, 25 positions a second, a Qwen2 decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.data.audio import RATE
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.qwen2_audio import QWEN2_MARKUP, pooled
from attnlens.models.tiny import TEXT, byte_tokenizer

__all__ = ["FAMILY", "AudioFlamingo3BackEnd", "AudioFlamingo3FrontEnd"]

LONGEST = 600
"""Seconds; the stock processor cuts longer recordings with no more than a log line."""


class AudioFlamingo3FrontEnd(BaseFrontEnd):
    """Encodes clips one by one, which its stock processor refuses to do for several clips in one text."""

    family: ClassVar[str] = "audio-flamingo-3"
    markup: ClassVar[Markup] = replace(QWEN2_MARKUP, audio=("", "<sound>", ""))

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip; its windows' frames are added up before they are halved."""
        self.refuse_longer(samples, LONGEST * RATE)
        return pooled(-(-samples // self.extractor.hop_length))

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features [windows, mels, 3000] and their mask [windows, 3000]."""
        window = self.extractor.n_samples
        made = [
            frames_by_mask(self.extractor, samples[start : start + window], padding="max_length")
            for start in range(0, len(samples), window)
        ]
        mel = np.concatenate([one for one, _ in made])
        mask = np.concatenate([one for _, one in made])
        return Features({"input_features": mel, "input_features_mask": mask}, pooled(int(mask.sum())))


class AudioFlamingo3BackEnd(BaseBackEnd):
    """Nothing differs."""

    model_class: ClassVar[str] = "AudioFlamingo3ForConditionalGeneration"


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import AudioFlamingo3Config, WhisperFeatureExtractor

    tokenizer = byte_tokenizer(["<sound>", "<|im_start|>", "<|im_end|>"])
    config = AudioFlamingo3Config(
        audio_config={
            "model_type": "audioflamingo3_encoder",
            "num_mel_bins": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "hidden_size": 32,
            "max_source_positions": 1500,
        },
        text_config={"model_type": "qwen2", **TEXT},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    return tokenizer, WhisperFeatureExtractor(feature_size=80), config


FAMILY = Family(
    name="audio-flamingo-3",
    model_types=("audioflamingo3", "musicflamingo"),
    front_end=AudioFlamingo3FrontEnd,
    back_end=AudioFlamingo3BackEnd,
    tiny=tiny,
)
