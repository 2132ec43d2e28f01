"""Sequences end to end: nothing is computed on padding, and each attends to itself alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["attend", "decode_packed"]

_NAME = "packed"


def attend(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], *, causal: bool, scale: float | None = None
) -> Tensor:
    """Return attention [1, heads, positions, head] of sequences of some lengths, each within itself.

    >>> import torch
    >>> x = torch.randn(1, 2, 5, 4)
    >>> both = attend(x, x, x, [3, 2], causal=True)
    >>> torch.equal(both[:, :, :3], attend(*[x[:, :, :3]] * 3, [3], causal=True))
    True
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    # In half precision the way back takes a CPU up to four times as long as in full.
    dtype = torch.float32 if q.device.type == "cpu" else v.dtype
    with torch.autocast(q.device.type, enabled=False):
        parts = zip(*(torch.split(one.to(dtype), list(lengths), dim=2) for one in (q, k, v)), strict=True)
        mixed = [scaled_dot_product_attention(a, b, c, is_causal=causal, scale=scale) for a, b, c in parts]
        return torch.cat(mixed, dim=2).to(v.dtype)


def decode_packed(decoder: Any, embedded: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the last states [positions, width] of embeddings [positions, width], by a decoder of transformers."""
    import torch

    places = torch.cat([torch.arange(length, device=embedded.device) for length in lengths])
    with _packed(decoder.config):
        made = decoder(
            inputs_embeds=embedded[None],
            position_ids=places[None],
            # A mapping of masks is taken as it is; without one, a mask over all positions would be made.
            attention_mask=dict.fromkeys(decoder.config.layer_types),
            use_cache=False,
            packed_lengths=list(lengths),
        )
    return made.last_hidden_state[0]


@contextmanager
def _packed(config: Any) -> Iterator[None]:
    """Let a model attend in our way for now: what is written, or runs elsewhere, stays an ordinary one."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attention)
    usual, config._attn_implementation = config._attn_implementation, _NAME
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    scaling: float,
    packed_lengths: Sequence[int],
    **_options: Any,
) -> tuple[Tensor, None]:
    made = attend(query, key, value, packed_lengths, causal=True, scale=scaling)
    return made.transpose(1, 2).contiguous(), None
