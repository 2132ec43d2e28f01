"""``attnlens rerank``: choose among an acoustic model's hypotheses, and say honestly by how much that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli import options
from attnlens.cli.output import out

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["rerank"]


def rerank(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="What to do; see experiments/asr.")],
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the results; a new or an empty one.")],
    limit: Annotated[int | None, typer.Option(help="At most so many utterances of test and of dev.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the speech LLM runs: cpu, cuda, auto.")] = None,
    set_: options.Set = None,
) -> None:
    """Make N-best lists, score them after demonstrations, select by every rule, and compare with the acoustic 1-best.

    Writes lists, scores, transcripts, the table, and the account of what was seen of each language.

    Examples: `attnlens rerank experiments/asr/rerank.yaml --out runs/rerank`,
    `attnlens rerank spec.yaml --set selector.adapter=runs/tft/model --out runs/tft-rerank`
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from attnlens.asr.rerank_files import new_folder
    from attnlens.asr.rerank_spec import read_rerank_spec
    from attnlens.cli.selection import render_selection
    from attnlens.run.kinds import changed
    from attnlens.run.selection import select_hypotheses

    read = read_rerank_spec(spec, **({} if limit is None else {"limit": limit}))
    read = changed(read, options.changes_of(set_))
    if device is not None and read.selector is not None:
        read = read.model_copy(update={"selector": read.selector.model_copy(update={"device": device})})
    folder = new_folder(folder)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out.console(stderr=True), disable=out.quiet, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(corpus: str, what: str, done: int, of: int) -> None:
            if corpus not in tasks:
                tasks[corpus] = bar.add_task(corpus)
            bar.update(tasks[corpus], description=f"{corpus}: {what}", completed=done, total=of)

        selected = select_hypotheses(read, folder, tell=tell)
    for one in selected.found:
        for said in (*one.remarks, *(f"{one.corpus.name}: {log}" for log in one.logs)):
            out.remark(said)
    rows = selected.rows()

    def render(console: Console) -> None:
        render_selection(console, rows["selection"], rows["ledger"])
        console.print(f"lists, scores, transcripts and tables are in {folder}", markup=False)

    out.emit({"out": str(folder), **selected.result}, render)
