"""What a text decoder's sizes mean: the arithmetic of reading, and the memory that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from attnlens.models.dimensions import KNOWN
from attnlens.models.registry import resolve

__all__ = ["FLOAT", "Decoder", "weight_width", "weights_of"]

FLOAT = 4


@dataclass(frozen=True)
class Decoder:
    """The sizes of a decoder that its cost depends on; ``inner`` is what one token passes through.

    >>> from attnlens.models.dimensions import sized_front_end
    >>> phi = Decoder.of(sized_front_end("microsoft/Phi-4-multimodal-instruct"))
    >>> phi.adapted(320, matrices="fused")  # its own speech adapter, as published
    461373440
    """

    layers: int
    heads: int
    keys: int
    per_head: int
    hidden: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, front: Any) -> Decoder:
        """Read the sizes from a front end's configuration."""
        text = front.config.get_text_config(decoder=True)

        def told(*names: str) -> int | None:
            return next((int(found) for name in names if (found := getattr(text, name, None)) is not None), None)

        hidden, heads = int(text.hidden_size), int(text.num_attention_heads)
        experts, width = told("num_experts_per_tok"), told("moe_intermediate_size")
        # A configuration of experts names the width of one; a token passes several.
        several = experts * width if experts and width else None
        return cls(
            layers=int(text.num_hidden_layers),
            heads=heads,
            keys=told("num_key_value_heads") or heads,
            per_head=told("head_dim") or hidden // heads,
            hidden=hidden,
            inner=several or told("intermediate_size", "encoder_ffn_dim") or 4 * hidden,
            vocabulary=told("vocab_size") or 0,
        )

    @property
    def active(self) -> int:
        """Parameters of the layers that one token is multiplied with."""
        attention = self.hidden * self.per_head * (2 * self.heads + 2 * self.keys)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def cached(self) -> int:
        """How many numbers the keys and values of one position are."""
        return 2 * self.layers * self.keys * self.per_head

    def adapted(self, rank: int, *, matrices: Literal["fused", "apart"] = "apart") -> int:
        """Return the parameters of a LoRA of that rank on every matrix.

        ``fused`` are queries, keys and values in one matrix, and gate and up in one, as Phi-4 has them.
        """
        own, keys = self.per_head * self.heads, self.per_head * self.keys
        inputs = self.hidden * (2 if matrices == "fused" else 5) + own + self.inner
        outputs = own + 2 * keys + self.hidden + 2 * self.inner + self.hidden
        return self.layers * rank * (inputs + outputs)

    def operations(self, positions: int, *, after: int = 0) -> float:
        """Return multiplications and additions of reading so many positions after others that are kept.

        The weights, and of attention the half of the square that is not masked.
        """
        seen = after * positions + positions**2 / 2
        return 2.0 * self.active * positions + 4.0 * self.layers * self.heads * self.per_head * seen

    def working(self, longest: int, *, rows: int, width: int) -> int:
        """Return about what one pass and the cache of a generation hold, for a prompt of so many positions.

        To it come the attention weights of the rows that are measured, one layer at a time, and the logits of these.
        """
        passing = longest * width * (self.cached + 4 * self.hidden + 3 * self.inner)
        return passing + 3 * FLOAT * self.heads * rows * longest + 2 * FLOAT * rows * self.vocabulary


def weight_width(name: str, dtype: str) -> int:
    """Return the bytes of a weight: checkpoints of known size are kept in two.

    >>> weight_width("microsoft/Phi-4-multimodal-instruct", "auto"), weight_width("organism", "auto")
    (2, 4)
    """
    if dtype == "auto" and name in KNOWN:
        dtype = "bfloat16"
    return {"bfloat16": 2, "float16": 2}.get(dtype, FLOAT)


def weights_of(name: str, dtype: str) -> int | None:
    """Return the bytes of a checkpoint's weights, on this machine or of a known size; None where nobody knows."""
    folder = Path(resolve(name))
    on_disk = [one.stat().st_size for one in folder.glob("*.safetensors")] if folder.is_dir() else []
    if on_disk:
        return sum(on_disk)
    return KNOWN[name].parameters * weight_width(name, dtype) if name in KNOWN else None
