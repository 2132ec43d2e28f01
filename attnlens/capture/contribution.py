"""What each group of keys writes: the additive parts of the attention output, their norms, their effect on a logit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from attnlens.capture.call import Call
from attnlens.capture.projection import Projection
from attnlens.capture.rows import Weights

__all__ = ["KeyGroups", "group_parts", "project"]

BUDGET = 1 << 24
"""Elements of additive parts held at once: 64 MiB in float32."""


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
    *,
    norms: Projection | None,
    direction: Tensor | None,
) -> dict[str, Tensor]:
    """Return ``contribution`` and ``logit_effect`` [B, H, rows, groups] of a chunk.

    ``direction`` [B, H, rows, dv] is what a part is projected on for its effect; the norms' scales come later, because
    they are not known before the forward has ended.
    """
    found: dict[str, list[Tensor]] = {}
    for some, parts in group_parts(weights, call, groups):
        if norms is not None:
            found.setdefault("contribution", []).append(norms.norms(parts))
        if direction is not None:
            effect = torch.einsum("bhrgd,bhrd->bhrg", parts, direction[:, :, some])
            found.setdefault("logit_effect", []).append(effect)
    return {name: torch.cat(values, 2) for name, values in found.items()}
