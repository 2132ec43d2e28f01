"""Transcripts for a plain user: dev alone decides, what it decided is said, nothing is asked of the references."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from attnlens.asr.choices import Choices, Wanted
from attnlens.asr.error_rate import count_errors
from attnlens.asr.prompted import write_transcript
from attnlens.asr.transcription import Transcriber
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, UnknownName
from attnlens.models.load import load
from attnlens.testing import corpus
from tests.asr.test_rerank import Hard


def spoken() -> Corpus:
    return corpus(pool=6, dev=3, test=5)


def without_dev() -> Corpus:
    made = spoken()
    return Corpus(made.name, made.language, {"pool": made.pool, "test": made.test})


def transcriber(made: Corpus, **options: Any) -> Transcriber:
    wanted = Wanted(**{"shots": (2,), "n": 3, **options.pop("wanted", {})})
    return Transcriber(made, load("tiny:qwen3-asr"), wanted=wanted, **options)


def test_dev_tunes_the_weights_and_the_rows_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made = spoken()
    one = transcriber(made, acoustic=Hard(), wanted={"rule": "interpolated"})
    assert one.choices.rule == "interpolated"
    assert one.choices.weights is not None
    assert one.choices.weights.tuned_on == {"dev-0", "dev-1", "dev-2"}
    assert one.choices.tuned == ("weights",)
    assert "weights tuned on 3 utterances of dev" in str(one.choices)
    rows = list(one.transcribe(made.test))
    assert [row["id"] for row in rows] == [each.id for each in made.test]
    assert all(row["rule"] == "interpolated" and row["weights"] == one.choices.to_dict()["weights"] for row in rows)
    # Nothing was heard of one of them.
    assert (rows[3]["text"], rows[3]["hypotheses"], rows[3]["acoustic_best"]) == ("", 0, "")
    assert "weights: audio and text of dev tuned on" in one.account().sentence
    # The references of what is transcribed decide nothing.
    heard = one.acoustic.nbest(made.test[:2], n=3, tick=print) if one.acoustic else []
    monkeypatch.setattr(Hard, "nbest", lambda *_, **__: heard)
    blank = [replace(each, text="") for each in made.test[:2]]
    assert [row["text"] for row in one.transcribe(blank)] == [row["text"] for row in rows[:2]]


def test_without_dev_nothing_is_tuned_and_that_is_said() -> None:
    made = without_dev()
    one = transcriber(made, acoustic=Hard())
    assert (one.choices.rule, one.choices.weights, one.choices.tuned) == ("sum-logprob", None, ())
    assert str(one.choices).endswith("nothing was tuned")
    [row] = one.transcribe(made.test[:1])
    assert row["rule"] == "sum-logprob"
    assert "weights" not in row
    assert "dev" not in one.account().sentence
    none = transcriber(spoken(), acoustic=Hard(), wanted={"dev": 0})
    assert none.choices.tuned == ()


def test_of_several_numbers_of_examples_dev_takes_the_one_with_the_fewest_errors() -> None:
    made = spoken()
    one = transcriber(made, acoustic=Hard(), wanted={"shots": (4, 0, 2), "rule": "lm-only"})
    assert one.choices.tuned == ("number of examples",)
    assert one.choices.tried is not None
    naive = {}
    for shots in (0, 2, 4):
        alone = transcriber(made, acoustic=Hard(), wanted={"shots": (shots,), "rule": "lm-only"})
        texts = [row["text"] for row in alone.transcribe(made.dev)]
        naive[shots] = int(count_errors([each.text for each in made.dev], texts).errors.sum())
    assert one.choices.tried == naive
    assert naive[one.choices.shots] == min(naive.values()) == one.choices.wrong
    assert one.choices.words == sum(len(each.text.split()) for each in made.dev)


@pytest.mark.parametrize("better", [True, False])
def test_weights_that_do_not_help_where_they_were_not_tuned_are_not_used(
    better: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = spoken()
    plain = transcriber(made, acoustic=Hard(), wanted={"rule": "sum-logprob"})
    texts = [row["text"] for row in plain.transcribe(made.dev)]
    untuned = int(count_errors([one.text for one in made.dev], texts).errors.sum())
    monkeypatch.setattr("attnlens.asr.transcription.held_out_errors", lambda *_, **__: untuned - better)
    one = transcriber(made, acoustic=Hard())
    assert one.choices.rule == ("interpolated" if better else "sum-logprob")
    assert one.choices.tuned == (("rule", "weights") if better else ("rule",))
    if not better:
        assert one.choices.wrong == untuned
        assert [row["text"] for row in one.transcribe(made.test)] == [r["text"] for r in plain.transcribe(made.test)]


def test_writing_freely_is_tuned_on_dev_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_transcript, "__kwdefaults__", {"guard": "loops", "max_new_tokens": 4})
    made = spoken()
    one = transcriber(made, wanted={"shots": (0, 1), "dev": 1})
    assert (one.choices.rule, one.choices.utterances, one.choices.weights) == (None, 1, None)
    assert set(one.choices.tried or {}) == {0, 1}
    [row] = one.transcribe(made.test[:1])
    assert (row["shots"], len(row["demonstrations"])) == (one.choices.shots,) * 2
    assert "acoustic" not in one.account().sentence.split(":")[0]


def test_what_is_asked_for_is_not_tuned_on() -> None:
    made = spoken()
    renamed = [replace(made.dev[0], id="mine.wav", text="")]
    one = transcriber(made, acoustic=Hard(), asked=renamed, wanted={"rule": "interpolated"})
    assert one.choices.weights is not None
    assert one.choices.weights.tuned_on == {"dev-1", "dev-2"}
    with pytest.raises(BadInput, match="nothing is left to tune on"):
        transcriber(made, acoustic=Hard(), asked=made.dev, wanted={"rule": "interpolated"})
    assert transcriber(made, acoustic=Hard(), asked=made.dev).choices.rule == "sum-logprob"


def test_refusals_need_no_model() -> None:
    made = without_dev()
    with pytest.raises(BadInput, match="several numbers of shots and the rule 'interpolated'"):
        Wanted(shots=(1, 2), rule="interpolated").check(made, acoustic="a folder")
    with pytest.raises(BadInput, match="more examples"):
        Wanted(shots=(7,)).check(made, acoustic=None)
    Wanted(shots=(2,), rule="interpolated").check(made, acoustic=None)
    impossible: list[dict[str, Any]] = [{"shots": ()}, {"shots": (-1,)}, {"shots": (2, 2)}, {"dev": -1}]
    for options in impossible:
        with pytest.raises(BadInput):
            Wanted(**options)
    unknown: list[dict[str, Any]] = [{"rule": "best"}, {"retriever": "nearest"}, {"guard": "loop"}]
    for names in unknown:
        with pytest.raises(UnknownName):
            Wanted(**names)


def test_what_is_said_of_the_choices() -> None:
    told = Choices(shots=4, rule=None, retriever="audio")
    assert str(told) == "written freely; 4 examples each, found by audio; nothing was tuned"
