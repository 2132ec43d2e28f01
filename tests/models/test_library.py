"""What was read once is as good as read again: masses, likelihoods and answers, whatever the library holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from attnlens.context.build import build_prompt
from attnlens.context.prompt import Condition, Prompt
from attnlens.errors import BadInput
from attnlens.models.decoding import decode
from attnlens.models.library import Library, Reading
from attnlens.models.load import load
from attnlens.models.registry import FAMILIES
from attnlens.models.side_by_side import SideBySide, stackable
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import corpus
from tests.models.test_quirks import bordered

SPEECH = corpus()
ANSWER = "ka to mi"


def prompt(condition: Condition, shots: int, *, target: int = 0) -> Prompt:
    return build_prompt(SPEECH.test[target], SPEECH.pool, condition=condition, shots=shots)


def read(library: Library, prompts: Sequence[Prompt]) -> list[Reading]:
    found = [library.read(library.lens.encode(one, ANSWER)) for one in prompts]
    assert all(found)
    return [one for one in found if one is not None]


@pytest.fixture(scope="module")
def lens() -> SpeechLM:
    return load("tiny:qwen3-asr")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_traced_and_answers_as_without_a_library(family: str) -> None:
    lens = load(f"tiny:{family}")
    library = Library(lens, cuts=[1, 2])
    for one in (prompt("micl", 1), prompt("micl", 3)):
        reading = library.read(lens.encode(one, ANSWER))
        if reading is None:
            assert family == "whisper"
            return
        measures = ("entropy", "max", "contribution", "logit_effect")
        plain = lens.trace(one, outputs=ANSWER, measures=measures)
        fast = lens.trace(one, outputs=ANSWER, measures=measures, readings=[reading])
        for name in plain.data_vars:
            np.testing.assert_allclose(fast[name], plain[name], atol=2e-5, rtol=2e-4, err_msg=str(name))
        answer = decode([reading], max_new_tokens=5)[0]
        wanted = lens.generate(one, max_new_tokens=5)
        assert (answer.ids.tolist(), answer.ended, answer.text) == (wanted.ids.tolist(), wanted.ended, wanted.text)
    assert library.read_positions < sum(len(lens.encode(prompt("micl", shots)).ids) - 1 for shots in (1, 3)), (
        "the first demonstration was read twice"
    )


def test_numbers_do_not_depend_on_what_the_library_holds(lens: SpeechLM) -> None:
    prompts = [prompt("t-icl", 2), prompt("icl", 2), prompt("micl", 1), prompt("micl", 2), prompt("micl", 4)]
    one = Library(lens, cuts=[1, 2, 4])
    together = read(one, prompts)
    for found, asked in zip(together, prompts, strict=True):
        [alone] = read(Library(lens, cuts=[1, 2, 4]), [asked])
        first, second = (
            lens.trace(asked, outputs=ANSWER, readings=[reading]).drop_attrs() for reading in (found, alone)
        )
        assert first.identical(second), "to the bit"
    assert one.read_positions < sum(reading.start for reading in together)


def test_answers_written_together_are_those_written_alone(lens: SpeechLM) -> None:
    prompts = [prompt("asr", 0), prompt("micl", 3), prompt("t-icl", 1, target=1), prompt("micl", 1, target=2)]
    readings = read(Library(lens), prompts)
    found = decode(readings, max_new_tokens=6)
    assert [one.text for one in found] == [lens.generate(one, max_new_tokens=6).text for one in prompts]
    assert [one.encoded.prompt for one in found] == prompts
    assert decode([], max_new_tokens=1) == []


def test_answers_end_where_each_ends(lens: SpeechLM) -> None:
    config = lens.model.generation_config
    prompts = [prompt("asr", 0), prompt("micl", 3), prompt("micl", 1, target=2)]
    readings = read(Library(lens), prompts)
    free = [one.ids.tolist() for one in decode(readings, max_new_tokens=6)]
    kept = config.eos_token_id, config.suppress_tokens
    try:
        config.eos_token_id = [free[1][2], *np.atleast_1d(kept[0]).tolist()]
        found = decode(readings, max_new_tokens=6)
        wanted = [lens.generate(one, max_new_tokens=6) for one in prompts]
        assert [(one.text, one.ended) for one in found] == [(one.text, one.ended) for one in wanted]
        assert found[1].ended == "end-token"
        config.eos_token_id, config.suppress_tokens = kept[0], [free[0][0]]
        assert free[0][0] not in decode(readings, max_new_tokens=6)[0].ids
    finally:
        config.eos_token_id, config.suppress_tokens = kept


def test_what_is_too_much_is_forgotten_and_read_again(lens: SpeechLM) -> None:
    turns = [prompt("micl", 1), *(prompt("icl", shots) for shots in (1, 2, 3, 4)), prompt("micl", 1)]
    small, large = Library(lens, most_bytes=1), Library(lens)
    assert [one.start for one in read(small, turns)] == [one.start for one in read(large, turns)]
    assert large.read_positions < small.read_positions


def test_other_recordings_in_the_same_places_are_other_prompts(lens: SpeechLM) -> None:
    first = prompt("micl", 2)
    swapped = build_prompt(SPEECH.test[0], [SPEECH.pool[1], SPEECH.pool[0]], condition="micl", shots=2)
    library = Library(lens, cuts=[1, 2])
    for asked in (first, swapped):
        [found] = read(library, [asked])
        plain = lens.trace(asked, outputs=ANSWER)
        fast = lens.trace(asked, outputs=ANSWER, readings=[found])
        np.testing.assert_allclose(fast["nll"], plain["nll"], atol=1e-4)


def test_under_an_intervention_nothing_is_shared(lens: SpeechLM) -> None:
    with lens.knockout(queries="all", keys="demo_text"):
        assert Library(lens).read(lens.encode(prompt("micl", 1), ANSWER)) is None


def test_a_reading_serves_its_own_prompt_and_its_answer_only(lens: SpeechLM) -> None:
    [reading] = read(Library(lens), [prompt("micl", 1)])
    with pytest.raises(BadInput, match="readings serve the rows"):
        lens.trace(prompt("micl", 2), outputs=ANSWER, readings=[reading])
    with pytest.raises(BadInput, match="readings serve the rows"):
        lens.trace(prompt("micl", 1), outputs=ANSWER, readings=[reading], queries=["demo_text"])
    with pytest.raises(BadInput, match="at least one token"):
        decode([reading], max_new_tokens=0)


def test_memory_that_runs_out_is_said(lens: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    [reading] = read(Library(lens), [prompt("micl", 1)])
    monkeypatch.setattr(type(lens.model.base_model), "forward", full)
    with pytest.raises(BadInput, match="out of memory"):
        decode([reading], max_new_tokens=2)


def test_prompts_traced_side_by_side_are_those_traced_alone(lens: SpeechLM) -> None:
    # Prompts and answers of different lengths, so that both are padded.
    answers = ["ka to mi", "ka", "to mi ka su ti", "mi to"]
    prompts = [prompt("asr", 0), prompt("micl", 3), prompt("t-icl", 1, target=1), prompt("micl", 1, target=2)]
    library = Library(lens, cuts=[1])
    found = [library.read(lens.encode(one, said)) for one, said in zip(prompts, answers, strict=True)]
    beside = SideBySide.of([one for one in found if one is not None])
    measures = ("entropy", "max", "contribution", "logit_effect", "received", "nll_first")
    for rows in ("predicting", "reading"):
        # `logit_effect` has no meaning at the last row as read: nothing follows it.
        asked = [one for one in measures if rows == "predicting" or one != "logit_effect"]
        fast = lens.trace(prompts, outputs=answers, measures=asked, rows=rows, readings=beside)
        for place, (one, said) in enumerate(zip(prompts, answers, strict=True)):
            alone = lens.trace(one, outputs=said, measures=asked, rows=rows)
            own = fast.isel(item=place, demo=slice(alone.sizes["demo"]), position=slice(alone.sizes["position"]))
            assert np.isnan(fast["received"].values[place, :, alone.sizes["position"] :]).all()
            for name in alone.data_vars:
                what = f"{name} of {place}"
                np.testing.assert_allclose(own[name], alone[name][0], atol=2e-5, rtol=2e-4, err_msg=what)
        np.testing.assert_allclose(fast["mass"].sum("source"), 1, atol=1e-6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_that_can_is_traced_side_by_side(family: str) -> None:
    lens = load(f"tiny:{family}")
    library = Library(lens)
    prompts = [prompt("micl", 2), prompt("asr", 0, target=1)]
    answers = ["ka to mi", "su"]
    found = [library.read(lens.encode(one, said)) for one, said in zip(prompts, answers, strict=True)]
    readings = [one for one in found if one is not None]
    if family == "whisper" or not all(stackable(one) for one in readings):
        assert family in ("whisper", "phi4-multimodal"), "only these keep something else than all keys"
        return
    fast = lens.trace(prompts, outputs=answers, readings=SideBySide.of(readings))
    for place, (one, said) in enumerate(zip(prompts, answers, strict=True)):
        alone = lens.trace(one, outputs=said)
        np.testing.assert_allclose(fast["mass"][place], alone["mass"][0], atol=2e-5, rtol=2e-4)
        np.testing.assert_allclose(fast["nll"][place], alone["nll"][0], atol=1e-4)


def test_readings_from_before_an_intervention_are_refused_under_it(lens: SpeechLM) -> None:
    [reading] = read(Library(lens), [prompt("micl", 1)])
    with lens.knockout(queries="output", keys="demo_text"), pytest.raises(BadInput, match="before an intervention"):
        lens.trace(prompt("micl", 1), outputs=ANSWER, readings=[reading])
    with pytest.raises(BadInput, match="nothing to read on"):
        SideBySide.of([])


def test_within_the_border_of_a_cache_readings_are_shared_and_beyond_it_none_is_made() -> None:
    asked = prompt("micl", 2)
    length = len(load("tiny:phi4-multimodal").encode(asked, ANSWER).ids)
    one = bordered(length)
    reading = Library(one, cuts=[1, 2]).read(one.encode(asked, ANSWER))
    assert reading is not None
    plain = one.trace(asked, outputs=ANSWER)
    fast = one.trace(asked, outputs=ANSWER, readings=[reading])
    np.testing.assert_allclose(fast["mass"], plain["mass"], atol=2e-5)
    np.testing.assert_allclose(fast["nll"], plain["nll"], atol=1e-4)
    assert Library(one, reserve=length - reading.start).read(one.encode(asked, ANSWER)) is None, "the answer may cross"
    assert Library(bordered(length - 1)).read(one.encode(asked, ANSWER)) is None
