"""One call of an attention implementation: its tensors, where they stand, and which keys each query may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attnlens.errors import BadInput, SelfCheckFailed, UnsupportedModel

__all__ = ["MASKED", "Call", "Style", "batched", "pick", "read_call"]

MASKED = -1e30
"""Score of a key that may not be seen: far below any score, yet finite, so that a row without keys makes no NaN."""

Style = Literal["sdpa", "eager", "flash"]
"""How an implementation reads a missing mask: causal from the upper left, everything visible, causal by position."""


@dataclass(frozen=True)
class Call:
    """The attention of some heads: ``query`` [B, H, q, d], ``key`` [B, Hkv, kv, d], ``value`` [B, Hkv, kv, dv].

    ``mask`` is [B or 1, H or 1, q or 1, >= kv], boolean (True is visible) or additive; with style ``flash`` [B, kv].
    ``heads`` are the numbers of these heads among the ``heads_in_module``. ``query_start`` and ``key_start`` are the
    absolute positions of the first query and the first key.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    style: Style
    causal: bool
    window: int | None
    softcap: float | None
    bias: Tensor | None
    query_start: int
    key_start: int
    heads: tuple[int, ...]
    heads_in_module: int

    @property
    def n_queries(self) -> int:
        """How many queries the call has."""
        return self.query.shape[2]

    @property
    def n_keys(self) -> int:
        """How many keys the call has."""
        return self.key.shape[2]

    @property
    def shared(self) -> int:
        """How many query heads share one key head."""
        return self.query.shape[1] // self.key.shape[1]

    def take(self, heads: Sequence[int] | None) -> Call:
        """Return the call of some of the module's heads, each with its own copy of its key head."""
        if heads is None:
            return self
        at = [self.heads.index(head) for head in heads]
        on = [place // self.shared for place in at]
        mask, bias = self.mask, self.bias
        return replace(
            self,
            query=self.query[:, at],
            key=self.key[:, on],
            value=self.value[:, on],
            mask=mask[:, at] if mask is not None and self.style != "flash" and mask.shape[1] > 1 else mask,
            bias=bias[:, at] if bias is not None and bias.shape[1] > 1 else bias,
            heads=tuple(heads),
        )

    def visible_end(self, rows: Tensor) -> int:
        """Return one past the last key that causality lets any of the rows see; the rest need not be computed."""
        last = int(rows[-1]) + 1
        if self.style == "flash" and self.causal:
            return min(self.n_keys, self.query_start - self.key_start + last)
        if self.style == "sdpa" and self.causal and self.mask is None and self.n_queries > 1:
            return min(self.n_keys, last)
        return self.n_keys

    def hide(self, scores: Tensor, rows: Tensor, end: int) -> Tensor:
        """Apply bias and mask to the ``scores`` [B, H, rows, end] of some rows, in place."""
        if self.bias is not None:
            scores.add_(pick(self.bias, 2, rows)[..., :end].float().clamp_min(MASKED))
        if self.style == "flash":
            return self._hide_by_position(scores, rows, end)
        if self.mask is not None:
            mask = (pick(self.mask, 2, rows) if self.mask.shape[2] > 1 else self.mask)[..., :end]
            if mask.dtype == torch.bool:
                return scores.add_(_as_scores(~mask))
            # An additive mask says "never" with the lowest number of its own type, which in half precision a score
            # could still climb out of.
            never = mask <= torch.finfo(mask.dtype).min / 2
            return scores.add_(mask.float().masked_fill(never, MASKED))
        if self.style == "sdpa" and self.causal and self.n_queries > 1:
            # HF's sdpa aligns its implicit causal mask at the upper left, whatever the cache holds.
            first = int(rows[0]) + 1
            later = torch.arange(first, end)[None, :] > rows[:, None]
            scores[..., first:].add_(_as_scores(later.to(scores.device)))
        return scores

    def _hide_by_position(self, scores: Tensor, rows: Tensor, end: int) -> Tensor:
        behind = (rows[:, None] + self.query_start) - (torch.arange(end)[None, :] + self.key_start)
        hidden = torch.zeros_like(behind, dtype=torch.bool)
        if self.causal:
            hidden |= behind < 0
        if self.window is not None:
            hidden |= behind.abs() >= self.window
        scores.add_(_as_scores(hidden.to(scores.device)))
        if self.mask is not None:
            scores.add_(_as_scores(~self.mask[:, None, None, :end].bool()))
        return scores


def read_call(
    module: nn.Module,
    tensors: tuple[Tensor, Tensor, Tensor],
    mask: Any,
    options: Mapping[str, Any],
    *,
    style: Style,
    query_start: int,
    key_start: int,
) -> Call:
    """Read what an attention module passed to its implementation, refusing what a plain softmax does not describe."""
    query, key, value = tensors
    if options.get("s_aux") is not None:
        raise SelfCheckFailed(
            f"the rows of {type(module).__name__} do not sum to 1: it adds a sink logit to every softmax",
            given="s_aux, learnable attention sinks",
            fix="masses of this model would not be shares of the row; it cannot be traced",
        )
    if options.get("cache") is not None:
        raise UnsupportedModel(
            "attention with a paged cache hides its keys from the lens",
            given=type(options["cache"]).__name__,
            fix="use generate() instead of continuous batching",
        )
    if mask is not None and not isinstance(mask, Tensor):
        raise UnsupportedModel(
            "the attention mask is not a tensor, so hidden keys cannot be told",
            given=type(mask).__name__,
            fix="load the model with attn='sdpa'",
        )
    scaling = options.get("scaling")
    causal = options.get("is_causal")
    window = options.get("sliding_window") if style == "flash" else None
    return Call(
        query=query,
        key=key,
        value=value,
        mask=mask,
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        style=style,
        causal=bool(getattr(module, "is_causal", True) if causal is None else causal),
        window=window,
        softcap=options.get("softcap"),
        bias=options.get("position_bias"),
        query_start=query_start,
        key_start=key_start,
        heads=tuple(range(query.shape[1])),
        heads_in_module=query.shape[1],
    )


def pick(tensor: Tensor, dim: int, rows: Tensor) -> Tensor:
    """Return some rows of a tensor, without a copy where they follow one another; ``rows`` are sorted, on the CPU."""
    first, count = int(rows[0]), len(rows)
    if int(rows[-1]) - first + 1 == count:
        return tensor.narrow(dim, first, count)
    return tensor.index_select(dim, rows.to(tensor.device))


def _as_scores(hidden: Tensor) -> Tensor:
    # Adding a mask shared by all heads is many times faster than filling through one.
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, MASKED)


def batched(name: str, labels: Tensor, batch: int) -> None:
    """Refuse labels whose first dimension is neither one nor the batch that is run."""
    if len(labels) not in (1, batch):
        raise BadInput(
            f"{name} are for another batch size",
            given=f"{len(labels)} items",
            present=f"a batch of {batch}",
            fix="pass one row per item, or one row for all",
        )
