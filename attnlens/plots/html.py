"""Pieces of the report page: everything that comes from data is escaped here."""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.plots.style import AUDIO, CONDITION_COLOURS, CYCLE, INK, RULE

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.plots.drawing import Drawing

__all__ = ["embedded", "figure_html", "shown_number", "table_html"]

OWN = {INK: "ink", RULE: "rule", AUDIO: "audio", CYCLE[0]: "line", CONDITION_COLOURS["micl"]: "micl"}
"""Colours that a dark page shows lighter, by the name of its own."""
MOST_ROWS = 2_000
AT_ONCE = 30
"""Rows beyond which a table is folded up until somebody asks for it, or prints the page."""
LONG = 40
"""Characters beyond which a text may be broken into lines."""


def embedded(value: Any) -> str:
    """Return JSON that may stand in a script element, whatever its texts hold.

    >>> "<" in embedded({"text": "</script>"})
    False
    """
    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return said.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def figure_html(drawing: Drawing, name: str) -> str:
    """Return a drawing as inline SVG in the page's own colours, with its caption and its data to download."""
    import base64

    csv = base64.b64encode(drawing.data.to_csv(index=False).encode()).decode()
    link = f'<a download="{escape(name)}.csv" href="data:text/csv;base64,{csv}">data</a>'
    return (
        f'<figure id="figure-{escape(name)}"><div>{inlined(drawing.svg(), name, drawing.caption)}</div>'
        f"<figcaption>{escape(drawing.caption)} {link}</figcaption></figure>"
    )


def inlined(svg: str, name: str, caption: str) -> str:
    """Make a stand-alone SVG part of a page: its own ids, the page's ink, a width that follows the page."""
    svg = svg[svg.index("<svg") :]
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))  # type: ignore[union-attr]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    mine = re.sub(r"\W", "-", name)
    svg = re.sub(r'\bid="', f'id="{mine}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{mine}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for fixed, own in OWN.items():
        svg = svg.replace(fixed, f"var(--{own})")
    svg = svg.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    said = f'<svg role="img" aria-label="{escape(caption)}" style="max-width:{width * 1.6:.0f}px"'
    return svg.replace("<svg", said, 1)


def table_html(table: pd.DataFrame, name: str) -> str:
    """Return a table whose columns sort, folded up where long; numbers to four digits, all of theirs on hovering."""
    numeric = {column: table[column].dtype.kind in "iuf" for column in table.columns}
    heads = "".join(
        f'<th scope="col"{" class=n" if numeric[column] else ""}>'
        f'<button type="button">{escape(str(column))}</button></th>'
        for column in table.columns
    )
    rows = "".join(
        "<tr>"
        + "".join(_cell(value, numeric=numeric[column]) for column, value in zip(table.columns, row, strict=True))
        + "</tr>"
        for row in table.head(MOST_ROWS).itertuples(index=False, name=None)
    )
    more = f"the first {MOST_ROWS:,} of {len(table):,} rows" if len(table) > MOST_ROWS else f"{len(table):,} rows"
    opened = " open" if len(table) <= AT_ONCE else ""
    return (
        f"<details{opened}><summary>{escape(name)} <small>{more}</small></summary>"
        f'<div class="wide"><table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</details>"
    )


def shown_number(value: float) -> str:
    """Write a number as a person reads it.

    >>> shown_number(0.123456), shown_number(12.0), shown_number(float("nan"))
    ('0.1235', '12', '')
    """
    if not np.isfinite(value):
        return "" if np.isnan(value) else str(value)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e12 else f"{value:.4g}"  # noqa: PLR2004


def _cell(value: Any, *, numeric: bool) -> str:
    if numeric:
        number = float(value)
        told = "" if np.isnan(number) else repr(number)
        return f'<td class="n" data-v="{told}" title="{told}">{shown_number(number)}</td>'
    said = "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
    kind = ' class="long"' if len(said) > LONG else ""
    return f"<td{kind}><bdi>{escape(said)}</bdi></td>"
