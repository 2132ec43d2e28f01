"""The report of a run: one page that opens from disk, with findings, figures, tables and the explorer in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput
from attnlens.plots.catalogue import FIGURES, Drawn, draw_figures
from attnlens.plots.explorer import explorer_data
from attnlens.plots.findings import findings_of
from attnlens.plots.html import embedded, figure_html, table_html
from attnlens.plots.source import Source
from attnlens.stats.findings import RULES

if TYPE_CHECKING:
    from attnlens.plots.drawing import Format

__all__ = ["Report", "write_report"]

CAUTION = "Attention says where a model looks, not what it uses."
LEDGER = "ledger"
"""The table that says what target data each component has seen; it has a section of its own."""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The page asks the browser itself to refuse every request."""


@dataclass(frozen=True)
class Report:
    """What was written: the page, the figures' files, and why some figures were not drawn."""

    page: Path
    bytes: int
    figures: list[str]
    skipped: dict[str, str]
    items: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "page": str(self.page)}


def write_report(
    folder: str | Path,
    *,
    formats: Sequence[Format] = ("svg", "png"),
    tick: Callable[[str], None] | None = None,
) -> Report:
    """Draw the figures of a run into its ``figures/`` and write its ``report.html``; the same run gives the same bytes.

    A finished run directory is due: ``traces.zarr``, and whatever there is of ``tables/``, ``provenance.json``,
    ``spec.yaml``, ``findings.json`` and ``tokens/`` (see :func:`attnlens.plots.tokens.keep_tokens`). What is not there
    is said in the page, not made up.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = save(trace(items=4), folder / "traces.zarr")
    >>> write_report(folder, formats=[]).page.name
    'report.html'
    """
    source = Source.open(folder)
    if not source.whole:
        raise BadInput(
            f"{folder} is a store, and a report is of a run", fix="pass the run directory that holds the traces.zarr"
        )
    # A damaged file is refused before the minutes that figures of a large run take.
    _ = source.provenance, source.tables, source.tokens, source.spec
    drawn = draw_figures(source, source.folder / "figures", formats=formats, tick=tick)
    page = source.folder / "report.html"
    html = report_html(source, drawn)
    try:
        page.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        fix = "make room, or allow writing to the run directory"
        raise BadInput(f"the report could not be written: {error.strerror or error}", given=page, fix=fix) from error
    return Report(page, len(html.encode()), list(drawn.figures), drawn.skipped, list(source.tokens))


def report_html(source: Source, drawn: Drawn) -> str:
    """Return the page as text."""
    sections = {
        "Findings": _findings(source),
        "Figures": _figures(drawn),
        "Explorer": _explorer(source),
        "Tables": _tables(source),
        "Exposure": _ledger(source),
        "Provenance": _provenance(source),
    }
    there = {name: text for name, text in sections.items() if text}
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in there)
    body = "".join(
        f'<section id="{name.lower()}" aria-labelledby="h-{name.lower()}">'
        f'<h2 id="h-{name.lower()}">{name}</h2>{text}</section>'
        for name, text in there.items()
    )
    files = resources.files("attnlens.plots") / "page"
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    title = f"attnlens: {source.label}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><link rel="icon" href="data:,">'
        f"<style>{style}</style></head><body>"
        f"<header><h1>{escape(source.label)}</h1>{_head(source)}</header>"
        f'<nav aria-label="Sections">{links}<button type="button" id="theme" class="theme">light / dark</button></nav>'
        f"<main>{body}</main><script>{script}</script></body></html>\n"
    )


def _head(source: Source) -> str:
    traces = source.traces
    sizes = traces.sizes
    told = {name: escape(str(traces.attrs.get(name, "unknown"))) for name in ("model", "rows", "attention", "dtype")}
    done = traces.attrs.get("items_finished", sizes["item"])
    planned = traces.attrs.get("items_planned", sizes["item"])
    missing = "" if done == planned else f" <strong>{planned - done:,} planned items are not finished.</strong>"
    utterances = len(set(traces["utterance"].values.tolist()))
    return (
        f"<p>{told['model']}: {sizes['layer']} layers x {sizes['head']} heads, "
        f"{sizes['item']:,} items of {utterances:,} utterances.{missing}</p>"
        f"<p>Rows: {told['rows']}. Attention computed by {told['attention']}, in {told['dtype']}.</p>"
    )


