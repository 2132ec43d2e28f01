"""From a prompt to a training example: ids, and at each position what comes next and how much that counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Ears, Encoded, FrontEnd, encode
from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES, Label, Source, SpanMap
from attnlens.errors import BadInput, UnknownName

__all__ = ["IGNORED", "Ends", "Example", "encode_example", "next_tokens"]

IGNORED = -100
"""The target of positions that are not trained, as torch's cross-entropy wants it."""
Ends = Literal["with-end", "without-end"]
"""Whether the token after a trained span counts too: a model must learn when to stop."""


@dataclass(frozen=True)
class Example:
    """An encoded prompt with its answer, and for each position the token it is trained to predict, int64 [n]."""

    encoded: Encoded
    targets: NDArray[np.int64]


def next_tokens(
    ids: NDArray[np.int64], spans: SpanMap, *, trained: Sequence[Source] = ("output",), ends: Ends = "with-end"
) -> NDArray[np.int64]:
    """Return what each position is trained to predict [n]: the next token where that lies in a chosen span.

    >>> spans = SpanMap.of([(Label("target", "audio"), 3), (Label("output"), 2), (Label("other"), 1)])
    >>> next_tokens(np.arange(10, 16), spans).tolist()
    [-100, -100, 13, 14, 15, -100]
    >>> next_tokens(np.arange(10, 16), spans, ends="without-end").tolist()
    [-100, -100, 13, 14, -100, -100]
    """
    for source in trained:
        if source not in SOURCES:
            raise UnknownName.among("source", source, SOURCES)
    if len(ids) != len(spans):
        raise BadInput("labels and tokens differ in number", given=len(spans), present=f"{len(ids)} tokens")
    read = np.zeros(len(ids) + 1, dtype=bool)
    for span in spans:
        if span.label.source in trained:
            read[span.start : span.stop + (ends == "with-end")] = True
    targets = np.full(len(ids), IGNORED, dtype=np.int64)
    predicting = np.flatnonzero(read[1 : len(ids)])
    targets[predicting] = ids[predicting + 1]
    return targets


def encode_example(
    prompt: Prompt,
    front: FrontEnd,
    *,
    end_token: int,
    trained: Sequence[Source] = ("output",),
    ends: Ends = "with-end",
    ears: Ears | None = None,
) -> Example:
    """Encode a prompt with its reference as the answer, followed by the token that ends answers.

    Parameters
    ----------
    end_token
        What a model writes when it is done; labelled ``other``.
    trained
        Sources whose tokens are predicted. ``demo_text`` with ``output`` trains on every transcript of the prompt.
    ears
        Where features come from; None decodes and extracts.
    """
    bare = encode(prompt, front, output=prompt.target.text, ears=ears)
    ids = np.append(bare.ids, end_token)
    spans = bare.spans.extended(Label("other"), 1)
    encoded = Encoded(prompt, ids, spans, bare.features)
    return Example(encoded, next_tokens(ids, spans, trained=trained, ends=ends))
