"""Does a cheaper reference foretell fewer errors? Over the clean configurations of a run, which papers choose among."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.perplexity import foretells
from attnlens.errors import BadInput
from attnlens.run.tables import changed, count_edits
from attnlens.stats.findings import Finding
from attnlens.stats.judge import ALPHA
from attnlens.stats.rank import FEWEST_CELLS

__all__ = ["foretelling"]

NAME = "foretelling"
Numbers = NDArray[np.float64]


def foretelling(items: Sequence[Mapping[str, str]], *, normaliser: str) -> Finding | None:
    """Say whether the run's configurations rank alike by likelihood and by character errors.

    A configuration is a condition with so many demonstrations, without controls and interventions. Utterances that all
    of them have transcribed count, means over their seeds. None where there are fewer than five configurations.
    """
    cells = _cells(items, normaliser)
    shared = sorted(set.intersection(*(set(cell) for cell in cells.values()))) if cells else []
    if len(cells) < FEWEST_CELLS or not shared:
        return None
    values = {name: np.stack([np.mean(cell[one], axis=0) for one in shared]) for name, cell in cells.items()}
    nats, errors, tokens = ({name: table[:, column] for name, table in values.items()} for column in range(3))
    claim = f"Of {len(cells)} configurations, those under which references are likelier make fewer errors."
    statistic = "Spearman rho of likelihood and CER"
    try:
        found = foretells(nats, errors, tokens=tokens)
    except BadInput as error:
        return Finding(name=NAME, claim=claim, statistic=statistic, verdict="inconclusive", why=error.message)
    holds = found.rho > 0 and bool(found.interval.excludes()) and float(found.test.p) <= ALPHA
    return Finding(
        name=NAME,
        claim=claim,
        statistic=statistic,
        estimate=found.rho if np.isfinite(found.rho) else None,
        low=float(found.interval.low),
        high=float(found.interval.high),
        p=float(found.test.p),
        n=len(shared),
        verdict="supported" if holds else "inconclusive",
        why="configurations without controls",
    )


def _cells(items: Sequence[Mapping[str, str]], normaliser: str) -> dict[str, dict[str, list[Numbers]]]:
    """Return nats, character errors and tokens [3] of each utterance's items, by configuration and utterance."""
    clean = [row for row in items if row["status"] == "finished" and changed(row) == "none"]
    edits = count_edits(clean, unit="characters", normaliser=normaliser)
    found: dict[str, dict[str, list[Numbers]]] = {}
    for row in clean:
        if row["item"] in edits:
            cell = found.setdefault(f"{row['condition']} {row['shots_asked']}", {})
            numbers = np.array([float(row["nll"]), edits[row["item"]][0], float(row["n_output_tokens"])])
            cell.setdefault(f"{row['corpus']}/{row['utterance']}", []).append(numbers)
    return found
