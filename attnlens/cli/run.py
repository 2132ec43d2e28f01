"""``attnlens run``: the main job, from a spec to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from attnlens.cli import options
from attnlens.cli.output import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnlens.run.bench import Facts
    from attnlens.run.item import Item
    from attnlens.run.plan import Plan
    from attnlens.run.spec import RunSpec

__all__ = ["run"]

FAILURES, STOPPED = 3, 130


def run(
    spec: options.SpecFile = None,
    *,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Run directory; by default runs/<name>-<hash of the spec>.")
    ] = None,
    model: options.Model = None,
    corpora: options.Corpora = None,
    conditions: options.Conditions = None,
    shots: options.Shots = None,
    retriever: options.Retriever = None,
    controls: options.Controls = None,
    seeds: options.Seeds = None,
    set_: options.Set = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Adapters by name, the first being the base: base=none,xft=runs/xft/model. One run for each."
        ),
    ] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first item that fails.")] = False,
    executor: Annotated[Literal["local", "dask"] | None, typer.Option(help="This process, or a Dask cluster.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler.")] = None,
    local_workers: Annotated[
        int | None, typer.Option("--local-workers", help="Start so many worker processes here (implies dask).")
    ] = None,
) -> None:
    """Measure, and print the answer; the same command again goes on where it stopped.

    Without a spec this is the default run. Exit code 0: all items are done. 3: some failed. 130: stopped; resumable.

    Examples: `attnlens run`, `attnlens run spec.yaml --shots 0,4 --out runs/four`, `attnlens run --local-workers 2`
    """
    from attnlens.cli.answer import render_answer
    from attnlens.cli.progress import Display
    from attnlens.run.carry_out import run_spec

    execution: dict[str, Any] = {
        "execution.executor": "dask" if executor is None and (scheduler or local_workers) else executor,
        "execution.scheduler": scheduler,
        "execution.workers": local_workers,
        "execution.on_error": "stop" if fail_fast else None,
    }
    resolved = options.resolve(
        spec,
        sets=set_,
        model=model,
        corpora=corpora,
        conditions=conditions,
        shots=shots,
        retriever=retriever,
        controls=controls,
        seeds=seeds,
        also={key: value for key, value in execution.items() if value is not None},
    )
    if compare is not None:
        _compare(resolved, compare, folder)
        return
    with Display() as display:
        outcome = run_spec(resolved, folder, watch=display, planned=_told(display))
    out.emit(outcome.to_dict(), lambda console: render_answer(console, outcome))
    if outcome.ended != "finished":
        raise typer.Exit(STOPPED if outcome.ended == "stopped" else FAILURES)


def _compare(spec: RunSpec, given: str, folder: Path | None) -> None:
    from attnlens.cli.adapters import render_adapters
    from attnlens.cli.progress import Display
    from attnlens.run.adapters import parse_adapters, run_adapters

    adapters = parse_adapters(given)
    with Display() as display:
        told = _told(display)
        found = run_adapters(spec, adapters, folder, watch=display, planned=told, told=display.said)
    out.emit(found.to_dict(), lambda console: render_adapters(console, found))
    if found.ended != "finished":
        raise typer.Exit(STOPPED if found.ended == "stopped" else FAILURES)


def _told(display: Any) -> Any:
    from attnlens.cli.plan import render_plan
    from attnlens.run.estimate import estimate

    def tell(plan: Plan, facts: Facts, due: Sequence[Item]) -> None:
        if not out.quiet:
            cost = estimate(plan, facts=facts, due=due)
            display.printed(lambda console: render_plan(console, plan, cost))

    return tell
