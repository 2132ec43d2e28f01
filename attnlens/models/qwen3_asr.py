"""Qwen3-ASR: audio in windows of one second, 13 positions each; a plain Qwen3 decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.tiny import TEXT, byte_tokenizer

__all__ = ["FAMILY", "QWEN3_MARKUP", "Qwen3AsrBackEnd", "Qwen3AsrFrontEnd", "windowed"]

QWEN3_MARKUP = Markup(
    audio=("<|audio_start|>", "<|audio_pad|>", "<|audio_end|>"),
    system=("<|im_start|>system\n", "<|im_end|>\n"),
    user=("<|im_start|>user\n", "<|im_end|>\n"),
    assistant="<|im_start|>assistant\n",
    dialect="qwen",
)


def windowed(frames: int) -> int:
    """Return positions of so many log-mel frames: 13 per full window of 100, the rest halved three times.

    >>> windowed(100), windowed(150), windowed(99)
    (13, 20, 13)
    """
    rest = frames % 100
    halved = (rest - 1) // 2 + 1
    return ((halved - 1) // 2 + 1 - 1) // 2 + 1 + (frames // 100) * 13


class Qwen3AsrFrontEnd(BaseFrontEnd):
    """Encodes clips one by one, which its stock processor refuses to do for several clips in one text."""

    family: ClassVar[str] = "qwen3-asr"
    markup: ClassVar[Markup] = QWEN3_MARKUP

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: full frames only, and half a second at the least."""
        heard = max(samples, getattr(self.extractor, "min_length", 0))
        return windowed(heard // self.extractor.hop_length)

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features padded to whole windows, and the mask of what is heard."""
        mel, mask = frames_by_mask(self.extractor, samples, padding="longest")
        return Features({"input_features": mel, "input_features_mask": mask}, windowed(int(mask.sum())))


class Qwen3AsrBackEnd(BaseBackEnd):
    """Nothing differs."""

    model_class: ClassVar[str] = "Qwen3ASRForConditionalGeneration"


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import Qwen3ASRConfig
    from transformers.models.qwen3_asr.feature_extraction_qwen3_asr import Qwen3ASRFeatureExtractor

    tokenizer = byte_tokenizer(
        [*QWEN3_MARKUP.audio, "<|im_start|>", "<|im_end|>", "<asr_text>"],
        audio_bos_token="<|audio_start|>",  # noqa: S106
        audio_token="<|audio_pad|>",  # noqa: S106
        audio_eos_token="<|audio_end|>",  # noqa: S106
    )
    config = Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            "num_mel_bins": 80,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "n_window": 50,
            "n_window_infer": 400,
            "output_dim": 64,
            "downsample_hidden_size": 8,
        },
        text_config={"model_type": "qwen3", "head_dim": 8, **TEXT},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
        timestamp_token_id=tokenizer.convert_tokens_to_ids("<asr_text>"),
        pad_token_id=0,
        eos_token_id=2,
    )
    return tokenizer, Qwen3ASRFeatureExtractor(feature_size=80), config


FAMILY = Family(
    name="qwen3-asr", model_types=("qwen3_asr",), front_end=Qwen3AsrFrontEnd, back_end=Qwen3AsrBackEnd, tiny=tiny
)
