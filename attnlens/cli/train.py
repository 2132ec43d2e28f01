"""``attnlens train``: run a training recipe from a spec file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli import options
from attnlens.cli.output import out

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.train.cost import Cost

__all__ = ["train"]


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="What to train; see experiments/organism.")],
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the run; a killed run goes on in it.")],
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1; the spec's own without it.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Pause and export after so long; the same call goes on.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that make batches; changes no number.")] = None,
    set_: options.Set = None,
) -> None:
    """Train by a recipe, keeping the checkpoint that is best on dev. The same command resumes a killed run.

    Example: `attnlens train experiments/organism/smoke/joint.yaml --out runs/joint`
    """
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    from attnlens.run.kinds import changed
    from attnlens.train.loop import train as run
    from attnlens.train.spec import read_train_spec

    given = {"device": device, "minutes": minutes, "workers": workers}
    changes = {name: value for name, value in given.items() if value is not None}
    read = changed(read_train_spec(spec, **changes), options.changes_of(set_))
    # Of several processes one speaks; which it is, launchers say in the environment.
    first = os.environ.get("RANK", "0") == "0"
    columns = (*Progress.get_default_columns()[:3], TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
    with Progress(*columns, console=out.console(stderr=True), disable=out.quiet or not first, transient=True) as bar:
        task = bar.add_task(read.recipe, total=read.steps, figures="")

        def tick(step: int, figures: dict[str, float]) -> None:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in list(figures.items())[:4])
            bar.update(task, completed=step, figures=shown)

        def planned(cost: Cost) -> None:
            if not out.quiet:
                bar.console.print(_told(cost), soft_wrap=True, highlight=False)

        outcome = run(read, folder, tick=tick, planned=planned)
    result = {"out": str(folder), "hash": read.hash, **vars(outcome)}

    def render(console: Console) -> None:
        best = "" if outcome.best is None else f"; best dev metric {outcome.best:.4f} at step {outcome.best_step}"
        console.print(f"{outcome.ended} after {outcome.steps} steps{best}; model in {folder / 'model'}")

    if first:
        out.emit(result, render)


def _told(cost: Cost) -> str:
    from attnlens.cli.plan import duration

    held = f"about {_size(cost.memory)} of memory, " + (
        "measured on the device"
        if cost.peak
        else f"weights {_size(cost.weights)}, gradients and optimiser {_size(cost.states)}, "
        f"activations of a batch {_size(cost.activations)}"
    )
    return (
        f"{cost.trained:,} of {cost.parameters:,} parameters are trained; {held}\n"
        f"{cost.batch_seconds:.2f} s a batch, so about {duration(cost.seconds)} to the last step"
    )


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