def _findings(source: Source) -> str:
    listed = ""
    for one in findings_of(source):
        kind = escape(one.verdict.split()[0]) if one.verdict.strip() else ""
        listed += f'<li class="{kind}"><span class="verdict">{escape(one.verdict)}:</span> '
        listed += f"{escape(one.claim)}<small>{escape(one.evidence)}</small></li>"
    return f'<ul class="findings">{listed}</ul><p class="note">{escape(RULES)} {escape(CAUTION)}</p>'


def _figures(drawn: Drawn) -> str:
    about = {entry.name: entry.summary for entry in FIGURES.entries()}
    parts = [
        f"<h3>{escape(_opened(about.get(name, name)))}</h3>{figure_html(figure, name)}"
        for name, figure in drawn.figures.items()
    ]
    if drawn.skipped:
        reasons = "".join(f"<li><code>{escape(name)}</code>: {escape(why)}</li>" for name, why in drawn.skipped.items())
        parts.append(
            f"<details><summary>{len(drawn.skipped)} figures were not drawn</summary><ul>{reasons}</ul></details>"
        )
    return "".join(parts)


def _opened(said: str) -> str:
    return said[:1].upper() + said[1:]


def _tables(source: Source) -> str:
    shown = {name: table for name, table in source.tables.items() if name != LEDGER}
    return "".join(
        table_html(table, name) if len(table) else f"<p>The table {escape(name)} is empty.</p>"
        for name, table in shown.items()
    )


def _ledger(source: Source) -> str:
    if LEDGER not in source.tables:
        return ""
    return table_html(source.tables[LEDGER], "which component has seen target data, and how")


def _provenance(source: Source) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(str(name))}</th><td><bdi>{escape(_plain(value))}</bdi></td></tr>"
        for name, value in {
            **{str(key): value for key, value in source.traces.attrs.items()},
            **source.provenance,
        }.items()
    )
    spec = f"<h3>Spec</h3><pre>{escape(source.spec)}</pre>" if source.spec else ""
    return f'<div class="wide"><table><tbody>{rows}</tbody></table></div>{spec}'


def _plain(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _explorer(source: Source) -> str:
    if not source.tokens:
        return (
            "<p>No item of this run has token-level detail. "
            f"<code>attnlens report {escape(str(source.folder))} --tokens 4</code> adds it.</p>"
        )
    fields = (
        ("utterance", "utterance"),
        ("variant", "shown as"),
        ("measure", "measure"),
        ("layer", "layer"),
        ("head", "head"),
    )
    choosers = "".join(f'<label>{told}<select id="x-{name}"></select></label>' for name, told in fields)
    return (
        "<p>Choose an output token: how much it drew from every token and every moment of audio is shown as colour. "
        "Click into a waveform, or move in it with the arrow keys and press Enter, to hear that moment.</p>"
        f'<div class="chooser">{choosers}<label class="tick"><input type="checkbox" id="x-unsunk" checked>'
        "colours leave out the sink</label></div>"
        '<div class="outputs" id="x-tokens" role="group" aria-label="output tokens"></div>'
        '<p class="note">Reference: <bdi id="x-reference"></bdi></p>'
        '<div class="panes"><div id="x-prompt" aria-label="the prompt"></div>'
        '<div><table id="shares"><caption>what this token drew from each span</caption><thead><tr><th>span</th>'
        '<th class="n">tokens</th><th class="n">share</th><th></th></tr></thead><tbody></tbody></table></div></div>'
        '<p class="note" id="x-note"></p>'
        f'<script type="application/json" id="explorer-data">{embedded(explorer_data(source.tokens))}</script>'
    )
