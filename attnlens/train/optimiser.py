"""AdamW with decayed matrices and undecayed vectors, and the rate as a function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnlens.errors import BadInput
from attnlens.train.spec import OptimiserSpec

if TYPE_CHECKING:
    from torch import nn, optim

__all__ = ["LOWEST", "make_optimiser", "rate_factor", "set_rates"]

LOWEST = 0.05
"""What is left of the rate at the last step."""


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
    """Make AdamW over the trainable parameters; a prefix of ``rates`` that no parameter has is refused."""
    import torch

    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    unused = set(spec.rates)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = sorted((one for one in spec.rates if name.startswith(one)), key=len)
        unused -= set(prefixes)
        factor = spec.rates[prefixes[-1]] if prefixes else 1.0
        decay = spec.decay if parameter.dim() > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if unused:
        names = sorted({name.split(".")[0] for name, _ in module.named_parameters()})
        raise BadInput(
            "a rate is given for parameters that are not there", given=sorted(unused)[0], present=", ".join(names)
        )
    if not groups:
        raise BadInput("nothing is trainable", given=type(module).__name__, fix="unfreeze some parameters")
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay, "factor": factor} for (factor, decay), group in groups.items()],
        lr=spec.rate,
        betas=spec.betas,
        eps=spec.eps,
    )


def set_rates(optimiser: optim.Optimizer, rate: float) -> None:
    """Set the rate of a step in every group, times the group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
