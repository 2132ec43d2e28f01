"""The answer of a run as a researcher reads it: the curve, the error rates, the controls, where to look next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.cli.selection import render_selection
from attnlens.run.tables import ALL, TABLES

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.run.carry_out import Outcome
    from attnlens.stats.findings import Findings

__all__ = ["render_answer"]

Row = Mapping[str, Any]
NAMES = {"bias": "bias", "log_ratio": "log ratio", "cer": "CER", "wer": "WER", "nll_per_char": "nats per character"}
TOLD = (*TABLES, "interventions")
PERCENT = ("cer", "wer")
ALPHA = 0.05
SHOWN = 5
FEW = 20


def render_answer(console: Console, outcome: Outcome) -> None:
    """Print what a run found and how it ended."""
    from attnlens.stats.findings import Findings

    tables = {name: _together(rows) for name, rows in outcome.tables.items() if name in TOLD}
    if outcome.tables:
        _bias(console, tables.get("bias", []))
        cut = {row["intervention"] for row in tables.get("interventions", [])}
        # What was cut has a table of its own.
        kept = [row for row in tables.get("errors", []) if row["control"].rpartition(" with ")[2] not in cut]
        _errors(console, kept)
        _controls(console, tables.get("controls", []))
        if outcome.tables.get("interventions"):
            _interventions(console, tables["interventions"])
        if outcome.tables.get("selection"):
            render_selection(console, outcome.tables["selection"], outcome.tables.get("ledger", []))
        _findings(console, Findings.read(outcome.folder))
    _ended(console, outcome, tables)


def _together(rows: Sequence[Row]) -> list[Row]:
    """Keep the lines over all corpora; with one corpus those are its own."""
    several = any(row["corpus"] == ALL for row in rows)
    return [row for row in rows if not several or row["corpus"] == ALL]


def _bias(console: Console, rows: Sequence[Row]) -> None:
    clean = [row for row in rows if row["control"] == "none"]
    if not clean:
        console.print("No condition of this run shows both audio and text, so there is no bias between them.\n")
        return
    most = max(row["shots"] for row in clean)
    chosen = [row for row in clean if row["shots"] == most and row["condition"] == clean[-1]["condition"]]
    shots = f"{chosen[0]['condition']}, {most} shots, {chosen[0]['utterances']} utterances"
    console.print(f"Is the text (+) or the audio (-) of demonstrations attended to? By layer; {shots}\n", markup=False)
    table = _table(console, left=(), right=("layer", "bias", "95 %", "log ratio per token", "95 %"))
    for row in chosen:
        table.add_row(str(row["layer"]), *_cells(row, "bias", "+.2f"), *_cells(row, "log_ratio", "+.2f"))
    console.print(table)
    console.print("bias is not corrected for length, the log ratio is: 0 is no preference per token")
    if chosen[0]["utterances"] < FEW:
        console.print(f"{chosen[0]['utterances']} utterances are few: expect every interval to be too narrow")
    console.print()


def _errors(console: Console, rows: Sequence[Row]) -> None:
    console.print("Error rates and likelihoods\n")
    right = ("shots", "n", "CER %", "95 %", "WER %", "95 %", "nats/char", "95 %")
    table = _table(console, left=("condition", "control"), right=right)
    for row in rows:
        cells = [*_cells(row, "cer", ".1f", 100), *_cells(row, "wer", ".1f", 100), *_cells(row, "nll_per_char", ".2f")]
        table.add_row(row["condition"], row["control"], str(row["shots"]), str(row["utterances"]), *cells)
    console.print(table)
    console.print()


def _controls(console: Console, rows: Sequence[Row]) -> None:
    if not rows:
        console.print("No control was run.\n")
        return
    console.print("What the controls changed (controlled - clean, paired over utterances)\n")
    right = ("shots", "n", "difference", "95 %", "p", "p Holm")
    table = _table(console, left=("control", "condition", "measure"), right=right)
    for row in rows:
        scale = 100 if row["measure"] in PERCENT else 1
        unit = " %" if row["measure"] in PERCENT else ""
        tests = [_p(row["p"]), _p(row["p_holm"])]
        words = row["control"], row["condition"], NAMES[row["measure"]] + unit
        cells = _cells(row, "difference", "+.3f" if scale == 1 else "+.1f", scale)
        table.add_row(*words, str(row["shots"]), str(row["utterances"]), *cells, *tests)
    console.print(table)
    if any(row["p"] == "" for row in rows):
        console.print("no p where there are too few utterances for a test at 0.05")
    console.print()


def _interventions(console: Console, rows: Sequence[Row]) -> None:
    from attnlens.models.named_interventions import parse_intervention

    console.print("What the interventions changed (with - without, the same prompts, paired over utterances)\n")
    right = ("shots", "n", "nats/char", "95 %", "CER %", "95 %", "bias", "95 %")
    table = _table(console, left=("intervention", "condition"), right=right)
    cells: dict[tuple[str, str, str, int], dict[str, Row]] = {}
    for row in rows:
        key = row["intervention"], row["condition"], row["control"], row["shots"]
        cells.setdefault(key, {})[row["measure"]] = row
    for (intervention, condition, control, shots), found in cells.items():
        told: list[str] = []
        for name, form, scale in (("nll_per_char", "+.2f", 1), ("cer", "+.1f", 100), ("bias", "+.2f", 1)):
            row = found.get(name, {})
            value, ends = _cells(row, "difference", form, scale) if row else ("", "")
            told += [value + ("*" if row and row["p_holm"] != "" and row["p_holm"] <= ALPHA else " "), ends]
        shown = condition if control == "none" else f"{condition}, {control}"
        count = str(max(row["utterances"] for row in found.values()))
        table.add_row(parse_intervention(intervention).spoken, shown, str(shots), count, *told)
    console.print(table)
    console.print("* p <= 0.05 over all rows after Holm; levels, WER, p, each corpus: tables/interventions.csv\n")


def _findings(console: Console, found: Findings | None) -> None:
    if not found:
        return
    console.print("Findings\n")
    for one in found:
        console.print(f"{one.verdict}: {one.claim}", markup=False, soft_wrap=True)
        console.print(f"    {one.evidence}", markup=False, soft_wrap=True, style="dim")
    console.print()


def _ended(console: Console, outcome: Outcome, tables: Mapping[str, Sequence[Row]]) -> None:
    count = f"{outcome.finished:,} of {outcome.planned:,} items are finished"
    if outcome.ended == "stopped":
        console.print(f"stopped: {count} and safe; the same command goes on from there", markup=False)
    elif outcome.ended == "failures":
        console.print(f"{count}, {len(outcome.failed):,} failed:", markup=False)
        for name, why in list(outcome.failed.items())[:SHOWN]:
            console.print(f"  {name}: {why}", markup=False, soft_wrap=True)
        console.print("the same command tries those again; all reasons stand in items.csv")
    else:
        console.print(f"{count}, in {outcome.folder}", markup=False)
    if outcome.ended != "stopped":
        for line in _next(outcome, tables):
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _next(outcome: Outcome, tables: Mapping[str, Sequence[Row]]) -> list[str]:
    folder = outcome.folder
    told = []
    clear = [row for row in tables.get("bias", []) if row["control"] == "none" and _excludes_zero(row, "log_ratio")]
    if clear:
        top = max(clear, key=lambda row: abs(row["log_ratio"]))
        side = "text" if top["log_ratio"] > 0 else "audio"
        where = f"layer {top['layer']} ({top['condition']}, {top['shots']} shot{'s' if top['shots'] > 1 else ''})"
        told.append(f"strongest preference per token: {side}, {where}; does cutting it there cost anything?")
    moved = [row for row in tables.get("controls", []) if row["p_holm"] != "" and row["p_holm"] <= ALPHA]
    if tables.get("controls") and any(row["p"] != "" for row in tables["controls"]):
        names = sorted({f"{row['control']} ({NAMES[row['measure']]})" for row in moved})
        told.append(f"controls that changed something: {', '.join(names) or 'none, so the effect may be form alone'}")
    cost = [
        row
        for row in tables.get("interventions", [])
        if row["measure"] == "nll_per_char" and row["p_holm"] != "" and row["p_holm"] <= ALPHA
    ]
    if tables.get("interventions") and any(row["p"] != "" for row in tables["interventions"]):
        names = list(dict.fromkeys(row["intervention"] for row in cost))
        told.append(f"interventions that the likelihood noticed: {', '.join(names) or 'none'}")
    told.append(f"heads and items: attnlens traces info {folder / 'traces.zarr'}")
    told.append(f"tables by corpus: {folder / 'tables'}; every transcription: {folder / 'items.csv'}")
    return told


def _excludes_zero(row: Row, name: str) -> bool:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return low != "" and high != "" and (low > 0 or high < 0)


def _cells(row: Row, name: str, form: str, scale: float = 1) -> tuple[str, str]:
    estimate, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    ends = "" if low == "" or high == "" else f"[{scale * low:{form}}, {scale * high:{form}}]"
    return ("" if estimate == "" else f"{scale * estimate:{form}}"), ends


def _p(value: Any) -> str:
    return "" if value == "" else f"{value:.4f}"


def _table(console: Console, *, left: Sequence[str], right: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table
