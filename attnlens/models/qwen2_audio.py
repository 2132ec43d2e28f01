"""Qwen2-Audio: a Whisper-like encoder over a fixed 30 s window, 25 positions a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.tiny import TEXT, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAMILY", "QWEN2_MARKUP", "Qwen2AudioBackEnd", "Qwen2AudioFrontEnd", "pooled"]

QWEN2_MARKUP = Markup(
    audio=("<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"),
    system=("<|im_start|>system\n", "<|im_end|>\n"),
    user=("<|im_start|>user\n", "<|im_end|>\n"),
    assistant="<|im_start|>assistant\n",
    default_system="You are a helpful assistant.",
    dialect="qwen2",
)


def pooled(frames: int) -> int:
    """Return positions of so many log-mel frames: a convolution of stride 2, then average pooling by 2.

    >>> pooled(3000)
    750
    """
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


class Qwen2AudioFrontEnd(BaseFrontEnd):
    """Pads every clip to the encoder's window; the mask says which frames are heard."""

    family: ClassVar[str] = "qwen2-audio"
    markup: ClassVar[Markup] = QWEN2_MARKUP

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: its frames, the last one begun counted, halved twice."""
        self.refuse_longer(samples, self.extractor.n_samples)
        return pooled(-(-samples // self.extractor.hop_length))

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return the window's log-mel features and its mask."""
        mel, mask = frames_by_mask(self.extractor, samples, padding="max_length")
        arrays = {"input_features": mel, "feature_attention_mask": mask}
        return Features(arrays, pooled(int(mask.sum())))


class Qwen2AudioBackEnd(BaseBackEnd):
    """Encodes clips as the class does within its forward pass, since it offers no method of its own for them."""

    model_class: ClassVar[str] = "Qwen2AudioForConditionalGeneration"

    def embed_clip(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [positions, hidden] of one clip's features."""
        import torch
        from transformers.masking_utils import create_bidirectional_mask

        inner = self.model.base_model
        window, frames = arrays["input_features"], arrays["feature_attention_mask"].sum(-1)
        halved, positions = inner.audio_tower._get_feat_extract_output_lengths(frames)
        steps = torch.arange((window.shape[-1] - 2) // 2 + 1, device=window.device)[None]
        mask = create_bidirectional_mask(
            config=inner.audio_tower.config,
            inputs_embeds=window.new_zeros(1, steps.shape[-1], 1),
            attention_mask=(steps < halved[:, None]).long(),
        )
        states = inner.audio_tower(window, attention_mask=mask).last_hidden_state
        return inner.multi_modal_projector(states)[0, : int(positions)]


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import Qwen2AudioConfig, WhisperFeatureExtractor

    tokenizer = byte_tokenizer([*QWEN2_MARKUP.audio, "<|im_start|>", "<|im_end|>"])
    extractor = WhisperFeatureExtractor(feature_size=80)
    audio = {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 80,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "d_model": 32,
        "max_source_positions": 1500,
    }
    config = Qwen2AudioConfig(
        audio_config=audio,
        text_config={"model_type": "qwen2", **TEXT},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return tokenizer, extractor, config


FAMILY = Family(
    name="qwen2-audio",
    model_types=("qwen2_audio",),
    front_end=Qwen2AudioFrontEnd,
    back_end=Qwen2AudioBackEnd,
    tiny=tiny,
)
