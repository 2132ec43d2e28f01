"""The loop: seeded, resumable to the bit on a CPU, stopped early, its best checkpoint kept, its log one JSON a line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.train.cost import Cost, measure_cost
from attnlens.train.keep import Keeper
from attnlens.train.optimiser import make_optimiser, rate_factor, set_rates
from attnlens.train.processes import Processes
from attnlens.train.recipe import Changing, Recipe, make_recipe
from attnlens.train.spec import TrainSpec

__all__ = ["Outcome", "Tick", "batch_generator", "train", "try_cost"]

Tick = Callable[[int, dict[str, float]], None]
"""Told of every step: its number from 1, and its figures."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after which step, why, and with which best dev metric."""

    steps: int
    ended: str
    best: float | None
    best_step: int | None


@dataclass
class _Progress:
    step: int = 0
    best: float | None = None
    best_step: int | None = None
    stale: int = 0


def batch_generator(seed: int, step: int, part: int) -> np.random.Generator:
    """Return the generator of one batch: it depends on nothing that happened before.

    >>> batch_generator(0, 5, 0).random() == batch_generator(0, 5, 0).random() != batch_generator(0, 6, 0).random()
    True
    """
    return np.random.default_rng([seed, step, part])


def train(
    spec: TrainSpec,
    out: Path | str,
    *,
    recipe: Recipe | None = None,
    tick: Tick | None = None,
    planned: Callable[[Cost], None] | None = None,
) -> Outcome:
    """Train, or go on where a killed run with the same spec and folder stopped.

    Parameters
    ----------
    out
        The run's folder; see :class:`Keeper`. What is trained for use stands in its folder ``model`` at the end.
    recipe
        None makes the one that the spec names.
    planned
        Called before the first step with what the training will cost; two batches are tried for it.
    """
    import torch

    processes = Processes(_device(spec.device))
    processes.parts(spec.accumulate)
    keeper = Keeper(Path(out), spec)
    device = processes.device
    torch.manual_seed(spec.seed)
    recipe = recipe or make_recipe(spec.recipe, seed=spec.seed, device=device, steps=spec.steps, options=spec.options)
    with processes.accelerator.main_process_first():
        keeper.begin()
    run = _Run(spec, keeper, recipe, processes, tick or (lambda _step, _figures: None))
    if keeper.finished:
        state = keeper.resume(device)
        at = _Progress(**state["progress"]) if state else _Progress()
        return Outcome(at.step, "finished before", at.best, at.best_step)
    run.resume()
    if planned is not None and processes.main:
        cost = measure_cost(
            recipe, spec, device=device, autocast=run.autocast, done=run.at.step, processes=processes.count
        )
        planned(cost)
    processes.wait()
    return run.to_the_end()


