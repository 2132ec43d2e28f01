"""Masses of all rows at the cost of about one attention call: the span matrix goes along, or second, as values."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnlens.capture.call import Call
from attnlens.capture.cuts import Cuts
from attnlens.capture.rows import softmax_rows

__all__ = ["Run", "patch", "second_pass", "widened"]


class Run(Protocol):
    """The model's own attention, mask and options filled in."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, **changed: Any) -> tuple[Tensor, Any]:
        """Return the output [B, q, H, dv] and perhaps weights."""


def widened(run: Run, call: Call, spans: Tensor) -> tuple[Tensor, Any, Tensor]:
    """Return output, weights and masses [B, H, q, columns] from one call with values [value | spans].

    Fused kernels want keys as wide as values, so queries and keys get zeros, which change no score. The kernel then
    blocks its sums differently and the output moves by a rounding error.
    """
    batch, key_heads, _, size = call.value.shape
    columns = spans.shape[-1]
    # Kernels run best on widths that are multiples of eight, and some run on no others.
    width = -(-max(call.query.shape[-1], size + columns) // 8) * 8
    ride = spans.to(call.value.dtype)[:, None].expand(batch, key_heads, -1, -1)
    query, key, value = _joined(width, call.query), _joined(width, call.key), _joined(width, call.value, ride)
    output, weights = run(query, key, value, scaling=call.scaling)
    mass = output[..., size : size + columns].transpose(1, 2)
    return output[..., :size].contiguous(), weights, mass


def second_pass(run: Run, call: Call, spans: Tensor) -> Tensor:
    """Return masses [B, H, q, columns] from further calls with the span matrix as values."""
    batch, key_heads, n, size = call.value.shape
    masses = []
    for some in torch.split(spans.to(call.value.dtype), size, -1):
        value = pad(some, (0, size - some.shape[-1]))[:, None].expand(batch, key_heads, n, size)
        output, _ = run(call.query, call.key, value, scaling=call.scaling)
        masses.append(output[..., : some.shape[-1]].transpose(1, 2))
    return torch.cat(masses, -1)


def patch(mass: Tensor, call: Call, cuts: Cuts, spans: Tensor, *, chunk: int) -> tuple[Tensor, Tensor]:
    """Return masses in which the rows touched by knockouts are those of the edited pattern, and what rows sum to."""
    mass = mass.float().clone()
    kept = mass.new_ones(mass.shape[:-1])
    for weights in softmax_rows(call, cuts.rows(), cuts=cuts, chunk=chunk):
        rows = weights.rows.to(mass.device)
        mass[:, :, rows] = torch.matmul(weights.p, spans[:, None, : weights.end])
        kept[:, :, rows] = weights.kept
    return mass, kept


def _joined(width: int, *parts: Tensor) -> Tensor:
    # Writes every element once, where pad would first fill all of it with zeros.
    missing = width - sum(part.shape[-1] for part in parts)
    return torch.cat([*parts, parts[0].new_zeros(1).expand(*parts[0].shape[:-1], missing)], -1)
