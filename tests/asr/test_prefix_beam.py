from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.asr import prefix_beam
from attnlens.asr.beam_lm import Follower
from attnlens.asr.ctc_score import sequence_scores
from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.nbest import Hypothesis
from attnlens.asr.prefix_beam import beam_search
from attnlens.asr.vocabulary import Vocabulary, tidy
from attnlens.errors import BadInput

WIDE = 1000
LETTERS = Vocabulary(("", "a", "b"), blank=0)
WORDS = Vocabulary(("", "a", " ", "b"), blank=0)
PIECES = Vocabulary((" ab", "b", "", "a", ""), blank=2)


def frames(count: int, width: int, *, seed: int, peak: float = 2.0) -> NDArray[np.float64]:
    logits = np.random.default_rng(seed).normal(0, peak, (count, width))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def collapsed(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(number for number, _ in itertools.groupby(path) if number != blank)


def brute_force(heard: NDArray[np.float64], vocabulary: Vocabulary) -> dict[str, float]:
    """Every text's log-probability: all paths, one by one."""
    found: dict[str, float] = {}
    for path in itertools.product(range(len(vocabulary)), repeat=len(heard)):
        said = collapsed(path, vocabulary.blank)
        if any(not vocabulary.pieces[number] for number in said):
            continue
        text = tidy("".join(vocabulary.pieces[number] for number in said))
        score = float(sum(heard[place, number] for place, number in enumerate(path)))
        found[text] = float(np.logaddexp(found.get(text, -math.inf), score))
    return found


def same(found: tuple[Hypothesis, ...], wanted: list[tuple[str, float]]) -> None:
    assert [one.text for one in found] == [text for text, _ in wanted[: len(found)]]
    np.testing.assert_allclose([one.acoustic for one in found], [score for _, score in wanted[: len(found)]], atol=1e-9)


@pytest.mark.parametrize("vocabulary", [LETTERS, WORDS, PIECES])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_every_text_with_the_sum_over_its_alignments(vocabulary: Vocabulary, seed: int) -> None:
    heard = frames(5, len(vocabulary), seed=seed)
    wanted = sorted(brute_force(heard, vocabulary).items(), key=lambda one: -one[1])
    found = beam_search(heard, vocabulary, n=WIDE, beam=WIDE)
    assert len(found) == len(wanted)
    same(found, wanted)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 6), peak=st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_any_frames(seed: int, count: int, peak: float) -> None:
    heard = frames(count, 3, seed=seed, peak=peak)
    wanted = sorted(brute_force(heard, LETTERS).items(), key=lambda one: -one[1])
    same(beam_search(heard, LETTERS, n=WIDE, beam=WIDE)[:5], wanted)


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("vocabulary", [WORDS, PIECES])
@pytest.mark.parametrize("seed", range(3))
def test_joint_decoding_ranks_by_both_scores_and_keeps_them_apart(unit: Any, vocabulary: Vocabulary, seed: int) -> None:
    heard, weight, bonus = frames(5, len(vocabulary), seed=seed), 0.7, 0.4
    lm = train_ngram(["a b", "ab a", "b ab", "a", "b"], order=2, unit=unit)
    wanted = []
    for text, acoustic in brute_force(heard, vocabulary).items():
        score = lm.score([text])[0]
        wanted.append((text, acoustic, score.total, acoustic + weight * score.total + bonus * score.tokens))
    wanted.sort(key=lambda one: -one[3])
    found = beam_search(heard, vocabulary, n=WIDE, beam=WIDE, lm=lm, lm_weight=weight, unit_bonus=bonus)
    assert [one.text for one in found] == [one[0] for one in wanted]
    np.testing.assert_allclose([one.acoustic for one in found], [one[1] for one in wanted], atol=1e-9)
    np.testing.assert_allclose([one.lm for one in found], [one[2] for one in wanted], atol=1e-9)


