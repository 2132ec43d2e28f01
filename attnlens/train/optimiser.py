"""AdamW with decayed matrices and undecayed vectors, Muon beside it, and the rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from attnlens.errors import BadInput
from attnlens.train.spec import OptimiserSpec

if TYPE_CHECKING:
    from torch import nn, optim

__all__ = ["LOWEST", "Together", "make_optimiser", "rate_factor", "set_rates"]

LOWEST = 0.05
"""What is left of the rate at the last step."""
_MATRIX = 2


class Together:
    """Several optimisers, each of its own parameters, that step as one."""

    def __init__(self, parts: Sequence[optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self, closure: None = None) -> None:
        """Step each; a closure is for optimisers that ask for the loss again, which none of these does."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned."""
        for part, one in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(one)


def rate_factor(step: int, *, steps: int, spec: OptimiserSpec) -> float:
    """Return the share of the highest rate at a step, counted from 0.

    >>> spec = OptimiserSpec(warmup=10, schedule="linear")
    >>> [round(rate_factor(step, steps=110, spec=spec), 3) for step in (0, 9, 10, 60, 109)]
    [0.1, 1.0, 1.0, 0.52, 0.05]
    """
    if step < spec.warmup:
        return (step + 1) / spec.warmup
    if spec.schedule == "constant":
        return 1.0
    done = (step - spec.warmup) / max(1, steps - spec.warmup - 1)
    left = 1 - done if spec.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return LOWEST + (1 - LOWEST) * left


def make_optimiser(module: nn.Module, spec: OptimiserSpec) -> optim.Optimizer:
    """Make the optimiser of the trainable parameters; a prefix in the spec that no parameter has is refused."""
    import torch

    groups: dict[tuple[str, float, float], list[torch.nn.Parameter]] = {}
    unused = {*(("rates", one) for one in spec.rates), *(("muon", one) for one in spec.muon)}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = sorted((one for one in spec.rates if name.startswith(one)), key=len)
        orthogonal = [one for one in spec.muon if parameter.dim() == _MATRIX and name.startswith(one)]
        unused -= {*(("rates", one) for one in prefixes), *(("muon", one) for one in orthogonal)}
        factor = spec.rates[prefixes[-1]] if prefixes else 1.0
        decay = spec.decay if parameter.dim() > 1 else 0.0
        groups.setdefault(("muon" if orthogonal else "adamw", factor, decay), []).append(parameter)
    if unused:
        names = sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        raise BadInput(
            "the optimiser's spec names parameters that are not there, or none of which is trained in that way",
            given=": ".join(sorted(unused)[0]),
            present=", ".join(names),
        )
    if not groups:
        raise BadInput("nothing is trainable", given=type(module).__name__, fix="unfreeze some parameters")
    made = {
        kind: [
            {"params": group, "weight_decay": decay, "factor": factor}
            for (other, factor, decay), group in groups.items()
            if other == kind
        ]
        for kind in ("adamw", "muon")
    }
    usual = torch.optim.AdamW(made["adamw"], lr=spec.rate, betas=spec.betas, eps=spec.eps) if made["adamw"] else None
    if not made["muon"]:
        return cast("optim.Optimizer", usual)
    if not hasattr(torch.optim, "Muon"):
        raise BadInput("this torch has no Muon", given=torch.__version__, fix="install torch 2.9 or newer")
    # Steps of the root mean square that AdamW's have: one rate serves both.
    orthogonal_steps = torch.optim.Muon(made["muon"], lr=spec.rate, adjust_lr_fn="match_rms_adamw")
    return cast("optim.Optimizer", Together([orthogonal_steps, usual] if usual else [orthogonal_steps]))


def set_rates(optimiser: optim.Optimizer, rate: float) -> None:
    """Set the rate of a step in every group, times the group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
