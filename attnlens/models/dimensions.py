"""Sizes of published checkpoints, so that what a run would cost can be said on a machine that has none of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import UnknownName
from attnlens.models.registry import FAMILIES

if TYPE_CHECKING:
    from attnlens.models.frontend import BaseFrontEnd

__all__ = ["KNOWN", "Dimensions", "is_here", "sized_front_end"]


@dataclass(frozen=True)
class Dimensions:
    """A published checkpoint's text decoder, and how many parameters are loaded in all.

    ``inner`` is what one token passes through: of a mixture of experts, those that are active. ``parameters`` counts
    what attnlens loads: encoders and the family's own adapter with it, talkers without. ``own_rank`` is that of the
    adapter that the checkpoint holds, 0 where it holds none.
    """

    family: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    inner: int
    vocabulary: int
    context: int
    parameters: int
    own_rank: int = 0

    @property
    def active(self) -> int:
        """Parameters of the decoder that one token is multiplied with, embeddings and unembedding left out."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    def config(self) -> dict[str, int]:
        """Return the same under the names of transformers' configurations."""
        return {
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
        }


# Layers, heads and widths as the checkpoints' configurations have them; parameters counted from transformers' classes
# with these widths on the meta device. Phi-4-multimodal with its speech adapter of rank 320, without that for images;
# Qwen2.5-Omni with 0.68 billion for its eyes, which the defaults of its class do not have.
KNOWN: dict[str, Dimensions] = {
    "microsoft/Phi-4-multimodal-instruct": Dimensions(
        "phi4-multimodal", 32, 24, 8, 128, 3072, 8192, 200064, 131072, 5_205_377_472, 320
    ),
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": Dimensions(
        "qwen3-omni", 48, 32, 4, 128, 2048, 8 * 768, 152064, 65536, 31_749_490_800
    ),
    "Qwen/Qwen2.5-Omni-7B": Dimensions("qwen2.5-omni", 28, 28, 4, 128, 3584, 18944, 152064, 32768, 8_931_000_000),
    "Qwen/Qwen2-Audio-7B-Instruct": Dimensions(
        "qwen2-audio", 32, 32, 32, 128, 4096, 11008, 156032, 8192, 8_397_094_912
    ),
    "Qwen/Qwen3-ASR-1.7B": Dimensions("qwen3-asr", 28, 16, 8, 128, 2048, 6144, 151936, 65536, 2_039_626_880),
    "mistralai/Voxtral-Mini-3B-2507": Dimensions("voxtral", 30, 32, 8, 128, 3072, 8192, 131072, 131072, 4_676_271_104),
}


def is_here(name: str, *, revision: str | None = None) -> bool:
    """Say whether a checkpoint's configuration is on this machine; the network is never asked.

    >>> is_here("tiny:qwen3-asr"), is_here("organism"), is_here("nobody/nothing")
    (True, True, False)
    """
    if "/" not in name or Path(name).exists():
        return True
    from transformers.utils import cached_file

    found: Any = None
    try:
        found = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return False
    return found is not None


def sized_front_end(name: str) -> BaseFrontEnd:
    """Return a front end that fills as many positions with audio as a published checkpoint's, without the checkpoint.

    Its tokenizer has a token per byte, so text is counted too long, never too short.

    >>> front = sized_front_end("microsoft/Phi-4-multimodal-instruct")
    >>> front.audio_positions(160_000), front.context_length
    (125, 131072)
    """
    if name not in KNOWN:
        raise UnknownName.among("published checkpoint", name, KNOWN, fix="name one of these, or load the checkpoint")
    sizes = KNOWN[name]
    family = FAMILIES[sizes.family]
    front = family.front_end(*family.tiny())
    text = front.config.get_text_config(decoder=True)
    for key, value in sizes.config().items():
        setattr(text, key, value)
    if hasattr(text, "num_experts_per_tok"):
        text.num_experts_per_tok, text.moe_intermediate_size = 1, sizes.inner
    return front
