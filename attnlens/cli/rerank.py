"""``attnlens rerank``: choose among an acoustic model's hypotheses, and say honestly by how much that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.cli.output import out

if TYPE_CHECKING:
    from attnlens.asr.rerank_spec import AcousticPart
    from attnlens.data.corpus import Corpus

__all__ = ["load_acoustic_of", "rerank"]

SHIPPED = "organism"


def rerank(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="What to do; see experiments/asr.")],
    *,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the results; a new or an empty one.")],
    limit: Annotated[int | None, typer.Option(help="At most so many utterances of test and of dev.")] = None,
    device: Annotated[str | None, typer.Option(help="Where the speech LLM runs: cpu, cuda, auto.")] = None,
) -> None:
    """Make N-best lists, score them after demonstrations, select by every rule, and compare with the acoustic 1-best.

    Writes lists, scores, transcripts, the table, and the account of what was seen of each language.

    Example: `attnlens rerank experiments/asr/rerank.yaml --out runs/rerank`
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from attnlens.asr.rerank import rerank_language
    from attnlens.asr.rerank_files import ledger_of, new_folder, write_results
    from attnlens.asr.rerank_spec import read_rerank_spec
    from attnlens.asr.tabulate import selection_tables
    from attnlens.models.load import load
    from attnlens.run.corpora import find_corpus

    read = read_rerank_spec(spec, **({} if limit is None else {"limit": limit}))
    folder = new_folder(folder)
    corpora = [find_corpus(name) for name in read.corpora]
    part = read.selector
    lens = None
    if part is not None:
        lens = load(part.model, dtype=part.dtype, device_map=device or part.device, adapter=part.adapter)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    found = []
    with Progress(*columns, console=out.console(stderr=True), disable=out.quiet, transient=True) as bar:
        for corpus in corpora:
            task = bar.add_task(corpus.name)

            def tell(what: str, done: int, of: int, *, task: Any = task, name: str = corpus.name) -> None:
                bar.update(task, description=f"{name}: {what}", completed=done, total=of)

            acoustic = load_acoustic_of(read.acoustic, corpus)
            found.append(rerank_language(read, corpus, acoustic, lens, tell=tell))
    for one in found:
        for remark in one.remarks:
            out.remark(remark)
        for log in one.logs:
            out.remark(f"{one.corpus.name}: {log}")
    tables = selection_tables([one.test for one in found], unit=read.unit, normaliser=read.normaliser, seed=read.seed)
    account = ledger_of(read, found)
    result = write_results(folder, read, found, tables, account)

    def render(console: Any) -> None:
        for table in tables:
            console.print(f"\n{table.language}", style="bold")
            console.print(table.to_markdown(), markup=False, soft_wrap=True)
        console.print(f"\n{account.sentence}", markup=False, soft_wrap=True)
        console.print(f"\nlists, scores, transcripts and tables are in {folder}", markup=False)

    out.emit({"out": str(folder), **result}, render)


def load_acoustic_of(part: AcousticPart, corpus: Corpus) -> Any:
    """Load the acoustic model that a spec names for a corpus; ``organism`` is the one shipped for it."""
    from attnlens.asr.load_acoustic import load_acoustic
    from attnlens.errors import BadInput, listing

    name = part.model if isinstance(part.model, str) else part.model.get(corpus.name)
    if name is None:
        raise BadInput(
            f"the spec names no acoustic model for {corpus.name!r}",
            present=listing(part.model),
            fix="add it to acoustic.model",
        )
    if name == SHIPPED:
        from attnlens.organism.shipped import acoustic_folder

        name = str(acoustic_folder(corpus.name))
    return load_acoustic(name)
