"""Whether likelihood foretells errors, asked of a run's own configurations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from attnlens.run.foretold import foretelling

CELLS = (("asr", 0), ("icl", 1), ("icl", 4), ("micl", 1), ("micl", 4), ("micl", 8))


def lines(*, turned: int = 1) -> list[dict[str, str]]:
    """Items of six configurations, each with more of the reference right than the one before, in two seeds."""
    rng, rows = np.random.default_rng(0), []
    for level, (condition, shots) in enumerate(CELLS):
        for place in range(8):
            for seed in range(2):
                wrong = rng.random(10) < 0.8 - 0.12 * level
                cost = 20 - 2.5 * level * turned + rng.random()
                rows.append(
                    {
                        "item": f"{condition}{shots}-{place}-{seed}",
                        "corpus": "one" if place < 4 else "two",
                        "utterance": f"u{place}",
                        "condition": condition,
                        "shots_asked": str(shots),
                        "control": "none",
                        "status": "finished",
                        "transcribed": "yes",
                        "reference": "katomisule",
                        "transcription": "".join(
                            "x" if bad else one for bad, one in zip(wrong, "katomisule", strict=True)
                        ),
                        "nll": str(cost),
                        "n_output_tokens": "10",
                    }
                )
    return rows


def test_the_correlation_is_that_of_the_cells_sums() -> None:
    rows = lines()
    found = foretelling(rows, normaliser="none")
    assert found is not None
    nats = [sum(float(row["nll"]) for row in rows if row["item"].startswith(f"{c}{k}-")) for c, k in CELLS]
    wrong = [
        sum(row["transcription"].count("x") for row in rows if row["item"].startswith(f"{c}{k}-")) for c, k in CELLS
    ]
    assert found.estimate == pytest.approx(spearmanr(nats, wrong).statistic, abs=1e-12)
    assert (found.verdict, found.n) == ("supported", 8)


def test_the_opposite_is_not_supported() -> None:
    found = foretelling(lines(turned=-1), normaliser="none")
    assert found is not None
    assert found.verdict == "inconclusive"
    assert found.estimate is not None
    assert found.estimate < 0


def test_controls_interventions_and_what_failed_stay_out() -> None:
    rows = lines()
    for row, change in zip(
        [dict(row) for row in rows[:3]],
        ({"control": "word-shuffle"}, {"intervention": "cut"}, {"status": "failed"}),
        strict=True,
    ):
        rows.append({**row, **change, "nll": "1e9"})
    assert foretelling(rows, normaliser="none") == foretelling(lines(), normaliser="none")


def test_few_configurations_say_nothing_and_several_tokenizers_say_so() -> None:
    rows = lines()
    assert foretelling([row for row in rows if row["condition"] == "micl"], normaliser="none") is None
    assert foretelling([], normaliser="none") is None
    rows[0]["n_output_tokens"] = "9"
    found = foretelling(rows, normaliser="none")
    assert found is not None
    assert (found.verdict, found.estimate) == ("inconclusive", None)
    assert "several tokenizers" in found.why
