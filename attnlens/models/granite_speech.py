"""Granite Speech: 10 positions a second, in blocks of three."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.pieces import Markup
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.granite_mel import GraniteExtractor
from attnlens.models.tiny import TEXT, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FAMILY", "GraniteSpeechBackEnd", "GraniteSpeechFrontEnd"]


class GraniteSpeechFrontEnd(BaseFrontEnd):
    """Computes its own log-mel features, since the stock extractor needs torchaudio, which attnlens does without."""

    family: ClassVar[str] = "granite-speech"
    markup: ClassVar[Markup] = Markup(
        audio=("", "<|audio|>", ""),
        system=("<|start_of_role|>system<|end_of_role|>", "<|end_of_text|>\n"),
        user=("<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n"),
        assistant="<|start_of_role|>assistant<|end_of_role|>",
        dialect="granite",
    )

    def audio_positions(self, samples: int) -> int:
        """Return positions of a clip: pairs of frames in windows of fifteen, three positions to a window."""
        pairs = (samples // self.extractor.hop_length + 1) // 2
        window, rate = self.extractor.projector_window_size, self.extractor.projector_downsample_rate
        return -(-pairs // window) * (window // rate)

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return stacked pairs of log-mel frames [1, pairs, 2 * mels] and the mask of the projector's positions."""
        stacked = self.extractor(samples)
        window, rate = self.extractor.projector_window_size, self.extractor.projector_downsample_rate
        positions = -(-stacked.shape[0] // window) * (window // rate)
        arrays = {"input_features": stacked[None], "input_features_mask": np.ones((1, positions), dtype=bool)}
        return Features(arrays, positions)


class GraniteSpeechBackEnd(BaseBackEnd):
    """Divides the logits, which its class forgets, and keeps its adapter on whatever the prompt holds.

    The class switches the adapter off for prompts without audio; conditions would then differ in more than their
    context.
    """

    model_class: ClassVar[str] = "GraniteSpeechForConditionalGeneration"
    encoder_path: ClassVar[str] = "model.encoder"
    projector_paths: ClassVar[tuple[str, ...]] = ("model.projector",)
    adapter_folder: ClassVar[str | None] = ""

    @property
    def logit_scale(self) -> float:
        """One over the text model's ``logits_scaling``."""
        return 1.0 / float(self.model.config.text_config.logits_scaling)

    @property
    def residual_multiplier(self) -> float:
        """The text model's ``residual_multiplier``."""
        return float(self.model.config.text_config.residual_multiplier)

    def embed_clip(self, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings [positions, hidden] of one clip's features."""
        made = self.model.get_audio_features(arrays["input_features"], return_dict=True).pooler_output
        return made[arrays["input_features_mask"]]


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import GraniteSpeechConfig

    tokenizer = byte_tokenizer(["<|audio|>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"])
    config = GraniteSpeechConfig(
        encoder_config={
            "input_dim": 160,
            "num_layers": 2,
            "hidden_dim": 32,
            "num_heads": 4,
            "output_dim": 16,
            "context_size": 50,
            "max_pos_emb": 64,
            "conv_kernel_size": 5,
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "encoder_hidden_size": 32,
            "cross_attention_frequency": 1,
        },
        text_config={"model_type": "granite", **TEXT},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|audio|>"),
        has_lora_adapter=False,
    )
    return tokenizer, GraniteExtractor(), config


FAMILY = Family(
    name="granite-speech",
    model_types=("granite_speech",),
    front_end=GraniteSpeechFrontEnd,
    back_end=GraniteSpeechBackEnd,
    tiny=tiny,
)
