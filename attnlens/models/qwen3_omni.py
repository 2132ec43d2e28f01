"""Qwen3-Omni, the thinker: 13 positions a second into a mixture-of-experts decoder; the talker is never loaded."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.qwen2_5_omni import Qwen25OmniBackEnd
from attnlens.models.qwen3_asr import QWEN3_MARKUP, windowed
from attnlens.models.tiny import TEXT, byte_tokenizer

__all__ = ["FAMILY", "Qwen3OmniBackEnd", "Qwen3OmniFrontEnd"]


class Qwen3OmniFrontEnd(BaseFrontEnd):
    """Encodes clips one by one, unpadded."""

    family: ClassVar[str] = "qwen3-omni"
    markup: ClassVar[Markup] = QWEN3_MARKUP

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip, full frames only."""
        return windowed(samples // self.extractor.hop_length)

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features of the clip and a mask of ones."""
        mel, mask = frames_by_mask(self.extractor, samples, padding="longest")
        return Features({"input_features": mel, "feature_attention_mask": mask}, windowed(int(mask.sum())))


class Qwen3OmniBackEnd(Qwen25OmniBackEnd):
    """As its predecessor."""

    model_class: ClassVar[str] = "Qwen3OmniMoeThinkerForConditionalGeneration"


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random thinker with four experts."""
    from transformers import WhisperFeatureExtractor
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

    others = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = byte_tokenizer([*QWEN3_MARKUP.audio, "<|im_start|>", "<|im_end|>", *others])
    begin, audio, end, image, video, seen, unseen = tokenizer.convert_tokens_to_ids([*QWEN3_MARKUP.audio, *others])
    config = Qwen3OmniMoeThinkerConfig(
        audio_config={
            "num_mel_bins": 80,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "max_source_positions": 1500,
            "n_window": 50,
            "n_window_infer": 400,
            "output_dim": 64,
            "downsample_hidden_size": 8,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        text_config={
            **TEXT,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 1, 1],
                "interleaved": True,
                "mrope_interleaved": True,
            },
        },
        audio_token_id=audio,
        image_token_id=image,
        video_token_id=video,
        audio_start_token_id=begin,
        vision_start_token_id=seen,
        vision_end_token_id=unseen,
        audio_end_token_id=end,
    )
    return tokenizer, WhisperFeatureExtractor(feature_size=80), config


FAMILY = Family(
    name="qwen3-omni",
    model_types=("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
    front_end=Qwen3OmniFrontEnd,
    back_end=Qwen3OmniBackEnd,
    tiny=tiny,
)
