"""``attnlens plot``: figures of a run, or of any store, as files with their data beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from attnlens.cli.output import out, steps
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.plots.drawing import Format
    from attnlens.plots.style import Size

__all__ = ["plot"]


def plot(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a store (traces.zarr).")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Figures; `attnlens ls figures` lists them.")
    ] = None,
    *,
    beside: Annotated[
        list[Path] | None, typer.Option("--beside", metavar="RUN", help="Another run or store, to compare with.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="A view of the traces, where a figure has a choice.")] = None,
    formats: Annotated[str, typer.Option("--format", help="Of png, pdf, svg; several by commas.")] = "pdf,png",
    size: Annotated[str, typer.Option(help="column, page or slide.")] = "page",
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where the files go; by default figures/ in the run.")
    ] = None,
) -> None:
    """Draw figures and write each with its data as CSV. Without names, everything that can be drawn.

    Examples: `attnlens plot runs/default`, `attnlens plot a/traces.zarr modality_bias --beside b/traces.zarr`
    """
    from attnlens.plots.catalogue import draw_figures
    from attnlens.plots.source import Source
    from attnlens.traces.views import VIEWS

    if view is not None:
        VIEWS.require(view)
    sources = [Source.open(one) for one in (run, *(beside or []))]
    labels = [one.label for one in sources]
    if len(set(labels)) < len(labels):
        sources = [Source.open(one, label=str(one)) for one in (run, *(beside or []))]
    target = folder or (sources[0].folder / "figures" if sources[0].whole else None)
    if target is None:
        raise BadInput("a bare store has no place for figures", given=run, fix="pass --out FOLDER")
    wanted = [one.strip() for one in formats.split(",") if one.strip()]
    with steps() as tick:
        drawn = draw_figures(
            sources,
            target,
            names=names or None,
            view=view,
            formats=cast("list[Format]", wanted),
            size=cast("Size", size),
            tick=tick,
        )
    result = {
        "out": str(target),
        "figures": {name: [str(path) for path in paths] for name, paths in drawn.files.items()},
        "skipped": drawn.skipped,
    }

    def render(console: Console) -> None:
        for paths in drawn.files.values():
            console.print("  ".join(str(path) for path in paths), markup=False, soft_wrap=True)
        for name, why in drawn.skipped.items():
            console.print(f"not drawn: {name}: {why}", markup=False, soft_wrap=True)

    out.emit(result, render)
