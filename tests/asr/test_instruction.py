"""Answers are matched to hypotheses, and the list stands where the model reads it."""

from __future__ import annotations

import pytest

from attnlens.asr.instruction import match_answer, select_by_instruction, select_by_text
from attnlens.asr.nbest import Hypothesis, NBest
from attnlens.context.build import build_prompt
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.load import load
from attnlens.testing import corpus
from tests.asr.test_causal_lm import model

TEXTS = ["ka to mi", "ka do mi", "3"]
NBEST = NBest("test-0", tuple(Hypothesis(text, -float(place)) for place, text in enumerate(TEXTS)))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("ka do mi", (1, "exact")),
        ("  ka  do mi\n", (1, "exact")),
        ("2) ka do mi", (1, "exact")),
        ("2.", (1, "number")),
        ("3", (2, "exact")),
        ("9", (2, "nearest")),
        ("ka do", (1, "nearest")),
        ("", (2, "nearest")),
    ],
)
def test_answers_are_matched(written: str, expected: tuple[int, str]) -> None:
    assert match_answer(written, TEXTS) == expected


def test_a_speech_llm_is_asked_with_the_list_in_its_task() -> None:
    from attnlens.asr.instruction import _with_list

    lens, speech = load("tiny:qwen3-omni"), corpus()
    prompt = build_prompt(speech.test[0], speech.pool[:2], condition="micl")
    encoded = lens.encode(prompt)
    longer = _with_list(lens, encoded, TEXTS)
    added = len(longer.ids) - len(encoded.ids)
    assert added > 0
    assert len(longer.spans) == len(longer.ids)
    assert len(longer.spans.positions("task")) == len(encoded.spans.positions("task")) + added
    text = lens.front.tokenizer.decode(longer.ids[longer.spans.positions("task")])
    assert "1. ka to mi\n2. ka do mi\n3. 3" in text
    for source in ("demo_audio", "demo_text", "target_audio"):
        assert (
            longer.ids[longer.spans.positions(source)].tolist() == encoded.ids[encoded.spans.positions(source)].tolist()
        )
    answer = select_by_instruction(lens, prompt, NBEST, max_new_tokens=4)
    assert answer.place is not None
    assert answer.text == TEXTS[answer.place]


def test_a_text_model_is_asked() -> None:
    answer = select_by_text(model(positions=512), NBEST, demonstrations=["su le"], max_new_tokens=4)
    assert answer.text in TEXTS


def test_edges() -> None:
    speech = corpus()
    prompt = build_prompt(speech.test[0], [], condition="asr", template="bare")
    lens = load("tiny:qwen3-asr")
    assert select_by_instruction(lens, prompt, NBest("test-0", ())).how == "empty"
    assert select_by_text(model(), NBest("test-0", ())).text == ""
    with pytest.raises(UnsupportedModel, match="asks nothing"):
        select_by_instruction(lens, prompt, NBEST)
    with pytest.raises(BadInput, match="nothing to choose"):
        match_answer("a", [])
