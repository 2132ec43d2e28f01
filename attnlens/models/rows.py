"""Which rows of attention a query span means: the positions that predict its tokens, or those that read them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.spans import Source, SpanMap
from attnlens.errors import BadInput, UnknownName

__all__ = ["PREDICTED", "RowConvention", "rows_of"]

RowConvention = Literal["predicting", "reading"]
PREDICTED: frozenset[Source] = frozenset({"output", "demo_text", "demo_label"})
"""Text that is predicted token by token; audio and the frame of a prompt are only read."""


def rows_of(spans: SpanMap, source: Source, *, rows: RowConvention = "predicting") -> NDArray[np.int64]:
    """Return the query positions of a named span, [rows].

    ``predicting`` moves text one position to the left, onto the logits that predict it; ``reading`` is the paper's
    convention. Spans that nothing predicts are taken at their own positions either way.

    >>> from attnlens.context.spans import Label
    >>> spans = SpanMap.of([(Label("target", "audio"), 4), (Label("task"), 2), (Label("output"), 3)])
    >>> rows_of(spans, "output"), rows_of(spans, "output", rows="reading")
    (array([5, 6, 7]), array([6, 7, 8]))
    """
    if rows not in ("predicting", "reading"):
        raise UnknownName.among("row convention", rows, ["predicting", "reading"])
    positions = spans.positions(source)
    if not len(positions):
        raise BadInput(
            f"the prompt has no {source!r}, so it has no rows",
            present=", ".join(sorted({span.label.source for span in spans})),
            fix="pass output= to append an answer" if source == "output" else "leave this query span out",
        )
    return positions - 1 if rows == "predicting" and source in PREDICTED else positions
