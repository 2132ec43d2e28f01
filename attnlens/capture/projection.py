"""The output projection of some heads: how long what it writes is, and the way back through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from attnlens.errors import UnsupportedModel

__all__ = ["Projection"]

PROBES = 8
"""Random vectors a projection is recognised by."""


@dataclass(frozen=True)
class Projection:
    """What the output projection ``module`` does to ``heads`` among its ``n_heads`` of ``size``, beside ``like``.

    It is read by its weight or, where an adapter or quantisation hides the weight, by its effect.

    >>> torch.manual_seed(0) and None
    >>> linear = nn.Linear(8, 6)
    >>> projection = Projection(linear, n_heads=2, heads=(1,), size=4, like=torch.zeros(1))
    >>> part = torch.randn(1, 1, 1, 1, 4)
    >>> bool(torch.isclose(projection.norms(part).squeeze(), (linear.weight[:, 4:] @ part.squeeze()).norm()))
    True
    """

    module: nn.Module
    n_heads: int
    heads: tuple[int, ...]
    size: int
    like: Tensor

    def __post_init__(self) -> None:
        width = getattr(self.module, "in_features", self._width)
        if width != self._width:
            raise UnsupportedModel(
                "the output projection does not take the concatenated heads",
                given=f"{type(self.module).__name__} of {width} inputs",
                present=f"{self.n_heads} heads of {self.size}",
                fix="pass the module that maps the attention output to the residual stream",
            )

    def norms(self, parts: Tensor) -> Tensor:
        """Return how long the ``parts`` [B, H, rows, groups, dv] of head outputs are once written: all but the last."""
        # One product per head: [H, B * rows * groups, dv] @ [H, dv, dv].
        by_head = parts.transpose(0, 1)
        written = torch.matmul(by_head.flatten(1, 3), self.roots.transpose(-1, -2))
        return written.norm(dim=-1).view(by_head.shape[:-1]).transpose(0, 1)

    def pull(self, direction: Tensor) -> Tensor:
        """Return the direction [B, H, rows, dv] before the projection for ``direction`` [B, rows, hidden] after it."""
        pulled = (direction @ self._matrix()).view(*direction.shape[:2], self.n_heads, self.size)
        return pulled[:, :, list(self.heads)].transpose(1, 2)

    @cached_property
    def roots(self) -> Tensor:
        """R [H, dv, dv] with R^T R = W^T W for every head's W, so that ``|W x| = |R x|``."""
        answer = self._effect(_probe(self._width, self._dtype, self.like.device))
        known = _KNOWN.get(self.module)
        if known is None or not known.fits(answer, self.size):
            # Factoring takes longer than reading a prompt's few rows, and every prompt needs it again.
            known = _Known(answer, self._factored())
            _KNOWN[self.module] = known
        return known.roots[list(self.heads)]

    def _factored(self) -> Tensor:
        matrix = self._matrix()
        slices = matrix.reshape(len(matrix), self.n_heads, self.size).transpose(0, 1)
        # The root of the Gram matrix from QR: squaring first would lose half the digits of small norms.
        missing = self.size - slices.shape[1]
        tall = nn.functional.pad(slices, (0, 0, 0, missing)) if missing > 0 else slices
        return torch.linalg.qr(tall, mode="r").R

    def _matrix(self) -> Tensor:
        """The matrix [hidden, n_heads * size] in float32."""
        if type(self.module) is nn.Linear and self.module.weight.device == self.like.device:
            return self.module.weight.detach().float()
        eye = torch.eye(self._width, device=self.like.device, dtype=self._dtype)
        return torch.cat([self._effect(rows).float() for rows in torch.split(eye, self.size)]).T

    def _effect(self, rows: Tensor) -> Tensor:
        """Apply the projection to rows [n, n_heads * size], without its bias."""
        with torch.no_grad():
            # forward() itself: a probe must not reach hooks that others have on the module.
            found, zero = self.module.forward(rows), self.module.forward(torch.zeros_like(rows[:1]))
        if not isinstance(found, Tensor):
            raise UnsupportedModel("the output projection does not return a tensor", given=type(self.module).__name__)
        return found - zero

    @property
    def _dtype(self) -> torch.dtype:
        # Under autocast a layer's tensors are of another precision than its weights.
        return self.module.weight.dtype if type(self.module) is nn.Linear else self.like.dtype

    @property
    def _width(self) -> int:
        return self.n_heads * self.size


@dataclass(frozen=True)
class _Known:
    """The roots of a projection, and what it made of the probe: the same bits mean the same projection."""

    answer: Tensor
    roots: Tensor

    def fits(self, answer: Tensor, size: int) -> bool:
        same = self.answer.device == answer.device and self.roots.shape[-1] == size
        return same and torch.equal(self.answer, answer)


_KNOWN: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def _probe(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(PROBES, width, generator=generator).to(device, dtype)
