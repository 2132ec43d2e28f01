"""Prompts as plain data: what they accept, what their digest counts, how they print."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.prompt import CONDITIONS, SHOWN, Condition, Demonstration, Prompt, Target, stable_hash
from attnlens.data.audio import Audio
from attnlens.errors import BadInput, UnknownName


def clip(seed: int) -> Audio:
    return Audio.from_array(np.random.default_rng(seed).standard_normal(400).astype(np.float32) / 10)


def demonstration(name: str, condition: Condition, seed: int = 1) -> Demonstration:
    shown = SHOWN[condition]
    return Demonstration(
        name, clip(seed) if "audio" in shown else None, f"text of {name}" if "text" in shown else None, name, name
    )


def prompt_of(condition: Condition, shots: int = 2, **fields: Any) -> Prompt:
    target = Target("t", None if condition == "t-icl" else clip(0), "the reference", "que")
    demonstrations = tuple(demonstration(f"d{i}", condition, i + 1) for i in range(0 if condition == "asr" else shots))
    return Prompt(condition, demonstrations, target, **fields)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_can_be_made_with_what_it_shows(condition: Condition) -> None:
    prompt = prompt_of(condition)
    assert prompt.shots == (0 if condition == "asr" else 2)
    assert hash(prompt) == hash(prompt_of(condition))
    assert prompt == pickle.loads(pickle.dumps(prompt))


@pytest.mark.parametrize("condition", [name for name in CONDITIONS if name != "asr"])
@pytest.mark.parametrize("other", [name for name in CONDITIONS if name != "asr"])
def test_demonstrations_of_another_condition_are_refused(condition: Condition, other: Condition) -> None:
    demonstrations = (demonstration("d", other),)
    if SHOWN[condition] == SHOWN[other]:
        assert replace(prompt_of(condition), demonstrations=demonstrations).shots == 1
    else:
        with pytest.raises(BadInput, match=r"demonstration 0 \('d'\) does not fit the condition"):
            replace(prompt_of(condition), demonstrations=demonstrations)


def test_demonstration_without_anything_is_refused() -> None:
    with pytest.raises(BadInput, match="neither audio nor text"):
        replace(prompt_of("micl"), demonstrations=(Demonstration("d", None, None, "d", "d"),))


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="empty text"):
        replace(prompt_of("icl"), demonstrations=(Demonstration("d", None, text, "d", "d"),))


def test_asr_takes_no_demonstrations() -> None:
    with pytest.raises(BadInput, match="an asr prompt takes no demonstrations"):
        Prompt("asr", prompt_of("micl").demonstrations, prompt_of("asr").target)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_target_audio_stands_exactly_where_the_condition_shows_it(condition: Condition) -> None:
    prompt = prompt_of(condition)
    wrong = clip(0) if condition == "t-icl" else None
    with pytest.raises(BadInput, match="the target 't' does not fit"):
        replace(prompt, target=replace(prompt.target, audio=wrong))


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    wrong: Any = "mical"
    with pytest.raises(UnknownName, match="did you mean 'micl'"):
        replace(prompt_of("micl"), condition=wrong)
    with pytest.raises(UnknownName, match="did you mean 'text-first'"):
        prompt_of("micl", pair_order="text-frist")


def test_digest_counts_what_is_read() -> None:
    prompt = prompt_of("micl")
    first, second = prompt.demonstrations
    other_readings = [
        replace(prompt, demonstrations=(second, first)),
        replace(prompt, demonstrations=(first,)),
        replace(prompt, demonstrations=(replace(first, text="other"), second)),
        replace(prompt, demonstrations=(replace(first, audio=clip(9)), second)),
        replace(prompt, demonstrations=(replace(first, audio=clip(1).edited("reverse")), second)),
        replace(prompt, target=replace(prompt.target, audio=clip(9))),
        replace(prompt, target=replace(prompt.target, id="t2")),
        replace(prompt, target=replace(prompt.target, language="kjj")),
        replace(prompt, template="paper"),
        replace(prompt, pair_order="text-first"),
        prompt_of("icl"),
        prompt_of("a-icl"),
        prompt_of("t-icl"),
        prompt_of("asr"),
        prompt_of("icl", shots=0),
        prompt_of("micl", shots=0),
    ]
    digests = {other.digest for other in other_readings} | {prompt.digest}
    assert len(digests) == len(other_readings) + 1
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests)


def test_digest_ignores_what_is_not_read() -> None:
    prompt = prompt_of("micl")
    first, second = prompt.demonstrations
    same_readings = [
        replace(prompt, applied=("none@0",)),
        replace(prompt, target=replace(prompt.target, text="another reference", audio_id="x")),
        replace(prompt, demonstrations=(replace(first, id="x", audio_id="y", text_id="z"), second)),
        replace(prompt, demonstrations=(replace(first, audio=clip(1).edited("reverse").edited("reverse")), second)),
    ]
    assert {other.digest for other in same_readings} == {prompt.digest}
    # Where there are no pairs there is no order in them.
    assert prompt_of("icl", pair_order="text-first").digest == prompt_of("icl").digest
    assert prompt_of("micl", shots=0, pair_order="text-first").digest == prompt_of("micl", shots=0).digest


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4), st.data())
def test_digest_keeps_texts_apart(texts: list[str], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4))

    def made(contents: list[str]) -> Prompt:
        demonstrations = tuple(Demonstration(f"d{i}", None, text, "a", "b") for i, text in enumerate(contents))
        return Prompt("t-icl", demonstrations, Target("t", None, "", "que"))

    assert (made(texts).digest == made(others).digest) == (texts == others)


def test_stable_hash_is_the_same_on_every_machine() -> None:
    assert stable_hash("order", 0, "t1") == "d05e708de8889c30"
    assert stable_hash("a", "b") != stable_hash("ab") != stable_hash("a", ["b"])
    assert stable_hash(1) != stable_hash("1")


@pytest.mark.parametrize("condition", CONDITIONS)
def test_to_dict_is_json_and_says_everything(condition: Condition) -> None:
    prompt = prompt_of(condition, applied=("none@0",))
    described = json.loads(json.dumps(prompt.to_dict()))
    assert described["condition"] == condition
    assert described["applied"] == ["none@0"]
    assert [demo["text"] for demo in described["demonstrations"]] == [d.text for d in prompt.demonstrations]
    assert described["target"]["audio_id"] == "t"
    assert (described["target"]["audio"] is None) == (condition == "t-icl")


def test_to_dict_tells_prompts_apart_without_decoding(tmp_path: Any) -> None:
    audio = Audio(tmp_path / "missing.wav", start=1.0, end=2.5).edited("chunk-shuffle", seed=3)
    prompt = prompt_of("asr")
    prompt = replace(prompt, target=replace(prompt.target, audio=audio, audio_id="other"))
    target = prompt.to_dict()["target"]
    assert target["audio"] == {
        "source": (tmp_path / "missing.wav").as_posix(),
        "start": 1.0,
        "end": 2.5,
        "edits": [["chunk-shuffle", 3]],
    }
    assert target["audio_id"] == "other"
    assert "audio of other, chunk-shuffle" in str(prompt)


def test_str_is_a_few_lines_even_for_a_long_prompt() -> None:
    printed = str(prompt_of("micl", shots=100, applied=("order-reversed@0",)))
    lines = printed.splitlines()
    assert len(lines) == 10
    assert lines[0] == "micl prompt: 100 shots, template 'default', audio-first"
    assert lines[1] == "  made by order-reversed@0"
    assert lines[2] == "  demo 0  audio of d0 | 'text of d0' of d0"
    assert lines[-2] == "  and 94 more"
    long = prompt_of("t-icl", shots=0)
    assert "x" * 59 + "…" in str(replace(long, target=replace(long.target, text="x" * 500)))