class _Run:
    def __init__(self, spec: TrainSpec, keeper: Keeper, recipe: Recipe, processes: Processes, tick: Tick) -> None:
        self.spec, self.keeper, self.recipe, self.processes, self.tick = spec, keeper, recipe, processes, tick
        self.device = processes.device
        self.changing = recipe if isinstance(recipe, Changing) else None
        self.module = recipe.module.to(self.device)
        self.optimiser = make_optimiser(self.module, spec.optimiser)
        self.stepping = processes.prepare(recipe, self.module, self.optimiser)
        self.at = _Progress()
        self.began = time.monotonic()

    def to_the_end(self) -> Outcome:
        """Train on from where this stands."""
        if self.spec.workers and not self.recipe.ahead:
            raise BadInput(
                f"the batches of {self.spec.recipe!r} depend on what was learnt before: they cannot be made ahead",
                given=f"workers: {self.spec.workers}",
                fix="pass workers: 0",
            )
        ended = "all steps done"
        for number, batches in self._batches():
            figures = self._step(number, batches)
            self.at.step = number
            word = self.changing.after_step(number, figures) if self.changing else None
            self.stepping.zero_grad(set_to_none=True)
            if word:
                self._log(step=number, event=word)
            if number % self.spec.log_every == 0:
                self._log(step=number, seconds=round(time.monotonic() - self.began, 2), **figures)
            self.tick(number, figures)
            paused = self.spec.minutes is not None and self.processes.agreed(
                time.monotonic() - self.began > 60 * self.spec.minutes
            )
            last = number == self.spec.steps or word == "done" or paused
            stop = ""
            if number % self.spec.evaluate_every == 0 or last:
                stop = self._evaluate(number)
            if number % self.spec.save_every == 0 or last or stop:
                self._save()
            if stop or word == "done":
                ended = stop or "the recipe is done"
                break
            if paused and number < self.spec.steps:
                ended = "time is up"
                break
        self.processes.wait()
        self._take(self.keeper.best())
        if self.processes.main:
            self.recipe.export(self.keeper.folder / "model")
            self._sign(self.keeper.folder / "model")
            if ended != "time is up":
                self.keeper.finish()
        self.processes.wait()
        return Outcome(self.at.step, ended, self.at.best, self.at.best_step)

    def _step(self, number: int, batches: list[Any]) -> dict[str, float]:
        import torch

        # Dropout and the like: seeded by the step, a resumed run needs no state of the global generator.
        rank = [self.processes.rank] if self.processes.rank else []
        torch.manual_seed(int(np.random.default_rng([self.spec.seed, number, *rank]).integers(2**31)))
        self.module.train()
        set_rates(
            self.optimiser,
            self.spec.optimiser.rate * rate_factor(number - 1, steps=self.spec.steps, spec=self.spec.optimiser),
        )
        found: list[dict[str, float]] = []
        for place, batch in enumerate(batches):
            with self.processes.apart() if place < len(batches) - 1 else nullcontext():
                with self.autocast():
                    loss, figures = self.processes.loss(batch)
                self.processes.accelerator.backward(loss / len(batches))
            found.append({"loss": float(loss.detach()), **figures})
        means = self.processes.mean(found)
        if not math.isfinite(means["loss"]):
            raise self._diverged(number, "loss", means["loss"])
        norm = float(self.processes.accelerator.clip_grad_norm_(self.module.parameters(), self.spec.optimiser.clip))
        if not math.isfinite(norm):
            raise self._diverged(number, "gradient", norm)
        self.stepping.step()
        return {**means, "norm": norm}

    def _evaluate(self, number: int) -> str:
        """Measure, keep the best, and tell why training ends here, if it does."""
        import torch

        self.module.eval()
        with torch.no_grad(), self.autocast():
            found = self.recipe.evaluate()
        if self.recipe.metric not in found:
            raise BadInput(
                f"the recipe does not measure its own metric {self.recipe.metric!r}", present=", ".join(found)
            )
        # All processes measure the same; rounding must not make them differ about when to stop.
        found = self.processes.agreed(found)
        value = float(found[self.recipe.metric])
        self._log(step=number, dev=found)
        best = self.at.best
        if best is None or (value < best if self.recipe.better == "lower" else value > best):
            self.at.best, self.at.best_step, self.at.stale = value, number, 0
            if self.processes.main:
                self.keeper.save_best(self._weights())
        else:
            self.at.stale += 1
        if self._good_enough(found):
            return "the dev metric is good enough"
        stale = self.spec.patience is not None and self.at.stale >= self.spec.patience
        return "no better dev metric" if stale else ""

    def _good_enough(self, found: Mapping[str, float]) -> bool:
        enough = self.spec.enough
        if enough is None:
            return False
        wanted = enough if isinstance(enough, dict) else {self.recipe.metric: enough}
        unknown = [name for name in wanted if name not in found]
        if unknown:
            raise UnknownName.among("figure of dev in enough", unknown[0], sorted(found))
        lower = self.recipe.better == "lower"
        return all(found[name] <= one if lower else found[name] >= one for name, one in wanted.items())

    def _batches(self) -> Iterator[tuple[int, list[Any]]]:
        numbers = range(self.at.step + 1, self.spec.steps + 1)
        if not self.spec.workers:
            for number in numbers:
                yield number, self._made(number)
            return
        from torch.utils.data import DataLoader

        # A worker makes the batches of a whole step; forked, it shares what the recipe holds in memory.
        loader: Any = DataLoader(
            cast(Any, _Steps(self)), sampler=numbers, batch_size=None, num_workers=self.spec.workers, prefetch_factor=4
        )
        yield from zip(numbers, loader, strict=True)

    def _made(self, number: int) -> list[Any]:
        return [
            self.recipe.batch(batch_generator(self.spec.seed, number, part))
            for part in self.processes.parts(self.spec.accumulate)
        ]

    def _log(self, **fields: Any) -> None:
        if self.processes.main:
            self.keeper.log(**fields)

    def _save(self) -> None:
        if not self.processes.main:
            return
        self.keeper.save(
            {
                "step": self.at.step,
                "progress": dict(vars(self.at)),
                "module": self._weights(),
                "optimiser": self.optimiser.state_dict(),
                "recipe": self.changing.state() if self.changing else {},
            }
        )

    def resume(self) -> None:
        """Take up the state that a killed run kept."""
        with self.processes.accelerator.main_process_first():
            state = self.keeper.resume(self.device)
        if state is None:
            return
        self.at = _Progress(**state["progress"])
        self._take(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.changing:
            self.changing.set_state(state["recipe"])

    def _weights(self) -> dict[str, Any]:
        """Return what is kept of the module: all of it, or where the recipe says so, what is trained."""
        state: dict[str, Any] = self.module.state_dict()
        if getattr(self.recipe, "keeps", "all") == "all":
            return state
        trained = {name for name, parameter in self.module.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in state.items() if name in trained}

    def _take(self, weights: dict[str, Any]) -> None:
        wrong = self.module.load_state_dict(weights, strict=getattr(self.recipe, "keeps", "all") == "all")
        if wrong.unexpected_keys:
            raise BadInput("the run's weights are another model's", given=wrong.unexpected_keys[0])

    def _sign(self, folder: Path) -> None:
        """Write beside what is exported how it came about; nothing of when and where."""
        from attnlens import __version__

        told = {
            "spec": {"hash": self.spec.hash, **self.spec.model_dump(mode="json")},
            "best": self.at.best,
            "best_step": self.at.best_step,
            "attnlens": __version__,
            "packages": {name: version(name) for name in ("torch", "transformers", "accelerate")},
        }
        more = getattr(self.recipe, "provenance", None)
        told |= more() if more is not None else {}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "training.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of the spec's precision."""
        return _autocast(self.spec, self.device)

    def _diverged(self, number: int, what: str, value: float) -> BadInput:
        rate = self.optimiser.param_groups[0]["lr"]
        kept = f"the state of step {number - 1 - (number - 1) % self.spec.save_every} is kept in {self.keeper.folder}"
        return BadInput(
            f"the {what} of step {number} is {value}",
            given=f"rate {rate:.2e}, precision {self.spec.precision}",
            present=kept,
            fix="lower optimiser.rate or optimiser.clip, or lengthen the warm-up, and train into a new folder",
        )


class _Steps:
    """The batches of a step by its number, for torch's workers."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def __getitem__(self, number: int) -> list[Any]:
        return self.run._made(number)


def try_cost(spec: TrainSpec) -> Cost:
    """Load what a spec trains, try two of its batches and throw them away; nothing is written."""
    import torch

    device = _device(spec.device)
    torch.manual_seed(spec.seed)
    recipe = make_recipe(spec.recipe, seed=spec.seed, device=device, steps=spec.steps, options=spec.options)
    recipe.module.to(device)
    return measure_cost(recipe, spec, device=device, autocast=lambda: _autocast(spec, device))


def _autocast(spec: TrainSpec, device: str) -> AbstractContextManager[object]:
    import torch

    gpu = device.startswith("cuda")
    if spec.precision == "float32" or (spec.precision == "auto" and not gpu):
        return nullcontext()
    return torch.autocast("cuda" if gpu else "cpu", dtype=torch.bfloat16)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput("there is no GPU that torch can use", given=name, fix="pass device: cpu, or auto")
    return name
