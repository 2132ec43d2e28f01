"""``attnlens ablate``: take things from a model, at every depth, and say what that shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import options
from attnlens.cli.output import out, steps

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ablate"]


def ablate(
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC.yaml]", help="What to ablate; all defaults without.")
    ] = None,
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the results; the same spec goes on in it.")],
    model: Annotated[str | None, typer.Option(help="What `attnlens ls models` names, a folder, a hub name.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many utterances of each corpus.")] = None,
    shots: Annotated[int | None, typer.Option(help="Demonstrations in each prompt.")] = None,
    set_: options.Set = None,
    report: Annotated[bool, typer.Option(help="Draw the figures and write report.html.")] = True,
) -> None:
    """Cut edges of attention, take parts of prompts and representations away, and compare all in one table.

    Beside each stands what could refute it: random keys of equal count and equal mass, and the same ablation with
    another answer. Findings with verdicts, tables, traces and a report are left in the folder. The same
    command goes on where it was stopped.

    Example: `attnlens ablate experiments/own/paths.yaml --out runs/evidence`
    """
    from attnlens.run.ablation import run_ablation
    from attnlens.run.ablation_spec import AblationSpec, read_ablation_spec
    from attnlens.run.kinds import changed

    changes: dict[str, Any] = {"model": model, "limit": limit, "shots": shots}
    changes = {name: value for name, value in changes.items() if value is not None}
    read = AblationSpec(**changes) if spec is None else read_ablation_spec(spec, **changes)
    found = run_ablation(changed(read, options.changes_of(set_)), folder, tell=out.remark)
    page = None
    if report:
        from attnlens.plots.report import write_report

        with steps() as tick:
            page = write_report(found.folder, tick=tick).page

    def render(console: Console) -> None:
        console.print(str(found.table), markup=False, soft_wrap=True)
        console.print("\nFindings\n")
        for one in found.findings:
            console.print(f"{one.verdict}: {one.claim}", markup=False, soft_wrap=True)
            console.print(f"    {one.evidence}", markup=False, soft_wrap=True, style="dim")
        console.print(f"\ntables, findings and traces are in {found.folder}", markup=False)
        if page is not None:
            console.print(f"report: {page}", markup=False)

    rows = [{"verdict": one.verdict, "claim": one.claim, "evidence": one.evidence} for one in found.findings]
    out.emit({"out": str(found.folder), "findings": rows}, render)
