"""Building prompts: number, order and parts of the demonstrations, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.prompt import CONDITIONS, SHOWN, Condition, Order, Prompt
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

WITH_DEMONSTRATIONS: list[Condition] = [name for name in CONDITIONS if name != "asr"]


def utterance(name: str) -> Utterance:
    samples = np.full(400, len(name), dtype=np.float32)
    return Utterance(name, Audio.from_array(samples), f"text of {name}", "que", speaker="s")


RANKED = [utterance(f"u{rank}") for rank in range(6)]
TARGET = utterance("target")


def ids(prompt: Prompt) -> list[str]:
    return [demonstration.id for demonstration in prompt.demonstrations]


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shots", [0, 1, 6])
def test_a_prompt_holds_what_its_condition_shows(condition: Condition, shots: int) -> None:
    if condition == "asr" and shots:
        with pytest.raises(BadInput, match="an asr prompt takes no demonstrations"):
            build_prompt(TARGET, RANKED, condition=condition, shots=shots)
        return
    prompt = build_prompt(TARGET, RANKED, condition=condition, shots=shots, template="paper", pair_order="text-first")
    assert (prompt.condition, prompt.shots, prompt.template) == (condition, shots, "paper")
    assert prompt.pair_order == "text-first"
    assert prompt.applied == ()
    for demonstration, source in zip(prompt.demonstrations, RANKED, strict=False):
        assert demonstration.audio == (source.audio if "audio" in SHOWN[condition] else None)
        assert demonstration.text == (source.text if "text" in SHOWN[condition] else None)
        assert demonstration.audio_id == demonstration.text_id == demonstration.id == source.id
    assert prompt.target.audio == (None if condition == "t-icl" else TARGET.audio)
    assert (prompt.target.id, prompt.target.text, prompt.target.language) == ("target", TARGET.text, "que")


def test_shots_none_takes_all_that_were_passed() -> None:
    assert ids(build_prompt(TARGET, RANKED[:4], condition="micl")) == ["u0", "u1", "u2", "u3"]
    assert build_prompt(TARGET, [], condition="asr").shots == 0
    with pytest.raises(BadInput, match="6 shots for target 'target'"):
        build_prompt(TARGET, RANKED, condition="asr")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("nearest-first", ["u0", "u1", "u2"]),
        ("nearest-last", ["u2", "u1", "u0"]),
        ("as-given", ["u0", "u1", "u2"]),
    ],
)
def test_order_is_applied_to_the_nearest(order: Order, expected: Sequence[str]) -> None:
    assert ids(build_prompt(TARGET, RANKED, condition="icl", shots=3, order=order)) == expected


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 6), st.sampled_from(WITH_DEMONSTRATIONS))
def test_random_order_depends_on_seed_and_target_alone(seed: int, shots: int, condition: Condition) -> None:
    def made(**changes: Any) -> Prompt:
        return build_prompt(TARGET, RANKED, condition=condition, shots=shots, order="random", seed=seed, **changes)

    prompt = made()
    assert sorted(ids(prompt)) == [item.id for item in RANKED[:shots]]
    np.random.default_rng(1).random(seed % 7)
    assert made() == prompt
    assert ids(made(template="paper", pair_order="text-first")) == ids(prompt)
    assert ids(build_prompt(TARGET, RANKED, condition="icl", shots=shots, order="random", seed=seed)) == ids(prompt)


def test_random_order_varies_with_seed_and_with_target() -> None:
    def order(target: Utterance, seed: int) -> tuple[str, ...]:
        return tuple(ids(build_prompt(target, RANKED, condition="icl", order="random", seed=seed)))

    assert len({order(TARGET, seed) for seed in range(30)}) > 25
    assert len({order(utterance(f"t{number}"), 0) for number in range(30)}) > 25


def test_the_target_may_not_demonstrate_itself() -> None:
    # Also beyond the shots asked for: a pool that holds the target is wrong, whatever the rank.
    with pytest.raises(BadInput, match="the target 'target' is among its own demonstrations"):
        build_prompt(TARGET, [*RANKED, TARGET], condition="micl", shots=2)


def test_repeated_demonstrations_are_refused() -> None:
    with pytest.raises(BadInput, match=r"repeated\n.*u1"):
        build_prompt(TARGET, [RANKED[1], RANKED[0], RANKED[1]], condition="micl")


@pytest.mark.parametrize(("pool", "shots"), [([], 1), (RANKED, 7)])
def test_too_few_demonstrations_are_refused(pool: list[Utterance], shots: int) -> None:
    with pytest.raises(BadInput, match=f"too few demonstrations.*\n.*{shots} shots\n.*{len(pool)} demonstrations"):
        build_prompt(TARGET, pool, condition="t-icl", shots=shots)


def test_negative_shots_are_refused() -> None:
    with pytest.raises(BadInput, match="negative"):
        build_prompt(TARGET, RANKED, condition="micl", shots=-1)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    wrong: Any = "mcl"
    with pytest.raises(UnknownName, match=r"unknown condition 'mcl'(.|\n)*did you mean 'micl'"):
        build_prompt(TARGET, RANKED, condition=wrong)
    wrong = "nearest-frist"
    with pytest.raises(UnknownName, match="did you mean 'nearest-first'"):
        build_prompt(TARGET, RANKED, condition="micl", order=wrong)
    wrong = "text-frist"
    with pytest.raises(UnknownName, match="did you mean 'text-first'"):
        build_prompt(TARGET, RANKED, condition="micl", pair_order=wrong)
