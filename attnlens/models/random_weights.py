"""Weights of tiny stand-ins: random, the same for a seed, and with attention that is not flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnlens.models.family import Family
    from attnlens.models.frontend import BaseFrontEnd

__all__ = ["random_weights"]

SHARPER = 8.0
"""How much larger query and key weights are than freshly initialised ones: nearly uniform attention passes any test."""


def random_weights(front: BaseFrontEnd, family: Family, *, seed: int) -> Any:
    """Return a model of the family's class with random weights; the global random state stays as it was."""
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, family.back_end.model_class)._from_config(front.config)
    with torch.no_grad():
        back = family.back_end(model, front)
        decoder = [layer.get_submodule(back.attention_name) for layer in back.decoder_layers]
        for attention in [*decoder, *back.cross_attention, *back.encoder_attention]:
            _sharpen(attention)
    return model.eval()


def _sharpen(attention: Any) -> None:
    if hasattr(attention, "q_norm"):
        # Normalised queries and keys forget the size of their weights.
        attention.q_norm.weight *= SHARPER**0.5
    elif hasattr(attention, "qkv_proj"):
        # Queries, keys and values stand in one, in this order.
        values = attention.num_key_value_heads * attention.head_dim
        attention.qkv_proj.weight[:-values] *= SHARPER
    else:
        attention.q_proj.weight *= SHARPER
        attention.k_proj.weight *= SHARPER
