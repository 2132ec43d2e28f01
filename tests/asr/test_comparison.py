"""Comparisons equal what the statistics say of the counts, correct over languages, and do not cry wolf."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from attnlens.asr.comparison import Comparison, Systems, compare, compare_all
from attnlens.asr.segments import error_segments
from attnlens.errors import BadInput, UnknownName
from attnlens.stats.matched_pairs import matched_pairs
from attnlens.stats.permutation import sign_flip

QUICK: Any = {"resamples": 999, "draws": 999}


def heard(rng: np.random.Generator, references: list[str], rate: float) -> list[str]:
    return [" ".join("x" if rng.random() < rate else word for word in text.split()) for text in references]


def made(seed: int, *, rates: dict[str, float], utterances: int = 40, speakers: int = 10) -> Systems:
    rng = np.random.default_rng(seed)
    references = [" ".join(f"w{n}" for n in rng.integers(0, 99, rng.integers(4, 12))) for _ in range(utterances)]
    return Systems(
        language=f"l{seed}",
        ids=tuple(f"u{n}" for n in range(utterances)),
        references=tuple(references),
        transcripts={name: heard(rng, references, rate) for name, rate in rates.items()},
        clusters=[f"s{n % speakers}" for n in range(utterances)],
    )


def test_a_better_system_is_found_and_the_row_says_on_what() -> None:
    systems = made(0, rates={"acoustic": 0.5, "micl": 0.2})
    found = compare(systems, "micl", baseline="acoustic", **QUICK)
    assert found.system_rate < found.baseline_rate
    for interval in (found.difference, found.blocked):
        assert interval is not None
        assert interval.excludes(0.0)
        assert interval.estimate == pytest.approx(found.system_rate - found.baseline_rate, abs=1e-12)
    assert found.interval is found.blocked
    assert found.blocked is not None
    assert found.blocked.units == 10
    assert found.randomisation is not None
    assert found.randomisation.p < 0.05
    assert found.mapsswe is not None
    assert found.mapsswe.z < -3
    assert found.detectable is not None
    assert 0 < found.detectable.difference < 1
    assert (found.utterances, found.units) == (40, sum(len(one.split()) for one in systems.references))


def test_holm_counts_all_languages_and_systems() -> None:
    tests = [made(seed, rates={"acoustic": 0.4, "one": 0.35, "two": 0.25}) for seed in (1, 2, 3)]
    found = compare_all(tests, baseline="acoustic", **QUICK)
    assert [(one.language, one.system) for one in found] == [
        (f"l{n}", name) for n in (1, 2, 3) for name in ("one", "two")
    ]
    raw = [one.randomisation.p for one in found if one.randomisation is not None]
    np.testing.assert_allclose([one.p_holm or 0.0 for one in found], multipletests(raw, method="holm")[1])


def test_few_speakers_are_not_the_units() -> None:
    found = compare(made(8, rates={"a": 0.5, "b": 0.2}, speakers=4), "b", baseline="a", **QUICK)
    assert found.blocked is not None
    assert found.interval is found.difference
    assert found.randomisation is not None
    assert found.randomisation.units == 40
    assert "4 speakers or recordings are too few" in str(found)


def test_too_few_utterances_are_told_not_hidden() -> None:
    few = made(4, rates={"a": 0.4, "b": 0.3}, utterances=3, speakers=2)
    found = compare(few, "b", baseline="a", **QUICK)
    assert found.randomisation is None
    assert any(note.startswith("no randomisation") for note in found.notes)
    assert "no randomisation" in str(found)
    [row] = compare_all([few], baseline="a", **QUICK)
    assert row.p_holm is None


def test_equal_systems_differ_by_nothing() -> None:
    same = made(5, rates={"a": 0.3})
    same = replace(same, transcripts={**same.transcripts, "b": same.transcripts["a"]})
    found = compare(same, "b", baseline="a", **QUICK)
    assert found.randomisation is not None
    assert found.mapsswe is not None
    assert (found.randomisation.p, found.mapsswe.p) == (1.0, 1.0)
    assert found.difference is not None
    assert found.difference.width == 0


def test_refusals() -> None:
    systems = made(6, rates={"a": 0.3, "b": 0.3})
    with pytest.raises(UnknownName, match="system"):
        compare(systems, "c", baseline="a", **QUICK)
    short = replace(systems, transcripts={"a": ["x"], "b": systems.transcripts["b"]})
    with pytest.raises(BadInput, match="not the same utterances"):
        compare(short, "b", baseline="a", **QUICK)


def false_alarms(studies: int, *, utterances: int, seed: int) -> dict[str, float]:
    """Return how often each test finds a difference at 0.05 between systems of the same quality."""
    rng = np.random.default_rng(seed)
    hits = {"randomisation": 0, "mapsswe": 0}
    for study in range(studies):
        references = [" ".join(f"w{n}" for n in range(rng.integers(4, 12))) for _ in range(utterances)]
        # Utterances differ in how hard they are, alike for both systems.
        rates = rng.beta(2, 4, utterances)
        one, other = ([heard(rng, [text], rate)[0] for text, rate in zip(references, rates, strict=True)] for _ in "ab")
        segments = error_segments(references, one, other, buffer=2)
        errors = [
            np.bincount(segments.utterance, weights=side, minlength=utterances)
            for side in (segments.first, segments.second)
        ]
        hits["mapsswe"] += matched_pairs(segments.first, segments.second).p <= 0.05
        hits["randomisation"] += bool(sign_flip(errors[0], minus=errors[1], draws=199, seed=study).p <= 0.05)
    return {name: count / studies for name, count in hits.items()}


def test_no_more_false_alarms_than_promised() -> None:
    # 300 studies: 0.05 plus three standard errors is 0.088.
    for rate in false_alarms(300, utterances=30, seed=0).values():
        assert rate <= 0.088


@pytest.mark.slow
def test_false_alarms_are_nominal() -> None:
    found = false_alarms(4000, utterances=60, seed=1)
    for rate in found.values():
        assert rate == pytest.approx(0.05, abs=0.0135), found


def test_a_row_prints_as_a_sentence() -> None:
    row: Comparison = compare(made(7, rates={"a": 0.5, "b": 0.2}), "b", baseline="a", **QUICK)
    assert str(row).startswith("b less a, l7: -")
    assert "40 utterances" in str(row)
