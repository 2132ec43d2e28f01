"""What each group of keys writes: the additive parts of the attention output, their norms, their effect on a logit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnlens.capture.call import Call
from attnlens.capture.rows import Weights
from attnlens.errors import UnsupportedModel

__all__ = ["KeyGroups", "Projection", "group_parts", "project", "read_projection"]

BUDGET = 1 << 24
"""Elements of additive parts held at once: 64 MiB in float32."""


@dataclass(frozen=True)
class Projection:
    """The output projection of some heads: ``slices`` [H, hidden, dv] and ``roots`` [H, dv, dv], one per head.

    ``roots`` R satisfy R^T R = W^T W, so that ``|W x| = |R x|`` and norms never need the hidden size.
    """

    slices: Tensor
    roots: Tensor


def read_projection(module: nn.Module, *, n_heads: int, heads: tuple[int, ...], size: int, like: Tensor) -> Projection:
    """Read the matrix of an output projection, by its weight or, where adapters or quantisation hide it, by its effect.

    >>> torch.manual_seed(0) and None
    >>> linear = torch.nn.Linear(8, 6)
    >>> projection = read_projection(linear, n_heads=2, heads=(0, 1), size=4, like=torch.zeros(1))
    >>> part = torch.randn(4)
    >>> bool(torch.isclose((projection.roots[1] @ part).norm(), (linear.weight[:, 4:] @ part).norm()))
    True
    """
    width = n_heads * size
    with torch.no_grad():
        if type(module) is nn.Linear and module.weight.device == like.device:
            matrix = module.weight.float()
        else:
            eye = torch.eye(width, device=like.device, dtype=like.dtype)
            zero = module.forward(torch.zeros_like(eye[:1]))
            if not isinstance(zero, Tensor):
                raise UnsupportedModel("the output projection does not return a tensor", given=type(module).__name__)
            matrix = torch.cat([(module.forward(rows) - zero).float() for rows in torch.split(eye, size)]).T
        if matrix.shape[1] != width:
            raise UnsupportedModel(
                "the output projection does not take the concatenated heads",
                given=f"{type(module).__name__} of shape {tuple(matrix.shape)}",
                present=f"{n_heads} heads of {size}",
                fix="pass the module that maps the attention output to the residual stream",
            )
        slices = matrix.reshape(len(matrix), n_heads, size).transpose(0, 1)[list(heads)].contiguous()
        # The root of the Gram matrix from QR: squaring first would lose half the digits of small norms.
        tall = slices if slices.shape[1] >= size else nn.functional.pad(slices, (0, 0, 0, size - slices.shape[1]))
        return Projection(slices, torch.linalg.qr(tall, mode="r").R)


class KeyGroups:
    """The keys of each group for every batch item, as slices where a group is one block, so that nothing is copied."""

    def __init__(self, labels: Tensor, n_groups: int, *, batch: int, device: torch.device) -> None:
        """Take ``labels`` [B or 1, kv] of the call's keys, -1 for none."""
        found = [self._find(row, n_groups, device) for row in labels.cpu()]
        self._members = found * batch if len(found) == 1 else found
        self.n_groups = n_groups

    @staticmethod
    def _find(labels: Tensor, n_groups: int, device: torch.device) -> list[tuple[Tensor, slice | Tensor]]:
        members: list[tuple[Tensor, slice | Tensor]] = []
        for group in range(n_groups):
            at = (labels == group).nonzero()[:, 0]
            whole = len(at) > 0 and int(at[-1]) - int(at[0]) + 1 == len(at)
            members.append((at, slice(int(at[0]), int(at[-1]) + 1) if whole else at.to(device)))
        return members

    def of(self, item: int, group: int, end: int) -> slice | Tensor | None:
        """Return the keys of a group before ``end``, or None when there are none."""
        at, keys = self._members[item][group]
        count = int(torch.searchsorted(at, end))
        if count == 0:
            return None
        return slice(keys.start, min(keys.stop, end)) if isinstance(keys, slice) else keys[:count]


def group_parts(weights: Weights, call: Call, groups: KeyGroups) -> Iterator[tuple[slice, Tensor]]:
    """Yield the additive parts [B, H, rows, groups, dv] of a head's output, for some rows of the chunk at a time.

    The parts of all groups and of the keys in none sum to the head's output before the output projection.
    """
    batch, heads, rows, end = weights.p.shape
    size = call.value.shape[-1]
    step = max(1, BUDGET // (batch * heads * groups.n_groups * size))
    value = call.value.float()
    for start in range(0, rows, step):
        some = slice(start, min(rows, start + step))
        p = weights.p[:, :, some]
        parts = value.new_zeros(batch, heads, p.shape[2], groups.n_groups, size)
        for item in range(batch):
            folded = p[item].reshape(value.shape[1], -1, end)
            for group in range(groups.n_groups):
                keys = groups.of(item, group, end)
                if keys is not None:
                    part = torch.matmul(folded[..., keys], value[item][:, keys])
                    parts[item, :, :, group] = part.view(heads, p.shape[2], size)
        yield some, parts


def project(
    weights: Weights,
    call: Call,
    groups: KeyGroups,
    projection: Projection,
    *,
    direction: Tensor | None,
    norms: bool,
) -> dict[str, Tensor]:
    """Return ``contribution`` and ``logit_effect`` [B, H, rows, groups] of a chunk.

    ``direction`` [B, rows, hidden] is what a part is projected on for its effect; the norms' scales come later, because
    they are not known before the forward has ended.
    """
    found: dict[str, list[Tensor]] = {}
    for some, parts in group_parts(weights, call, groups):
        if norms:
            # One product per head: [H, B * rows * groups, dv] @ [H, dv, dv].
            flat = parts.transpose(0, 1).flatten(1, 3)
            norm = torch.matmul(flat, projection.roots.transpose(-1, -2)).norm(dim=-1)
            found.setdefault("contribution", []).append(norm.view(parts.transpose(0, 1).shape[:-1]).transpose(0, 1))
        if direction is not None:
            pulled = torch.einsum("brm,hmd->bhrd", direction[:, some], projection.slices)
            found.setdefault("logit_effect", []).append(torch.einsum("bhrgd,bhrd->bhrg", parts, pulled))
    return {name: torch.cat(values, 2) for name, values in found.items()}
