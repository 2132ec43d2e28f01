"""Segments keep every error, part where both systems are right for long enough, and z is the published one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.weightstats import ztest

from attnlens.asr.error_rate import count_errors
from attnlens.asr.segments import error_segments
from attnlens.errors import BadInput
from attnlens.stats.matched_pairs import matched_pairs

QUICK = settings(derandomize=True, max_examples=80, deadline=None)
WORDS = st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join)


@QUICK
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=4))
def test_no_error_is_lost(texts: list[tuple[str, str, str]]) -> None:
    references, first, second = (list(column) for column in zip(*texts, strict=True))
    cut = error_segments(references, first, second)
    for errors, hypotheses in ((cut.first, first), (cut.second, second)):
        per_utterance = np.bincount(cut.utterance, weights=errors, minlength=len(references))
        assert per_utterance.tolist() == count_errors(references, hypotheses).errors.tolist()
    assert ((cut.first > 0) | (cut.second > 0)).all()


@QUICK
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(1, 3))
def test_segments_of_substitutions_equal_their_definition(wrong: list[tuple[bool, bool]], buffer: int) -> None:
    # Every word is another one, so that a substitution is aligned in its place and nowhere else.
    reference = [f"w{place}" for place in range(len(wrong))]
    first, second = (
        [f"x{place}" if bad[system] else reference[place] for place, bad in enumerate(wrong)] for system in (0, 1)
    )
    expected: list[list[int]] = []
    last = None
    for place, bad in enumerate(wrong):
        if any(bad):
            if last is None or place - last - 1 >= buffer:
                expected.append([0, 0])
            expected[-1][0] += bad[0]
            expected[-1][1] += bad[1]
            last = place
    cut = error_segments([" ".join(reference)], [" ".join(first)], [" ".join(second)], buffer=buffer)
    assert np.stack([cut.first, cut.second], axis=1).tolist() == expected


def test_an_insertion_is_an_error_of_its_place() -> None:
    cut = error_segments(["a b c d e"], ["a b x c d e"], ["a b c d e y"])
    assert (cut.first.tolist(), cut.second.tolist()) == ([1, 0], [0, 1])
    empty = error_segments(["", "a"], ["x y", "a"], ["", "a"])
    assert (empty.first.tolist(), empty.second.tolist(), empty.utterance.tolist()) == ([2], [0], [0])


@pytest.mark.parametrize("size", [2, 9, 200])
def test_z_and_p_equal_statsmodels(size: int) -> None:
    rng = np.random.default_rng(size)
    one, other = rng.poisson(2.0, size), rng.poisson(1.5, size)
    found = matched_pairs(one, other)
    z, p = ztest(one - other)
    assert found.z == pytest.approx(z, abs=1e-9)
    assert found.p == pytest.approx(p, abs=1e-9)


def test_what_has_no_spread_is_told() -> None:
    assert (matched_pairs([], []).p, matched_pairs([3], [1]).p) == (1.0, 1.0)
    same = matched_pairs([1, 2, 3], [1, 2, 3])
    assert (same.z, same.p) == (0.0, 1.0)
    assert "no segment differs" in str(same)
    shifted = matched_pairs([1, 2, 3], [0, 1, 2])
    assert (shifted.z, shifted.p) == (np.inf, 0.0)
    with pytest.raises(BadInput, match="not paired"):
        matched_pairs([1, 2], [1])
    with pytest.raises(BadInput, match="counts"):
        matched_pairs([np.nan, 2], [1, 1])


def test_refusals() -> None:
    with pytest.raises(BadInput, match="buffer=0"):
        error_segments(["a"], ["a"], ["a"], buffer=0)
    with pytest.raises(BadInput, match="other utterances"):
        error_segments(["a"], ["a"], [])
