"""What a model writes under each cut: character error rates beside those of the whole model, paired over utterances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput
from attnlens.evidence.asked import Cut
from attnlens.evidence.edges import Edge
from attnlens.evidence.effects import Ablations
from attnlens.evidence.notes import Notes, asked_of, noted
from attnlens.models.clips import reusing_clips

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.models.speechlm import SpeechLM

__all__ = ["cut_errors", "edges_everywhere"]


def edges_everywhere(table: Ablations) -> list[Edge]:
    """Return the edges that were cut at all layers."""
    return [one.asked.edge for one in table.effects if isinstance(one.asked, Cut) and one.layers == "all"]


def cut_errors(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    edges: Sequence[Edge],
    *,
    normaliser: str = "basic-unicode",
    notes: Notes | None = None,
) -> pd.DataFrame:
    """Transcribe prompts greedily, whole and with each edge cut at all layers; one row per edge, the whole model first.

    ``cer`` and its ``difference`` to the whole model are in per cent, with the ends of a 95 % bootstrap interval.
    Answers are kept in ``notes`` as they are written, where they are given.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> found = cut_errors(load("tiny:qwen3-asr"), [probe()], [Edge("output", "demo_text")])
    >>> found["edge"].tolist()
    ['none', 'output -> demo_text']
    """
    import pandas as pd

    from attnlens.asr.error_rate import count_errors
    from attnlens.stats.bootstrap import bootstrap

    texts = [one.target.text for one in prompts]
    name = asked_of(notes, lens, prompts, "transcribe")
    rows: list[dict[str, Any]] = []
    whole: Any = None
    for edge in (None, *edges):
        cut = nullcontext() if edge is None else lens.knockout(queries=edge.queries, keys=edge.keys)
        with reusing_clips(lens), cut:
            said = [
                noted(notes, f"{name}/{edge}/{place}", partial(_answer, lens, one)) for place, one in enumerate(prompts)
            ]
        found = count_errors(texts, said, unit="characters", normaliser=normaliser)
        errors, length = np.asarray(found.errors, dtype=np.float64), np.asarray(found.length, dtype=np.float64)
        whole = errors if whole is None else whole
        row = {"edge": str(edge or "none"), "cer": 100 * errors.sum() / length.sum(), "utterances": len(texts)}
        row |= {"difference": 100 * (errors - whole).sum() / length.sum(), "low": math.nan, "high": math.nan}
        if edge is not None:
            try:
                ends = bootstrap(errors, minus=whole, per=length)
                row |= {"low": 100 * float(ends.low), "high": 100 * float(ends.high)}
            except BadInput:
                pass  # too few utterances for an interval: the cells stay empty, and the count stands beside them
        rows.append(row)
    return pd.DataFrame(rows)


def _answer(lens: SpeechLM, prompt: Prompt) -> str:
    return lens.generate(prompt, max_new_tokens=2 * len(prompt.target.text) + 8).text
