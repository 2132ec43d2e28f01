"""``attnlens plan``: what would a run do, and what would it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import options
from attnlens.cli.output import out
from attnlens.run.hardware import find_gpu, seconds_on

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.run.estimate import Estimate
    from attnlens.run.forecast import Forecast
    from attnlens.run.kinds import AnySpec, Kind
    from attnlens.run.plan import Plan
    from attnlens.run.spec import RunSpec

__all__ = ["duration", "plan", "render_forecast", "render_plan", "size", "told_cost"]

ROOM = 0.9
"""How much of a GPU's memory can be filled before it fragments."""


def plan(
    spec: options.SpecFile = None,
    *,
    model: options.Model = None,
    corpora: options.Corpora = None,
    conditions: options.Conditions = None,
    shots: options.Shots = None,
    retriever: options.Retriever = None,
    controls: options.Controls = None,
    seeds: options.Seeds = None,
    set_: options.Set = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Load the model and time a few batches, to know time and memory.")
    ] = False,
    gpu: Annotated[
        str | None,
        typer.Option(help="Guess the time on one of these: a100-80gb, h100-80gb, h200-141gb, l40s-48gb, ..."),
    ] = None,
) -> None:
    """Print what a spec would do and cost, before anything runs; without --measure no weights are loaded.

    Specs of every kind are read: of `attnlens run`, `rerank`, `ablate` and `train`. A published checkpoint or corpus
    that is not on this machine is reckoned from its published size, and that is said.

    Examples: `attnlens plan`, `attnlens plan spec.yaml --measure`,
    `attnlens plan experiments/paper/table6.yaml --gpu a100-80gb`
    """
    given: dict[str, Any] = {
        "sets": set_,
        "model": model,
        "corpora": corpora,
        "conditions": conditions,
        "shots": shots,
        "retriever": retriever,
        "controls": controls,
        "seeds": seeds,
    }
    if gpu is not None:
        find_gpu(gpu)
    if spec is not None:
        kind, read = options.resolve_any(spec, **given)
        if kind != "run":
            _forecast(kind, read, measure=measure, gpu=gpu)
            return
    _plan(options.resolve(spec, **given), measure=measure, gpu=gpu)


def _plan(resolved: RunSpec, *, measure: bool, gpu: str | None) -> None:
    """Tell what a run would do, item by item."""
    from attnlens.run.bench import measured_facts
    from attnlens.run.estimate import estimate
    from attnlens.run.plan import make_plan
    from attnlens.run.price import price_run

    if measure:
        made = make_plan(resolved)
        cost = estimate(made, facts=measured_facts(made))
    else:
        made, cost, remarks = price_run(resolved)
        for told in remarks:
            out.remark(told)
    guess = None if gpu is None else _guess(gpu, cost)
    data: dict[str, Any] = {
        "kind": "run",
        "hash": resolved.hash,
        "estimate": cost.to_dict() | ({} if guess is None else {"gpu": gpu, "gpu_seconds": guess[1]}),
        "left_out": made.left_out,
        "items": [item.to_row() for item in made.items],
    }

    def render(console: Console) -> None:
        render_plan(console, made, cost)
        if guess is not None:
            console.print(guess[0], markup=False, soft_wrap=True)

    out.emit(data, render)


def _forecast(kind: Kind, spec: AnySpec, *, measure: bool, gpu: str | None) -> None:
    """Tell what a spec of another kind costs, step by step."""
    from attnlens.run.price import forecast

    told = forecast(spec, measure=measure)
    guess = None if gpu is None else _guess(gpu, told.cost)
    for said in told.remarks:
        out.remark(said)
    data = {"kind": kind, **told.to_dict()}
    data["estimate"] |= {} if guess is None else {"gpu": gpu, "gpu_seconds": guess[1]}

    def render(console: Console) -> None:
        render_forecast(console, kind, told)
        if guess is not None:
            console.print(guess[0], markup=False, soft_wrap=True)

    out.emit(data, render)


def _guess(name: str, cost: Estimate) -> tuple[str, float]:
    """Say how long it takes on a GPU by name, and whether it fits."""
    gpu = find_gpu(name)
    seconds = seconds_on(gpu, operations=cost.operations, written=cost.tokens_made, active_bytes=cost.active_bytes)
    fits = "" if cost.memory is None else ", which fits" if cost.memory < ROOM * gpu.memory else ", which does NOT fit"
    told = f"about {duration(seconds)} on one {name}{fits}: a guess from its data sheet, not a measurement"
    return told, seconds


def render_plan(console: Console, plan: Plan, cost: Estimate) -> None:
    """Draw the plan by group, and what it costs."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("condition", "shots", "control", *dict.fromkeys(item.corpus for item in plan.items)):
        table.add_column(name, justify="left" if name in ("condition", "control") else "right")
    groups = plan.groups()
    corpora = list(dict.fromkeys(corpus for corpus, *_ in groups))
    for condition, shots, control in dict.fromkeys(key[1:] for key in groups):
        counts = [str(len(groups.get((corpus, condition, shots, control), []))) for corpus in corpora]
        table.add_row(condition, str(shots), control, *counts)
    console.print(table)
    for reason, count in plan.left_out.items():
        console.print(f"left out: {reason} ({count:,})", markup=False, soft_wrap=True)
    execution = plan.spec.execution
    # How many workers a running scheduler has is its own affair.
    where = " on one worker" if execution.scheduler else ""
    then = ", then ".join(["", *([", ".join(execution.after)] if execution.after else [])])
    told = told_cost(cost, workers=execution.workers, then=f"{where}{then}")
    console.print(f"{cost.items:,} items to do; {told}", markup=False, soft_wrap=True)


def render_forecast(console: Console, kind: Kind, told: Forecast) -> None:
    """Draw the steps of a spec of another kind, and what they cost together."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    several = any(one.corpus for one in told.steps)
    for name in (["corpus"] if several else []) + ["step"]:
        table.add_column(name)
    for name in ("times", "tokens to read", "at most to write"):
        table.add_column(name, justify="right")
    for one in told.steps:
        counts = [f"{number:,}" if number else "" for number in (one.count, one.positions, one.tokens_made)]
        table.add_row(*([one.corpus] if several else []), one.does, *counts)
    console.print(table)
    what = {"rerank": "utterances to transcribe", "ablate": "prompts to ablate", "train": "episodes or clips"}[kind]
    console.print(f"{told.cost.items:,} {what}; {told_cost(told.cost)}", markup=False, soft_wrap=True)


def told_cost(cost: Estimate, *, workers: int = 1, then: str = "") -> str:
    """Say tokens, time, memory and disk, as far as they are known; ``then`` is what the time does not count."""
    memory = "memory unknown before the model is loaded"
    if cost.memory is not None:
        held = "" if cost.weights is None else f" ({size(cost.weights)} of weights)"
        memory = f"memory about {size(cost.memory)}{held}"
    time = f"time {cost.untimed}"
    if cost.seconds is not None:
        time = f"about {duration(cost.seconds / workers)}" + (f" to measure{then}" if then else "")
    longest = f", the longest prompt {cost.longest:,}" if cost.longest else ""
    return (
        f"{cost.positions:,} tokens to read{longest}, at most {cost.tokens_made:,} to write\n"
        f"{time}; {memory}; disk up to {size(cost.disk)}"
    )


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004


def size(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
