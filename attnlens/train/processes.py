"""The processes that train together, by accelerate: one when nobody launched more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from attnlens.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn, optim

    from attnlens.train.recipe import Recipe

__all__ = ["Processes"]

_T = TypeVar("_T")


class Processes:
    """Share the batches of each step out over the processes that `accelerate launch` started.

    A step's batches are numbered from 0 to ``accumulate``, and each depends on its number alone. Process r of n takes
    number r, r + n, ...: so many processes change how long a step takes, and what it computes by rounding only.

    >>> alone = Processes("cpu")
    >>> alone.count, list(alone.parts(3)), alone.agreed("word")
    (1, [0, 1, 2], 'word')
    """

    def __init__(self, device: str) -> None:
        self.accelerator = _accelerator(cpu=device == "cpu")
        self.count = int(self.accelerator.num_processes)
        self.rank = int(self.accelerator.process_index)
        self.main = self.rank == 0
        # Alone, the spec's device is the device; together, each process has the one its launcher gave it. That may be
        # `cpu:0`, a name by which no checkpoint can be read.
        given = self.accelerator.device
        self.device = device if self.count == 1 or given.type == "cpu" else str(given)
        self.whole: Any = None

    def parts(self, accumulate: int) -> range:
        """Return the numbers of this process's batches in every step."""
        if accumulate % self.count:
            raise BadInput(
                "the batches of a step do not share out evenly over the processes",
                given=f"accumulate: {accumulate}",
                present=f"{self.count} processes",
                fix=f"set accumulate to a multiple of {self.count}, or launch another number of processes",
            )
        return range(self.rank, accumulate, self.count)

    def prepare(self, recipe: Recipe, module: nn.Module, optimiser: optim.Optimizer) -> optim.Optimizer:
        """Take over model and optimiser; returns the optimiser that steps."""
        self.whole = self.accelerator.prepare_model(_loss_module(recipe, module), device_placement=False)
        return self.accelerator.prepare_optimizer(optimiser, device_placement=False)

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """Return a recipe's loss, computed where gradients are gathered from all processes."""
        return self.whole(batch)

    def apart(self) -> AbstractContextManager[Any]:
        """Return a context in which gradients stay in their process: for all but a step's last batch."""
        return self.accelerator.no_sync(self.whole)

    def mean(self, batches: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the mean of each figure over the batches of all processes that have it: not every batch has all.

        >>> Processes("cpu").mean([{"loss": 1.0, "heard": 0.5}, {"loss": 2.0}])
        {'loss': 1.5, 'heard': 0.5}
        """
        every = [dict(one) for one in batches]
        if self.count > 1:
            from accelerate.utils import gather_object

            every = gather_object(every)
        names = dict.fromkeys(name for one in every for name in one)
        found = {name: [one[name] for one in every if name in one] for name in names}
        return {name: sum(values) / len(values) for name, values in found.items()}

    def agreed(self, value: _T) -> _T:
        """Return what the first process says, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        told: list[Any] = [value]
        broadcast_object_list(told)
        return told[0]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.accelerator.wait_for_everyone()


def _accelerator(*, cpu: bool) -> Any:
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, PartialState

    # A prompt without audio gives an audio encoder no gradient. Precision is the spec's, not the launcher's: the loop
    # casts, since losses do not go through the model's own forward.
    made: dict[str, Any] = {
        "cpu": cpu,
        "mixed_precision": "no",
        "device_placement": False,
        "kwargs_handlers": [DistributedDataParallelKwargs(find_unused_parameters=True)],
    }
    try:
        return Accelerator(**made)
    except ValueError:
        if PartialState._shared_state and PartialState().num_processes > 1:
            raise
        # An earlier run in this process was set up for another device.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**made)


def _loss_module(recipe: Recipe, module: nn.Module) -> nn.Module:
    """Return a module whose forward is the recipe's loss: data parallelism watches forward calls."""
    import torch

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
            return recipe.loss(batch)

    return Loss()
