"""Rules equal their formulas, edge cases have one answer each, weights never see what they judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.asr.baselines import acoustic_best, oracle, random_pick, size_curve
from attnlens.asr.candidates import Candidates, score_candidates
from attnlens.asr.error_rate import count_errors
from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.language_model import TextScore
from attnlens.asr.nbest import Hypothesis, NBest
from attnlens.asr.selection import RULES, choose, make_rule, select
from attnlens.asr.tuning import Interpolated, Weights, held_out_errors, list_errors, tune
from attnlens.errors import BadInput, UnknownName

QUICK = settings(derandomize=True, max_examples=60, deadline=None)
LOGPROB = st.one_of(st.floats(-30, 0), st.sampled_from([-1.0, -2.0, -math.inf]))
HYPOTHESIS = st.tuples(LOGPROB, st.lists(st.floats(-12, 0), max_size=4), LOGPROB)
UNTUNED = sorted(set(RULES) - {"interpolated"})


def candidates(rows: list[tuple[float, list[float], float]], name: str = "u") -> Candidates:
    scores = tuple(TextScore(np.array(tokens, dtype=np.float64), end) for _, tokens, end in rows)
    return Candidates(name, tuple(f"t{n}" for n in range(len(rows))), np.array([row[0] for row in rows]), scores)


@QUICK
@given(rows=st.lists(HYPOTHESIS, max_size=6), name=st.sampled_from(UNTUNED))
def test_every_rule_answers_every_list_without_nan(rows: list[tuple[float, list[float], float]], name: str) -> None:
    one = candidates(rows)
    choice = choose(one, make_rule(name))
    assert not np.isnan(choice.scores).any()
    if not rows:
        assert (choice.place, choice.text) == (None, "")
        return
    assert choice.place == int(np.argmax(choice.scores))
    assert choice.text == one.texts[choice.place]
    shuffled = Candidates("u", one.texts[::-1], one.acoustic[::-1], one.scores[::-1])
    np.testing.assert_allclose(choose(shuffled, make_rule(name)).scores[::-1], choice.scores, atol=1e-9)


def test_formulas() -> None:
    one = candidates([(-10.0, [-1.0, -2.0], -0.5), (-12.0, [-0.5], -0.25), (-11.0, [-3.0, -1.0, -1.0], -1.0)])
    expected = {
        "sum-logprob": [-13.5, -12.75, -17.0],
        "per-token": [-13.5 / 3, -12.75 / 2, -17.0 / 4],
        "lm-only": [-3.5, -0.75, -6.0],
        "paper-text": [-13.0, -12.5, -16.0],
    }
    for name, scores in expected.items():
        np.testing.assert_allclose(choose(one, make_rule(name)).scores, scores, atol=1e-12)
    acoustic, lm = np.array([-10.0, -12.0, -11.0]), np.array([-3.5, -0.75, -6.0])
    z = (acoustic - acoustic.mean()) / acoustic.std() + (lm - lm.mean()) / lm.std()
    np.testing.assert_allclose(choose(one, make_rule("z-score")).scores, z, atol=1e-12)
    rule = make_rule("interpolated", weights=Weights(lm=0.5, bonus=0.1))
    np.testing.assert_allclose(choose(one, rule).scores, acoustic + 0.5 * lm + 0.1 * np.array([2, 1, 3]), atol=1e-12)


def test_the_released_code_by_hand() -> None:
    # First tokens unscored: nats per token 2, 1, 3. Perplexities e^2, e, e^3 stretched the other way round.
    one = candidates([(-4.0, [-9.0, -2.0], 0.0), (-8.0, [-9.0, -1.0], 0.0), (-6.0, [0.0, -3.0], -9.0)])
    ppl = np.exp([2.0, 1.0, 3.0])
    expected = np.array([1.0, 0.0, 0.5]) + (ppl.max() - ppl) / (ppl.max() - ppl.min())
    np.testing.assert_allclose(choose(one, make_rule("paper-code")).scores, expected, atol=1e-12)
    equal = candidates([(-4.0, [0.0, -2.0], 0.0)] * 2)
    assert choose(equal, make_rule("paper-code")).scores.tolist() == [2.0, 2.0]
    signs = candidates([(4.0, [0.0, -2.0], 0.0), (-4.0, [0.0, -1.0], 0.0)])
    assert choose(signs, make_rule("paper-code")).scores.tolist() == [0.0, 1.0]
    short = candidates([(-4.0, [0.0], 0.0), (-4.0, [0.0, -1.0], 0.0), (-4.0, [0.0, -2.0], 0.0)])
    assert choose(short, make_rule("paper-code")).scores.tolist() == [1.0, 2.0, 1.0]


def test_edge_cases_have_one_answer_each() -> None:
    single = candidates([(-math.inf, [-1.0], 0.0)])
    both = candidates([(-math.inf, [-1.0], 0.0), (-3.0, [-9.0], 0.0)])
    never = candidates([(-math.inf, [-1.0], 0.0), (-math.inf, [-2.0], 0.0)])
    tie = candidates([(-1.0, [-1.0, -2.0], 0.0)] * 3)
    for name in UNTUNED:
        assert choose(single, make_rule(name)).place == 0
        assert choose(tie, make_rule(name)).place == 0
        assert choose(tie, make_rule(name)).tied == 2
        if name not in ("lm-only", "paper-code"):
            assert choose(both, make_rule(name)).place == 1
            assert choose(never, make_rule(name)).tied == 1


def test_rules_that_give_nonsense_are_refused() -> None:
    one = candidates([(-1.0, [-1.0], 0.0)] * 2)
    for nonsense in ([np.nan, 0.0], [0.0], [np.inf, 0.0]):
        with pytest.raises(BadInput, match="other than one score"):
            choose(one, lambda _one, scores=nonsense: np.array(scores))
    with pytest.raises(UnknownName, match="selection rule"):
        select([one], "sum")
    with pytest.raises(UnknownName, match="takes none"):
        select([one], "sum-logprob", weights=Weights(lm=1.0))
    with pytest.raises(BadInput, match="differ in number"):
        Candidates("u", ("a",), np.zeros(1), ())
    with pytest.raises(BadInput, match="no log-probability"):
        Candidates("u", ("a",), np.array([np.nan]), (TextScore(np.zeros(0), 0.0),))


def noisy(seed: int, utterances: int = 30) -> tuple[list[Candidates], list[str]]:
    """Return lists whose LM knows more than the acoustic model: only a large weight finds the right text."""
    rng = np.random.default_rng(seed)
    lists, references = [], []
    for number in range(utterances):
        right = int(rng.integers(5))
        acoustic = rng.normal(-20.0, 1.0, 5)
        lm = rng.normal(-20.0, 2.0, 5)
        lm[right] += 6.0
        scores = tuple(TextScore(np.array([-19.0, min(0.0, value + 19.0)]), 0.0) for value in lm)
        texts = tuple(f"a b c{n}" for n in range(5))
        lists.append(Candidates(f"s{seed}-{number}", texts, acoustic, scores))
        references.append(texts[right])
    return lists, references


def test_weights_are_the_best_of_the_grid_and_help_elsewhere() -> None:
    dev, said = noisy(0)
    found = tune(dev, said)
    errors = list_errors(dev, said)
    for lm in (0.0, 0.3, 1.0, 5.0):
        rule = Interpolated(Weights(lm=lm))
        wrong = sum(int(e[choose(one, rule).place or 0]) for one, e in zip(dev, errors, strict=True))
        assert found.errors is not None
        assert found.errors <= wrong
    assert found.tuned_on == {one.utterance_id for one in dev}
    test, references = noisy(1)
    chosen = [choice.text for choice in select(test, "interpolated", weights=found)]
    assert count_errors(references, chosen).rate < count_errors(references, acoustic_best(test)).rate


def test_weights_are_refused_on_what_they_were_tuned_on() -> None:
    dev, said = noisy(0, utterances=4)
    weights = tune(dev, said)
    with pytest.raises(BadInput, match="tuned on what they are now applied to"):
        select(dev, "interpolated", weights=weights)
    assert len(select(dev, "interpolated", weights=weights, on_tuned="tagged")) == 4
    with pytest.raises(BadInput, match="all empty"):
        tune([candidates([])], ["a"])
    with pytest.raises(BadInput, match="its reference"):
        tune(dev, said[:1])
    with pytest.raises(BadInput, match="weights are finite"):
        Weights(lm=math.nan)
    with pytest.raises(UnknownName, match="tuned"):
        Interpolated(weights, on_tuned="yes")  # type: ignore[arg-type]


def test_held_out_errors_are_those_of_weights_from_the_rest() -> None:
    lists, references = noisy(2, 11)
    naive = 0
    for fold in range(3):
        rest = [place for place in range(11) if place % 3 != fold]
        weights = tune([lists[place] for place in rest], [references[place] for place in rest])
        for place in range(fold, 11, 3):
            taken = choose(lists[place], Interpolated(weights)).text
            naive += int(count_errors([references[place]], [taken]).errors.sum())
    assert held_out_errors(lists, references, folds=3) == naive
    with pytest.raises(BadInput, match="held out"):
        held_out_errors(lists[:1], references[:1])


def test_a_weight_of_zero_is_the_acoustic_choice_whatever_the_lm_says() -> None:
    one = candidates([(-1.0, [-math.inf], 0.0), (-2.0, [-1.0], 0.0)])
    assert choose(one, Interpolated(Weights(lm=0.0))).place == 0


def test_bounds_and_chance() -> None:
    lists, said = noisy(2)
    best, worst = oracle(lists, said), oracle(lists, said, worst=True)
    assert best == said
    picked = random_pick(lists, seed=1)
    assert picked == [one for pair in lists for one in random_pick([pair], seed=1)]
    assert picked != random_pick(lists, seed=2)
    errors = [int(count_errors(said, texts).errors.sum()) for texts in (best, picked, worst)]
    assert errors == sorted(errors)
    empty = [candidates([])]
    assert oracle(empty, ["a"]) == random_pick(empty) == acoustic_best(empty) == [""]
    assert list_errors([], []) == []


def test_longer_lists_never_hurt_the_oracle() -> None:
    lists, said = noisy(3)
    curve = size_curve(lists, said, lambda cut: oracle(cut, said), sizes=(1, 2, 5, 100))
    assert list(curve) == [1, 2, 5]
    rates = [counts.rate for counts in curve.values()]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0
    with pytest.raises(BadInput, match="cut to one"):
        size_curve(lists, said, acoustic_best, sizes=(0,))


def test_lists_are_scored_in_their_order() -> None:
    model = train_ngram(["ka to mi", "ka to"], order=3)
    lists = [NBest("u1", (Hypothesis("zz zz", -1.0), Hypothesis("ka to", -2.0))), NBest("u2", ())]
    scored = score_candidates(lists, model)
    assert [len(one) for one in scored] == [2, 0]
    assert scored[0].lm_totals[1] == model.score(["ka to"])[0].total > scored[0].lm_totals[0]
    with pytest.raises(BadInput, match="its demonstrations"):
        score_candidates(lists, model, demonstrations=[])
