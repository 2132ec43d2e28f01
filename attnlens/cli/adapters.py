"""What ``attnlens run --compare`` answers: the change by each adapter, measure by measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlens.run.tables import ALL

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.run.adapters import Compared

__all__ = ["render_adapters"]

SHOWN = ("bias", "nll_per_char", "cer")


def render_adapters(console: Console, found: Compared) -> None:
    """Draw the differences of all corpora together, or of the only one."""
    from rich.table import Table

    rows = found.differences
    corpora = {row["corpus"] for row in rows}
    chosen = [row for row in rows if row["measure"] in SHOWN and (row["corpus"] == ALL or len(corpora) == 1)]
    table = Table(box=None, pad_edge=False)
    for name in ("adapter", "condition", "shots", "measure", "base", "with it", "difference", "95 %", "n"):
        table.add_column(name, justify="left" if name in {"adapter", "condition", "measure"} else "right")
    for row in chosen:
        ends = "" if row["difference_low"] == "" else f"{row['difference_low']:+.3f} .. {row['difference_high']:+.3f}"
        table.add_row(
            str(row["adapter"]),
            str(row["condition"]),
            str(row["shots"]),
            str(row["measure"]),
            f"{row['base']:.3f}",
            f"{row['value']:.3f}",
            f"{row['difference']:+.3f}",
            ends,
            str(row["utterances"]),
        )
    console.print(table)
    console.print(f"all measures in {found.folder / 'tables' / 'adapters.csv'}", soft_wrap=True)
