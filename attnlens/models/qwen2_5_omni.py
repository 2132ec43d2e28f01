"""Qwen2.5-Omni, the thinker: variable-length audio, 25 positions a second; images, video and speech output unused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.qwen2_audio import QWEN2_MARKUP, pooled
from attnlens.models.tiny import TEXT, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAMILY", "Qwen25OmniBackEnd", "Qwen25OmniFrontEnd"]


class Qwen25OmniFrontEnd(BaseFrontEnd):
    """Computes features of the clip and a little silence, then keeps the clip's frames.

    The stock processor pads to the extractor's whole window (five minutes) and the model then drops the padding; the
    kept frames are the same, at a fraction of the time.
    """

    family: ClassVar[str] = "qwen2.5-omni"
    markup: ClassVar[Markup] = QWEN2_MARKUP

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: its frames, the last one begun counted, halved twice."""
        self.refuse_longer(samples, self.extractor.n_samples)
        return pooled(-(-samples // self.extractor.hop_length))

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features of the clip's own frames, and a mask of ones."""
        hop = self.extractor.hop_length
        frames = -(-len(samples) // hop)
        padded = np.zeros((frames + self.extractor.n_fft // hop + 1) * hop, dtype=np.float32)
        padded[: len(samples)] = samples
        mel, _ = frames_by_mask(self.extractor, padded, padding="longest")
        mask = np.ones((1, frames), dtype=np.int64)
        return Features({"input_features": mel[..., :frames], "feature_attention_mask": mask}, pooled(frames))


class Qwen25OmniBackEnd(BaseBackEnd):
    """The thinker alone, also of a full checkpoint; its audio features come without a pooled output."""

    model_class: ClassVar[str] = "Qwen2_5OmniThinkerForConditionalGeneration"
    projector_paths: ClassVar[tuple[str, ...]] = ()

    def embed_clip(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [positions, hidden] of one clip's features."""
        return self.model.get_audio_features(**arrays, return_dict=True).last_hidden_state


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random thinker."""
    from transformers import WhisperFeatureExtractor
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

    others = ["<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>"]
    tokenizer = byte_tokenizer([*QWEN2_MARKUP.audio, "<|im_start|>", "<|im_end|>", *others])
    begin, audio, end, image, video, seen, unseen = tokenizer.convert_tokens_to_ids([*QWEN2_MARKUP.audio, *others])
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 80,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "max_source_positions": 1500,
            "n_window": 100,
            "output_dim": 64,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0],
        },
        text_config={
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        },
        audio_token_index=audio,
        image_token_index=image,
        video_token_index=video,
        audio_start_token_id=begin,
        audio_end_token_id=end,
        # Read when positions are computed, yet no fields of the configuration: without them the forward fails.
        vision_start_token_id=seen,
        vision_end_token_id=unseen,
    )
    return tokenizer, WhisperFeatureExtractor(feature_size=80, chunk_length=300), config


FAMILY = Family(
    name="qwen2.5-omni",
    model_types=("qwen2_5_omni", "qwen2_5_omni_thinker"),
    front_end=Qwen25OmniFrontEnd,
    back_end=Qwen25OmniBackEnd,
    tiny=tiny,
)
