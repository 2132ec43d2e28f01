"""``attnlens report``: build the page of a run anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli.output import out, steps

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    *,
    tokens: Annotated[
        int, typer.Option(help="Measure so many utterances token by token, for the explorer; loads the model.")
    ] = 0,
) -> None:
    """Draw all figures of a run and write its report.html, one file that opens from disk.

    Example: `attnlens report runs/default --tokens 4`
    """
    from attnlens.run.report import report_run

    with steps() as tick:
        made = report_run(run, utterances=tokens, tick=tick)

    def render(console: Console) -> None:
        console.print(f"{made.page}: {made.bytes / 1e6:.1f} MB, {len(made.figures)} figures", markup=False)
        for name, why in made.skipped.items():
            console.print(f"not drawn: {name}: {why}", markup=False, soft_wrap=True)

    out.emit(made.to_dict(), render)
