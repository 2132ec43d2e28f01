"""What a training will cost, told before it starts: memory and time, from its first batches tried and thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.models.memory import asking

if TYPE_CHECKING:
    from attnlens.train.recipe import Recipe
    from attnlens.train.spec import TrainSpec

__all__ = ["Cost", "measure_cost"]

TRIED = 2
"""Batches that are tried: the first also pays for what is done once."""
STATES = 3
"""Numbers kept beside each trained one: its gradient and AdamW's two."""
GRADIENT = 4


@dataclass(frozen=True)
class Cost:
    """Bytes and seconds of a training, for one process.

    ``activations`` are what the larger of the batches tried kept for its backward pass, without what checkpointing
    holds for computing it again; longer prompts keep more. ``peak`` is measured, on a GPU alone. ``seconds`` are those
    of the steps that are left, and of the dev prompts between them where the recipe says how many there are.
    """

    parameters: int
    trained: int
    weights: int
    states: int
    activations: int
    peak: int | None
    batch_seconds: float
    seconds: float

    @property
    def memory(self) -> int:
        """What all of it holds at once: measured where the device counts, else added up."""
        return self.peak or self.weights + self.states + self.activations

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "memory": self.memory}


def measure_cost(
    recipe: Recipe, spec: TrainSpec, *, device: str, autocast: Any, done: int = 0, processes: int = 1
) -> Cost:
    """Try a recipe on a batch or two, forwards and backwards, and leave it as it was.

    Nothing of it stays: gradients are dropped, running statistics and random numbers are put back. Batches are those of
    a generator of its own.
    """
    import torch

    module = recipe.module
    parameters = list(module.parameters())
    trained = [one for one in parameters if one.requires_grad]
    gpu = device.startswith("cuda")
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds, kept = [], 0
    with _untouched(module), asking("one batch, forwards and backwards", fix=_FIX):
        for number in range(TRIED):
            start = time.perf_counter()
            batch = recipe.batch(np.random.default_rng([spec.seed, 0, number]))
            with _counted(parameters) as count, autocast():
                loss = recipe.loss(batch)[0]
            loss.backward()  # type: ignore[no-untyped-call]
            module.zero_grad(set_to_none=True)
            if gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
            kept = max(kept, count())
    states = GRADIENT * STATES * sum(one.numel() for one in trained)
    peak = int(torch.cuda.max_memory_allocated() + states) if gpu else None
    left = spec.steps - done
    batch_seconds = min(seconds)
    # Forwards alone, and one by one; a recipe that does not say how many is not counted.
    episodes = getattr(recipe, "dev_episodes", 0) / getattr(recipe, "batch_size", 1)
    evaluated = episodes * batch_seconds / 3
    return Cost(
        parameters=sum(one.numel() for one in parameters),
        trained=sum(one.numel() for one in trained),
        weights=sum(one.numel() * one.element_size() for one in parameters),
        states=states,
        activations=kept,
        peak=peak,
        batch_seconds=batch_seconds,
        seconds=left * spec.accumulate / processes * batch_seconds + (left // spec.evaluate_every + 1) * evaluated,
    )


_FIX = "lower batch_size and raise accumulate, set checkpointing: 'on', a dtype of bfloat16, or lower the shots"


@contextmanager
def _untouched(module: Any) -> Iterator[None]:
    """Put back what a trial changes: running statistics, modes, gradients, random numbers."""
    import torch

    buffers = {name: one.detach().clone() for name, one in module.named_buffers()}
    modes = {name: one.training for name, one in module.named_modules()}
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        module.train()
        try:
            yield
        finally:
            module.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, one in module.named_buffers():
                    one.copy_(buffers[name])
            for name, one in module.named_modules():
                one.training = modes[name]


@contextmanager
def _counted(parameters: list[Any]) -> Iterator[Any]:
    """Count the bytes that a forward pass keeps for its backward pass, each storage once, the weights not at all."""
    import torch

    own = {one.untyped_storage().data_ptr() for one in parameters}
    seen: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(seen.values())
