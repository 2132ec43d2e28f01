"""Exact statistics of chosen query rows: a float32 softmax per chunk of rows, so that no n x n matrix ever exists."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnlens.capture.call import MASKED, Call, pick
from attnlens.capture.cuts import Cuts

__all__ = ["Weights", "one_hot", "row_measures", "softmax_rows"]


TINY = torch.finfo(torch.float32).tiny


@dataclass
class Weights:
    """The attention weights of a chunk of rows.

    ``p`` [B, H, rows, end] sums to ``kept`` [B, H, rows]: 1, less what was cut after the softmax, and 0 for a row that
    may see nothing. ``shifted`` are the scores less their maximum, ``log_z`` the logarithm of their sum.
    """

    rows: Tensor
    p: Tensor
    kept: Tensor
    shifted: Tensor | None
    log_z: Tensor

    @property
    def end(self) -> int:
        """One past the last key that was looked at; later keys weigh nothing."""
        return self.p.shape[-1]

    def times(self, value: Tensor) -> Tensor:
        """Return the attention output [B, H, rows, dv] for a call's ``value`` [B, Hkv, kv, dv], in float32."""
        folded = self.p.reshape(len(value), value.shape[1], -1, self.end)
        return torch.matmul(folded, value[:, :, : self.end].float()).view(*self.p.shape[:3], -1)


def softmax_rows(
    call: Call, rows: Tensor, *, cuts: Cuts | None = None, chunk: int = 256, keep_scores: bool = False
) -> Iterator[Weights]:
    """Yield the weights of the query ``rows`` (local to the call, sorted, on the CPU), a chunk at a time.

    Query heads that share a key head are folded into its rows, so that keys are never repeated.

    >>> from attnlens.capture.call import read_call
    >>> q = torch.zeros(1, 4, 3, 8)
    >>> k = v = torch.zeros(1, 2, 3, 8)
    >>> call = read_call(torch.nn.Identity(), (q, k, v), None, {}, style="sdpa", query_start=0, key_start=0)
    >>> (weights,) = softmax_rows(call, torch.tensor([2]))
    >>> weights.p.shape, round(float(weights.p[0, 0, 0, 0]), 4)
    (torch.Size([1, 4, 1, 3]), 0.3333)
    """
    batch, heads, _, size = call.query.shape
    key_heads = call.key.shape[1]
    keys = call.key.float().transpose(-1, -2)
    for part in torch.split(rows, chunk):
        end = call.visible_end(part)
        query = pick(call.query, 2, part).float() * call.scaling
        folded = query.reshape(batch, key_heads, call.shared * len(part), size)
        scores = torch.matmul(folded, keys[..., :end]).view(batch, heads, len(part), end)
        if call.softcap is not None:
            scores = scores.div_(call.softcap).tanh_().mul_(call.softcap)
        scores = call.hide(scores, part, end)
        if cuts is not None:
            cuts.hide(scores, part)
        top = scores.amax(-1, keepdim=True)
        # The library's softmax is faster than its parts; it goes wrong only where a row may see nothing at all.
        p = scores.softmax(-1)
        seen = (top > MASKED / 2).float()
        p.mul_(seen)
        kept = seen[..., 0]
        log_z = -p.amax(-1).clamp_min(TINY).log()
        if cuts is not None and cuts.drop(p, part):
            kept = p.sum(-1)
        yield Weights(part, p, kept, scores.sub_(top) if keep_scores else None, log_z)


def one_hot(groups: Tensor, n_groups: int, *, start: int, count: int, device: torch.device) -> Tensor:
    """Return the span matrix [B, count, columns] of the keys from ``start``, one column per group.

    Where keys are in no group, a last column holds them, so that rows times the matrix always sum to 1.

    >>> one_hot(torch.tensor([[0, 1, 1]]), 2, start=0, count=3, device=torch.device("cpu"))[0].tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> one_hot(torch.tensor([[0, -1]]), 1, start=0, count=2, device=torch.device("cpu"))[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    labels = window(groups, start, count, fill=-1)
    columns = list(range(n_groups)) + ([-1] if bool((labels < 0).any()) else [])
    # Products with the matrix are several times faster where each group's keys lie side by side.
    by_group = labels.to(device)[:, None] == torch.tensor(columns, device=device)[:, None]
    return by_group.float().transpose(1, 2)


def window(labels: Tensor, start: int, count: int, *, fill: int) -> Tensor:
    """Return ``labels`` [B, start : start + count], filled up where the sequence has outgrown them."""
    missing = start + count - labels.shape[1]
    if missing > 0:
        labels = torch.nn.functional.pad(labels, (0, missing), value=fill)
    return labels[:, start : start + count]


def row_measures(
    weights: Weights, spans: Tensor | None, measures: Collection[str], *, key_start: int
) -> dict[str, Tensor]:
    """Return the plain measures of a chunk: ``mass`` [B, H, rows, columns], the others [B, H, rows].

    ``spans`` is what :func:`one_hot` gave.
    """
    found: dict[str, Tensor] = {}
    p = weights.p
    batch, heads, rows, end = p.shape
    if spans is not None:
        # Folding heads into rows keeps matmul from copying the span matrix once per head.
        span = spans[:, :end].expand(batch, -1, -1)
        found["mass"] = torch.matmul(p.reshape(batch, heads * rows, end), span).view(batch, heads, rows, -1)
    if "entropy" in measures and weights.shifted is not None:
        # -sum p log p with log p = shifted - log z; where p is 0 the shifted score is finite, so the product is 0.
        found["entropy"] = weights.log_z * weights.kept - torch.einsum("bhrk,bhrk->bhr", p, weights.shifted)
    if "argmax" in measures:
        found["argmax"] = p.argmax(-1) + key_start
    if "max" in measures:
        found["max"] = p.amax(-1)
    return found
