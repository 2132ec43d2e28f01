"""The way from a layer's attention output to a logit, with the norms on it held at the scale they really had."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnlens.capture.sites import Site, Sites
from attnlens.errors import UnsupportedModel

__all__ = ["FrozenNorm", "directions", "freeze"]

PROBE = 1024.0
"""Size of the vector a norm is probed with: so large that its epsilon is far below rounding."""


@dataclass(frozen=True)
class FrozenNorm:
    """A norm as a linear map: ``norm(x) = scale(x) * weight * (x - mean(x) if centred) + bias``.

    ``weight`` [hidden] is the same for all rows; the scale of a row is what the norm really divided it by.
    """

    weight: Tensor
    bias: Tensor | None
    centred: bool

    def pull(self, direction: Tensor) -> Tensor:
        """Return the direction [..., hidden] before the norm for ``direction`` after it, but for the scale."""
        direction = direction * self.weight
        return direction - direction.mean(-1, keepdim=True) if self.centred else direction

    def scale(self, before: Tensor, after: Tensor) -> Tensor:
        """Return the scale [B, rows] of rows from what went in and what came out, [B, rows, hidden]."""
        before, after = before.float(), after.float()
        if self.bias is not None:
            after = after - self.bias
        if self.centred:
            before = before - before.mean(-1, keepdim=True)
        unscaled = before * self.weight
        return torch.linalg.vecdot(after, unscaled) / torch.linalg.vecdot(unscaled, unscaled).clamp_min(1e-30)


def freeze(norm: nn.Module, hidden: int, like: Tensor) -> FrozenNorm:
    """Read a LayerNorm's weights, or probe a root-mean-square norm, whose weight models keep in different forms.

    >>> frozen = freeze(nn.RMSNorm(4), 4, torch.zeros(1))
    >>> frozen.centred, [round(x, 4) for x in frozen.weight.tolist()]
    (False, [1.0, 1.0, 1.0, 1.0])
    """
    with torch.no_grad():
        if isinstance(norm, nn.LayerNorm):
            weight = torch.ones(hidden, device=like.device) if norm.weight is None else norm.weight.float()
            return FrozenNorm(weight, None if norm.bias is None else norm.bias.float(), centred=True)
        ones = torch.full((1, 1, hidden), PROBE, device=like.device, dtype=like.dtype)
        # forward() itself: a probe must not reach hooks that others have on the module.
        plus, minus = norm.forward(ones).float(), norm.forward(-ones).float()
        if plus.shape != ones.shape or not torch.allclose(plus, -minus, atol=1e-6) or not bool(plus.any()):
            raise UnsupportedModel(
                "the norm before the logits is neither a LayerNorm nor a root-mean-square norm",
                given=type(norm).__name__,
                fix="ask for contribution instead of logit_effect",
            )
        return FrozenNorm(plus[0, 0], None, centred=False)


def directions(sites: Sites, gold: Tensor, norms: dict[str, FrozenNorm], site: Site) -> Tensor:
    """Return the direction [B, rows, hidden] in a layer's attention output that raises the gold token's logit.

    Rows whose gold token is -1 get NaN: they have no token to have an effect on.
    """
    unembedding = sites.unembedding
    weight = getattr(unembedding, "weight", None)
    if not isinstance(weight, Tensor):
        raise UnsupportedModel("the unembedding has no weight to read", given=type(unembedding).__name__)
    rows = weight.detach()[gold.clamp_min(0).to(weight.device)].float()
    rows = rows.masked_fill((gold < 0)[..., None].to(rows.device), float("nan"))
    pulled = norms["final"].pull(rows.to(norms["final"].weight.device))
    own = norms.get(str(site))
    return pulled if own is None else own.pull(pulled.to(own.weight.device))
