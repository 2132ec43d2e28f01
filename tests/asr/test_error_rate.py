"""Counts equal a naive alignment, rates their definitions; what has no rate is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.asr.error_rate import count_errors, edit_distance
from attnlens.errors import BadInput, UnknownName

TEXTS = st.lists(st.sampled_from(["ka", "to", "mi"]), max_size=6)


def naive(one: list[str] | str, other: list[str] | str) -> int:
    rows = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        before, rows[0] = rows[0], i
        for j, b in enumerate(other, start=1):
            before, rows[j] = rows[j], min(rows[j] + 1, rows[j - 1] + 1, before + (a != b))
    return rows[-1]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_counts_are_the_least_and_add_up(pairs: list[tuple[list[str], list[str]]]) -> None:
    counts = count_errors([" ".join(one) for one, _ in pairs], [" ".join(other) for _, other in pairs])
    assert counts.errors.tolist() == [naive(one, other) for one, other in pairs]
    assert counts.length.tolist() == [len(one) for one, _ in pairs]
    grown = [len(other) - len(one) for one, other in pairs]
    assert (counts.insertions - counts.deletions).tolist() == grown


@settings(derandomize=True, max_examples=50, deadline=None)
@given(one=st.text(alphabet="ab ", max_size=7), other=st.text(alphabet="ab ", max_size=7))
def test_distance_of_texts(one: str, other: str) -> None:
    assert edit_distance(one, other) == naive(one, other)


def test_corpus_rate_is_no_mean_of_rates() -> None:
    counts = count_errors(["a b c d e f g h i j", "k"], ["a b c d e f g h i j", "x y z"])
    assert counts.rate == pytest.approx(3 / 11)
    assert counts.capped_utterance_rate == pytest.approx(0.5)


def test_empty_references_are_told_apart_from_empty_hypotheses() -> None:
    counts = count_errors(["", "", "ka to"], ["", "mi su", ""])
    assert counts.length.tolist() == [0, 0, 2]
    assert counts.insertions.tolist() == [0, 2, 0]
    assert counts.deletions.tolist() == [0, 0, 2]
    assert counts.rate == 2.0
    assert counts.capped_utterance_rate == pytest.approx(2 / 3)
    assert "2 references are empty" in str(counts)
    with pytest.raises(BadInput, match="nothing was said"):
        _ = count_errors([""], ["ka"]).rate
    with pytest.raises(BadInput, match="no utterances"):
        _ = count_errors([], []).capped_utterance_rate


def test_characters_are_readers_characters() -> None:
    assert count_errors(["n\u0303u ka"], ["ñu ka"], unit="characters", normaliser="none").errors.tolist() == [0]
    assert count_errors(["ที่ นี่"], ["ที่นี่"], unit="characters").errors.tolist() == [0]
    assert count_errors(["ka to"], ["kato"], unit="characters").errors.tolist() == [1]


def test_both_sides_are_normalised() -> None:
    assert count_errors(["Ka, to!"], ["ka to"]).rate == 0
    assert count_errors(["Ka, to!"], ["ka to"], normaliser="none").rate == 1


def test_agrees_with_jiwer_over_a_corpus() -> None:
    import jiwer

    rng = np.random.default_rng(0)
    said, heard = ([" ".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(40)] for _ in range(2))
    assert count_errors(said, heard).rate == pytest.approx(jiwer.wer(said, heard), abs=1e-12)
    assert count_errors(said, heard, unit="characters").rate == pytest.approx(jiwer.cer(said, heard), abs=1e-12)


def test_refusals() -> None:
    with pytest.raises(BadInput, match="not the same utterances"):
        count_errors(["a", "b"], ["a"])
    with pytest.raises(BadInput, match="lists of texts"):
        count_errors("a", ["a"])
    with pytest.raises(BadInput, match="stands twice"):
        count_errors(["a", "b"], ["a", "b"], ids=["u", "u"])
    with pytest.raises(UnknownName, match="unit"):
        count_errors(["a"], ["a"], unit="letters")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="normaliser"):
        count_errors(["a"], ["a"], normaliser="nonee")
