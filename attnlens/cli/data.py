"""``attnlens data``: is a corpus fit for use?"""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli.output import out

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.data.check import CheckReport

__all__ = ["app"]

SHOWN = 20
CHARACTERS = 80
FOUND = 3

app = typer.Typer(no_args_is_help=True, help="Look after corpora.", rich_markup_mode=None)


@app.callback()
def data() -> None:
    """Look after corpora."""


@app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="A manifest (.jsonl .csv .tsv), a Kaldi folder or a folder of audio.")],
    *,
    fix: Annotated[
        Path | None, typer.Option(metavar="OUT.jsonl", help="Write a clean manifest without the rows that have errors.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Only rows of this language; needed where none is named.")
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="The longest clip that the model reads.")] = 30.0,
) -> None:
    """Read a whole corpus once and report what it holds and everything that is wrong with it.

    Exit code 0: no errors (there may be warnings). 3: errors were found, also when --fix wrote a clean manifest.

    Examples: `attnlens data check corpus/`, `attnlens data check corpus.csv --language gn --fix clean.jsonl`
    """
    from attnlens.data import check as checking

    if fix is not None:
        checking.fix_targets(fix)
    progress: checking.Progress = "never" if out.quiet or out.json else "auto"
    report = checking.check(path, limit_seconds=max_seconds, language=language, progress=progress)
    written = None if fix is None else checking.fix(report, fix)
    result = report.to_dict()
    if written is not None:
        result["fixed"] = {"manifest": str(written), "rows": len(report.usable()), "removed": f"{written}.removed.tsv"}
    out.emit(result, lambda console: _render(console, report, written))
    if report.errors:
        raise typer.Exit(FOUND)


def _render(console: Console, report: CheckReport, written: Path | None) -> None:
    _splits(console, report)
    if report.characters:
        kinds = len(report.characters)
        # Character classes for the eye: a stray capital or quotation mark stands out at the rare end.
        common = " ".join(f"{_visible(char)} {count:,}" for char, count in list(report.characters.items())[:CHARACTERS])
        console.print(f"\n{kinds:,} characters, commonest first: ", end="", style="bold")
        console.print(common + (" ..." if kinds > CHARACTERS else ""), markup=False)
    console.print()
    if not report.problems:
        console.print("no problems")
    else:
        _kinds(console, report)
        _problems(console, report)
    if written is not None:
        console.print(
            f"\n{len(report.usable()):,} rows without errors are in {written}, the rest in {written}.removed.tsv",
            markup=False,
        )


def _splits(console: Console, report: CheckReport) -> None:
    from rich.table import Table

    table = Table(title=report.source, title_justify="left", box=None, pad_edge=False)
    table.add_column("split", style="bold")
    for name in ("utterances", "hours", "speakers", "recordings"):
        table.add_column(name, justify="right")
    table.add_column("languages")
    for split, summary in report.splits.items():
        spoken = ", ".join(f"{code or 'not named'} {count:,}" for code, count in summary.languages.items())
        # Nothing named is unknown, not none.
        named = (f"{count:,}" if count else "?" for count in (summary.speakers, summary.recordings))
        table.add_row(split, f"{summary.utterances:,}", f"{summary.hours:.2f}", *named, spoken)
    console.print(table)


def _kinds(console: Console, report: CheckReport) -> None:
    from rich.table import Table

    from attnlens.data.utterance import PROBLEMS

    counts = Counter(problem.kind for problem in report.problems)
    table = Table(box=None, pad_edge=False)
    table.add_column("problem", style="bold", no_wrap=True)
    table.add_column("severity")
    table.add_column("count", justify="right")
    table.add_column("meaning")
    for kind, (severity, meaning) in sorted(PROBLEMS.items(), key=lambda item: item[1][0]):
        if counts[kind]:
            table.add_row(kind, severity, f"{counts[kind]:,}", meaning)
    console.print(table)


def _problems(console: Console, report: CheckReport) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("where", "id", "problem", "detail"):
        table.add_column(name, overflow="fold")
    shown = [*report.errors, *report.warnings]
    for problem in shown[:SHOWN]:
        table.add_row(*map(Text, (problem.where, problem.id or "", problem.kind, problem.detail)))
    console.print()
    console.print(table)
    if len(shown) > SHOWN:
        console.print(f"and {len(shown) - SHOWN:,} more; --json lists all, --fix writes all errors to a file")


def _visible(char: str) -> str:
    # Spaces, controls and combining marks print as nothing, or on top of their neighbour.
    return f"U+{ord(char):04X}" if char.isspace() or unicodedata.category(char)[0] in "CM" else char
