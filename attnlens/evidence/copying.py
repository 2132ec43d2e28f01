"""Heads that copy: how much they look at what is written next, and at what followed the last time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.models.clips import reusing_clips
from attnlens.models.rows import rows_of

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["copy_scores", "matches"]

Flags = NDArray[np.bool_]


def matches(encoded: Encoded) -> tuple[Flags, Flags]:
    """Return which text tokens each row of the output would copy, and which would continue it [rows, positions].

    A row *copies* from tokens of the demonstrations' text that are the very token it should write next. It *continues*
    (induction) from tokens of the text that follow a token equal to the one it has just written.
    """
    rows = rows_of(encoded.spans, "output")
    text = np.zeros(len(encoded.ids), dtype=bool)
    text[encoded.spans.positions("demo_text")] = True
    ids = encoded.ids
    copy = text & (ids[None] == ids[rows + 1][:, None])
    after = np.zeros_like(copy)
    # The first row has written nothing yet; a text's first token follows none of its own.
    inside = text[1:] & text[:-1]
    after[1:, 1:] = inside & (ids[None, :-1] == ids[rows[1:]][:, None])
    return copy, after


def copy_scores(lens: SpeechLM, prompts: Sequence[Prompt]) -> dict[str, NDArray[np.float64]]:
    """Return ``copy`` and ``induction`` scores [items, layers, heads].

    Each is the mass on matching tokens of the demonstrations' text, less what the head would put there if it spread its
    mass on that text evenly: 0 is no preference for matches, up to 1 nothing but matches. Rows without any match are
    left out; an item without any has zeros.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> scores = copy_scores(load("tiny:qwen3-asr"), [probe()])
    >>> {name: one.shape for name, one in scores.items()}
    {'copy': (1, 3, 8), 'induction': (1, 3, 8)}
    """
    found: dict[str, list[NDArray[np.float64]]] = {"copy": [], "induction": []}
    with reusing_clips(lens):
        for prompt in prompts:
            encoded = lens.encode(prompt, prompt.target.text)
            for name, flags in zip(found, matches(encoded), strict=True):
                found[name].append(_excess(lens, encoded, flags))
    return {name: np.stack(parts) for name, parts in found.items()}


def _excess(lens: SpeechLM, encoded: Encoded, flags: Flags) -> NDArray[np.float64]:
    """Return the mean over rows of the mass on matches, less the even share of the text's mass [layers, heads]."""
    import torch

    from attnlens.capture.attention import capture
    from attnlens.capture.request import Request

    rows = rows_of(encoded.spans, "output")
    kept = flags.any(1)
    if not kept.any():
        return np.zeros((lens.n_layers, lens.n_heads))
    text = encoded.spans.positions("demo_text")
    # Keys are grouped by token, so that a row's matches are one group, whichever token it looks for.
    kinds, inverse = np.unique(_kinds(encoded, flags, text), return_inverse=True)
    groups = np.full(len(encoded.ids), -1, dtype=np.int64)
    groups[text] = inverse
    request = Request(
        groups=torch.as_tensor(groups, device=lens.device)[None],
        n_groups=len(kinds),
        rows=torch.as_tensor(rows[kept], device=lens.device),
    )
    with torch.no_grad(), capture(lens.sites, request) as record:
        lens.logits(lens.inputs(encoded), keep=1)
    mass = record.stacked("mass", "self")[:, 0].float().cpu().numpy().astype(np.float64)
    wanted = np.stack([np.bincount(inverse, weights=row, minlength=len(kinds)) > 0 for row in flags[kept][:, text]])
    share = flags[kept][:, text].mean(1)
    matched = (mass * wanted).sum(-1)
    return np.asarray((matched - mass.sum(-1) * share).mean(-1))


def _kinds(encoded: Encoded, flags: Flags, text: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the text's tokens such that every row's matches are whole kinds."""
    _, kinds = np.unique(flags[:, text], axis=1, return_inverse=True)
    return np.asarray(kinds).ravel()
