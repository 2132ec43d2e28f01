"""The table of chosen hypotheses as a researcher reads it, language by language, and what was seen of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.run.tables import ALL

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["render_selection"]

Row = Mapping[str, Any]
CHOSEN = ("rule", "other")


def render_selection(console: Console, rows: Sequence[Row], ledger: Sequence[Row] = ()) -> None:
    """Print the systems of each language between their baselines and bounds, and the sentence about exposure."""
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        here = [row for row in rows if row["corpus"] == corpus]
        _table(console, "all languages together" if corpus == ALL else corpus, here)
    for note in dict.fromkeys(note for row in rows for note in str(row["notes"]).split("; ") if note):
        console.print(note, markup=False, soft_wrap=True)
    if ledger:
        said = "; ".join(str(row["said"]) for row in ledger)
        console.print(f"What was seen of the language: {said}", markup=False, soft_wrap=True)
    console.print()


def _table(console: Console, name: str, rows: Sequence[Row]) -> None:
    from rich.table import Table

    first = rows[0]
    drawn = f"{first['seeds']} seeds of demonstrations, " if first["seeds"] > 1 else ""
    console.print(
        f"Hypotheses chosen, {name}: {first['utterances']} utterances, {first['words']} words, {drawn}"
        f"{first['hypotheses_per_list']:.1f} hypotheses per list\n",
        markup=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("system", overflow="fold")
    for head in ("WER %", "95 %", "change", "95 %", "p Holm", "gap recovered", "95 %"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        tag = f" ({row['tag']})" if row["tag"] else ""
        gap = ["", ""] if row["kind"] not in CHOSEN else _cells(row, "gap_recovered", ".2f", 1)
        cells = [*_cells(row, "wer", ".1f", 100), *_cells(row, "difference", "+.1f", 100), _number(row["p_holm"]), *gap]
        table.add_row(row["system"] + tag, *cells)
    console.print(table)
    smallest = [float(row["detectable"]) for row in rows if row["detectable"] != ""]
    if smallest:
        low, high = 100 * min(smallest), 100 * max(smallest)
        console.print(f"smallest change found with 80 % power: {low:.1f} to {high:.1f} points")
    console.print()


def _cells(row: Row, name: str, form: str, scale: float) -> tuple[str, str]:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    ends = "" if low == "" else f"[{scale * low:{form}}, {scale * high:{form}}]"
    return ("" if value == "" else f"{scale * value:{form}}"), ends


def _number(value: Any) -> str:
    return "" if value == "" else f"{value:.4f}"
