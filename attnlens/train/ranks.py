"""AdaLoRA's ranks: how they fall over a training, what keeps its factors apart, and how both survive a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnlens.models.adapters import ADAPTER

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RankSchedule"]

_MEMORY = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class RankSchedule:
    """peft's allocator of ranks, asked after every step while gradients are still there."""

    def __init__(self, model: nn.Module, config: Any) -> None:
        from peft.tuners.adalora.layer import RankAllocator

        self.model, self.config = model, config
        self.allocator = RankAllocator(model, config, ADAPTER)

    def penalty(self) -> Tensor:
        """Return how far the factors are from orthogonal: the mean over them, times its weight."""
        import torch

        apart = []
        for name, factor in self.model.named_parameters():
            if f"lora_A.{ADAPTER}" in name or f"lora_B.{ADAPTER}" in name:
                product = factor @ factor.T if "lora_A" in name else factor.T @ factor
                apart.append(torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device)))
        return self.config.orth_reg_weight * torch.stack(apart).mean()

    def after_step(self, step: int) -> None:
        """Weigh what each rank is worth, and take the least from those that are left."""
        import torch

        for name, parameter in self.model.named_parameters():
            # A part that no prompt of this step went through has learnt nothing.
            if "lora_" in name and ADAPTER in name and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        config, allocator = self.config, self.allocator
        last = config.total_step - config.tfinal
        if step > last:
            if config.rank_pattern:
                allocator.mask_using_rank_pattern(self.model, config.rank_pattern)
            return
        if step < last:
            allocator.update_ipt(self.model)
        budget, due = allocator.budget_schedule(step)
        if (due or step == last) and budget < allocator.init_bgt:
            config.rank_pattern = allocator.mask_to_budget(self.model, budget)
        if step == last:
            allocator.reset_ipt()

    def state(self) -> dict[str, Any]:
        """Return what the allocator remembers."""
        kept = {name: dict(getattr(self.allocator, name)) for name in _MEMORY}
        return {**kept, "rank_pattern": self.config.rank_pattern or {}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        for name in _MEMORY:
            setattr(self.allocator, name, dict(state[name]))
        self.config.rank_pattern = dict(state["rank_pattern"]) or None
