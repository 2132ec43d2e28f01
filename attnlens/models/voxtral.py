"""Voxtral: every started half minute takes 375 positions, most of them silence when clips are short."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.data.audio import RATE
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.tiny import TEXT, byte_tokenizer

__all__ = ["FAMILY", "VoxtralBackEnd", "VoxtralFrontEnd"]


class VoxtralFrontEnd(BaseFrontEnd):
    """Pads every clip to whole windows of 30 s, as the model was trained; reads no more than the padding rule needs.

    Masses over its audio count padding too: read them per heard second, which the span's ``seconds`` give.
    """

    family: ClassVar[str] = "voxtral"
    markup: ClassVar[Markup] = Markup(
        audio=("[BEGIN_AUDIO]", "[AUDIO]", ""),
        begin="<s>",
        user=("[INST]", "[/INST]"),
        dialect="mistral",
    )

    @property
    def positions_per_window(self) -> int:
        """Positions of one window: encoder frames, stacked until they fill the projector's input."""
        audio = self.config.audio_config
        return int(audio.max_source_positions * audio.hidden_size // audio.intermediate_size)

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: every window begun counts in full."""
        return -(-samples // self.extractor.n_samples) * self.positions_per_window

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features [windows, mels, 3000]."""
        window = self.extractor.n_samples
        made = self.extractor(
            samples,
            sampling_rate=RATE,
            padding=True,
            truncation=False,
            pad_to_multiple_of=window,
            return_tensors="np",
        )["input_features"]
        mel = np.asarray(made).reshape(self.extractor.feature_size, -1, self.extractor.nb_max_frames).transpose(1, 0, 2)
        return Features({"input_features": mel}, len(mel) * self.positions_per_window)


class VoxtralBackEnd(BaseBackEnd):
    """Nothing differs."""

    model_class: ClassVar[str] = "VoxtralForConditionalGeneration"


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import VoxtralConfig, WhisperFeatureExtractor

    tokenizer = byte_tokenizer(["[AUDIO]", "[BEGIN_AUDIO]", "[INST]", "[/INST]", "<s>"])
    config = VoxtralConfig(
        audio_config={
            "model_type": "voxtral_encoder",
            "num_mel_bins": 80,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 480,
            "hidden_size": 32,
            "max_source_positions": 1500,
        },
        text_config={"model_type": "llama", **TEXT},
        audio_token_id=tokenizer.convert_tokens_to_ids("[AUDIO]"),
    )
    return tokenizer, WhisperFeatureExtractor(feature_size=80), config


FAMILY = Family(name="voxtral", model_types=("voxtral",), front_end=VoxtralFrontEnd, back_end=VoxtralBackEnd, tiny=tiny)