def test_a_letter_with_its_mark_is_one_symbol_of_a_character_model() -> None:
    vocabulary = Vocabulary(("", "g", "\u0303", "a"), blank=0)
    lm = train_ngram(["g\u0303a", "ag\u0303"], order=2, unit="characters")
    for one in beam_search(frames(5, 4, seed=1), vocabulary, n=50, beam=WIDE, lm=lm):
        assert one.lm == pytest.approx(lm.score([one.text])[0].total, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_asking_the_model_only_where_it_may_matter_loses_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = frames(12, 4, seed=seed)
    lm = train_ngram(["ab a", "b ba", "a b"], order=3, unit="characters")

    def search() -> tuple[Hypothesis, ...]:
        return beam_search(heard, WORDS, n=4, beam=4, lm=lm, lm_weight=1.0, unit_bonus=0.5)

    lazy = search()

    def eager(self: Any, stay: NDArray[np.float64], grown: NDArray[np.float64]) -> Any:
        places = np.flatnonzero(grown.ravel() > -np.inf)
        exact = np.array([self._steered(*divmod(place, grown.shape[1]), grown) for place in places.tolist()])
        top = prefix_beam._top(np.concatenate([stay, exact]), self.beam)
        return top[top < len(stay)], places[top[top >= len(stay)] - len(stay)]

    monkeypatch.setattr(prefix_beam._Search, "_chosen", eager)
    assert search() == lazy


def test_exact_scores_agree_with_torch() -> None:
    heard = frames(30, 6, seed=0)
    sequences = [[1, 2, 3], [4, 4, 5], [1], [], [2, 1, 2, 1, 5, 5]]
    wanted = [
        -float(
            torch.nn.functional.ctc_loss(
                torch.as_tensor(heard)[:, None],
                torch.tensor([one], dtype=torch.long),
                torch.tensor([30]),
                torch.tensor([len(one)]),
                blank=0,
                reduction="sum",
            )
        )
        for one in sequences
        if one
    ]
    found = sequence_scores(heard, sequences, blank=0)
    np.testing.assert_allclose(found[[0, 1, 2, 4]], wanted, atol=1e-9)
    assert found[3] == pytest.approx(heard[:, 0].sum())


def test_prefixes_that_left_the_beam_and_came_back_are_merged() -> None:
    heard = frames(60, 5, seed=7, peak=0.6)
    found = beam_search(heard, Vocabulary(("", "a", "b", "c", "d"), blank=0), n=5, beam=5)
    assert len({one.text for one in found}) == 5
    assert [one.acoustic for one in found] == sorted((one.acoustic for one in found), reverse=True)


def test_no_frames_say_nothing_for_certain() -> None:
    assert beam_search(np.zeros((0, 3)), LETTERS) == (Hypothesis("", 0.0),)


def test_impossible_frames_leave_no_hypothesis() -> None:
    assert beam_search(np.full((2, 3), -np.inf), LETTERS) == ()


def test_equal_scores_keep_one_order() -> None:
    heard = np.log(np.full((4, 3), 1 / 3))
    assert beam_search(heard, LETTERS, n=3, beam=3) == beam_search(heard, LETTERS, n=3, beam=3)


def test_what_a_language_model_calls_impossible_is_not_found() -> None:
    class Never:
        unit, start = "characters", ()

        def step(self, state: Any, symbol: str) -> tuple[float, Any]:
            return (-math.inf if symbol == "b" else -1.0), ()

        def finish(self, state: Any) -> float:
            return 0.0

    heard = frames(4, 3, seed=0)
    never: Any = Never()
    assert not any("b" in one.text for one in beam_search(heard, LETTERS, n=WIDE, beam=WIDE, lm=never))
    unasked = beam_search(heard, LETTERS, n=WIDE, beam=WIDE, lm=never, lm_weight=0.0)
    assert {one.text: one.lm for one in unasked}["ab"] == -math.inf


@pytest.mark.parametrize("score", [math.nan, 0.5])
def test_what_is_no_log_probability_is_refused(score: float) -> None:
    class Bad:
        unit, start = "characters", ()

        def step(self, state: Any, symbol: str) -> tuple[float, Any]:
            return score, ()

        def finish(self, state: Any) -> float:
            return 0.0

    bad: Any = Bad()
    with pytest.raises(BadInput, match="no log-probability"):
        beam_search(frames(3, 3, seed=0), LETTERS, lm=bad)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "out of range"),
        ({"n": 5, "beam": 3}, "narrower"),
        ({"frames": np.zeros((2, 4))}, "no frames of"),
        ({"frames": np.full((2, 3), np.nan)}, "no log-probabilities"),
        ({"frames": np.full((2, 3), 2.0)}, "no log-probabilities"),
        ({"lm": train_ngram(["a b"], order=2, unit="words"), "lm_weight": -1.0}, "negative"),
    ],
)
def test_bad_input(options: dict[str, Any], match: str) -> None:
    options = dict(options)
    heard = options.pop("frames", frames(2, 3, seed=0))
    with pytest.raises(BadInput, match=match):
        beam_search(heard, LETTERS, **options)


def test_spaces_score_once_and_never_at_the_ends() -> None:
    lm = train_ngram(["a b", "b a"], order=3, unit="characters")
    follower = Follower(lm, [" ", "a", "b"])
    score, units = follower.end(follower.add(follower.start, "  a   b "))
    assert score == pytest.approx(lm.score(["a b"])[0].total, abs=1e-12)
    assert units == 3
