"""``attnlens compare``: what others published beside what a run measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli.output import out
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.run.published.beside import Beside
    from attnlens.run.published.measured import Ends

__all__ = ["compare", "render_beside"]


def compare(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A directory of `attnlens run` or `attnlens rerank`.")],
    *,
    with_: Annotated[str, typer.Option("--with", metavar="PUBLICATION:TABLE", help="See `attnlens ls published`.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KEY=VALUE", help="Printed cells to take, as model=xft.")
    ] = None,
) -> None:
    """Print a published table beside ours, cell by cell, with intervals and with what was computed differently.

    Examples: `attnlens compare runs/rerank --with paper:table6`,
    `attnlens compare runs/table3 --with paper:table3 --only model=xft`
    """
    from attnlens.run.published.beside import put_beside

    wanted = {}
    for one in only or []:
        key, equals, value = one.partition("=")
        if not equals or not value:
            raise BadInput("--only takes key=value", given=one, fix="write for instance --only model=xft")
        wanted[key] = value
    found = put_beside(folder, with_, only=wanted)
    out.emit(found.to_dict(), lambda console: render_beside(console, found))


def render_beside(console: Console, found: Beside) -> None:
    """Draw the comparison."""
    from rich.table import Table

    console.print(
        f"{found.table.title}\n{found.publication.source}, {found.table.source}\n", markup=False, soft_wrap=True
    )
    for measure, lines, keys, languages in found.by_measure():
        table = Table(box=None, pad_edge=False, title=None)
        for key in keys:
            table.add_column(key)
        table.add_column(f"{measure}, published: {', '.join(languages)}", justify="right", no_wrap=True)
        table.add_column("ours")
        for name in ("n", "as published", "95 %", "by default", "95 %"):
            table.add_column(name, justify="right", no_wrap=True)
        if found.same_languages:
            table.add_column("published inside")
        for line in lines:
            printed = ", ".join(f"{value:g}" for value in line.printed.values())
            told = [line.where.get(key, "") for key in keys]
            cells = [*_cells(line.as_published), *_cells(line.default)]
            inside = {None: "", True: "yes", False: "no"}[line.inside]
            more = [inside] if found.same_languages else []
            table.add_row(*told, printed, line.corpus, str(line.utterances), *cells, *more)
        console.print(table)
        console.print()
    for says in found.table.says:
        console.print(f"published: {says}", markup=False, soft_wrap=True)
    if found.table.look:
        console.print(f"ours: attnlens plot RUN {found.table.look}", markup=False)
    told = [f"differs: {one}" for one in found.differs]
    told += [f"left out: {one}" for one in found.left_out]
    told += [f"note: {one}" for one in found.table.notes]
    unknown = [*found.table.unknown, *found.publication.unknown]
    told += [f"not published: {'; '.join(unknown)}"] if unknown else []
    told += [f"{found.missing} printed numbers have none of ours beside them"] if found.missing else []
    for one in [*told, *found.remarks]:
        console.print(one, markup=False, soft_wrap=True)


def _cells(ends: Ends | None) -> tuple[str, str]:
    if ends is None:
        return "", ""
    whole = all(one is None or one == int(one) for one in (ends.estimate, ends.low, ends.high))
    form = ".0f" if whole or ends.estimate >= 1000 else ".2f"  # noqa: PLR2004
    interval = "" if ends.low is None or ends.high is None else f"[{ends.low:{form}}, {ends.high:{form}}]"
    return f"{ends.estimate:{form}}", interval
