"""Phi-4-multimodal, the native transformers class: 12.5 positions a second, one placeholder and no markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.data.audio import RATE
from attnlens.errors import BadInput
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.tiny import TEXT, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAMILY", "Phi4BackEnd", "Phi4FrontEnd"]


class Phi4FrontEnd(BaseFrontEnd):
    """Encodes clips one by one: padded together, a clip's embeddings would depend on the longest clip of the prompt."""

    family: ClassVar[str] = "phi4-multimodal"
    markup: ClassVar[Markup] = Markup(
        audio=("", "<|endoftext11|>", ""),
        system=("<|system|>", "<|end|>"),
        user=("<|user|>", "<|end|>"),
        assistant="<|assistant|>",
        dialect="phi4",
    )

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: whole analysis windows, eight to a position, the last one begun counted."""
        if samples < self.extractor.win_length:
            raise BadInput(
                f"a clip is shorter than one analysis window of {self.family}",
                given=f"{samples} samples",
                present=f"{self.extractor.win_length} samples are the least",
                fix="leave this utterance out",
            )
        frames = (samples - self.extractor.win_length) // self.extractor.hop_length + 1
        steps = -(-frames * self.extractor.audio_feat_stride // self.extractor.audio_compression_rate)
        return -(-steps // self.extractor.audio_downsample_rate)

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features [1, frames, mels] and their embedding size."""
        made = self.extractor([samples], sampling_rate=RATE, return_tensors="np")
        arrays = {"audio_input_features": made["audio_input_features"], "audio_embed_sizes": made["audio_embed_sizes"]}
        return Features(arrays, int(made["audio_embed_sizes"][0]))


class Phi4BackEnd(BaseBackEnd):
    """The speech adapter lies beside the weights; beyond a length, all positions are rotated by other factors."""

    model_class: ClassVar[str] = "Phi4MultimodalForCausalLM"
    decoder_path: ClassVar[str] = "model"
    encoder_path: ClassVar[str] = "model.embed_tokens_extend.audio_embed.encoder"
    projector_paths: ClassVar[tuple[str, ...]] = (
        "model.embed_tokens_extend.audio_embed.up_proj_for_speech",
        "model.embed_tokens_extend.audio_embed.down_proj_for_speech",
    )
    adapter_folder: ClassVar[str | None] = "speech-lora"

    @property
    def cache_border(self) -> int | None:
        """The length up to which the short rotary factors hold."""
        rope = self.model.config.rope_parameters
        return int(rope["original_max_position_embeddings"]) if rope["rope_type"] == "longrope" else None

    def embed_clip(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [positions, hidden] of one clip's features."""
        import torch

        positions = int(arrays["audio_embed_sizes"][0])
        ids = torch.full((1, positions), self.front.audio_token_id, device=self.model.device)
        empty = torch.zeros(1, positions, self.model.config.hidden_size, dtype=self.model.dtype, device=ids.device)
        return self.decoder.embed_tokens_extend.audio_embed(ids, empty, **arrays)[0]


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import Phi4MultimodalConfig
    from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import Phi4MultimodalFeatureExtractor

    special = ["<|endoftext11|>", "<|endoftext10|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer = byte_tokenizer(special, audio_token="<|endoftext11|>", image_token="<|endoftext10|>")  # noqa: S106
    audio, image = tokenizer.convert_tokens_to_ids(special[:2])
    config = Phi4MultimodalConfig(
        **TEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75},
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 2,
            "num_attention_heads": 4,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 16,
            "input_size": 80,
            "audio_token_id": audio,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "crop_size": 28,
            "patch_size": 14,
            "image_token_id": image,
        },
    )
    return tokenizer, Phi4MultimodalFeatureExtractor(), config


FAMILY = Family(
    name="phi4-multimodal",
    model_types=("phi4_multimodal",),
    front_end=Phi4FrontEnd,
    back_end=Phi4BackEnd,
    tiny=tiny,
)
