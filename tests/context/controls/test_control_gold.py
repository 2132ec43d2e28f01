"""The answer in a slot, and another answer in the same slot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.context.controls import gold_slots
from attnlens.context.controls.base import What
from attnlens.context.prompt import SHOWN, Condition
from attnlens.errors import BadInput, UnknownName
from tests.context.controls.made import (
    CORPUS,
    WITH_DEMONSTRATIONS,
    applied,
    prompt_of,
    properties,
    seeds,
)


@pytest.mark.parametrize("condition", WITH_DEMONSTRATIONS)
@pytest.mark.parametrize("name", ["gold-inserted", "decoy-inserted"])
@pytest.mark.parametrize("what", ["pair", "text", "audio"])
@pytest.mark.parametrize("slot", [0, 3])
def test_insertion_fills_one_slot_and_leaves_the_rest(name: str, condition: Condition, what: What, slot: int) -> None:
    prompt = prompt_of(condition)
    if what not in ("pair", *SHOWN[condition]):
        with pytest.raises(BadInput, match=f"shows no {what} of its demonstrations"):
            applied(prompt, name, slot=slot, what=what)
        return
    changed = applied(prompt, name, slot=slot, what=what)
    replaced = set(SHOWN[condition]) if what == "pair" else {what}
    old, new = prompt.demonstrations[slot], changed.demonstrations[slot]
    giver = CORPUS[new.text_id if "text" in replaced else new.audio_id]
    assert (giver.id == prompt.target.id) == (name == "gold-inserted")
    assert giver in CORPUS.test
    parts: dict[str, Any] = {}
    if "text" in replaced:
        parts |= {"text": giver.text, "text_id": giver.id}
    if "audio" in replaced:
        parts |= {"audio": giver.audio, "audio_id": giver.id}
    assert new == replace(old, **parts)
    rest = [place for place in range(prompt.shots) if place != slot]
    assert [changed.demonstrations[place] for place in rest] == [prompt.demonstrations[place] for place in rest]
    assert changed.target == prompt.target
    assert name == "gold-inserted" or giver.text != prompt.target.text


@pytest.mark.parametrize("slot", [-1, 4])
@pytest.mark.parametrize("name", ["gold-inserted", "decoy-inserted"])
def test_a_slot_that_is_not_there_is_refused(name: str, slot: int) -> None:
    with pytest.raises(BadInput, match=f"no slot {slot}(.|\n)*0 to 3, in prompt order"):
        applied(prompt_of("micl"), name, slot=slot)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'audio'"):
        applied(prompt_of("micl"), "gold-inserted", what="audo")


@properties
@given(seeds, st.sampled_from(WITH_DEMONSTRATIONS), st.integers(1, 5))
def test_a_sweep_visits_every_slot_with_one_and_the_same_decoy(seed: int, condition: Condition, shots: int) -> None:
    prompt = prompt_of(condition, shots=shots)
    sweep = gold_slots(prompt, corpus=CORPUS, seed=seed)
    assert [step.slot for step in sweep] == list(range(shots))
    for step in sweep:
        assert step.gold == applied(prompt, "gold-inserted", seed=seed, slot=step.slot)
        assert step.decoy == applied(prompt, "decoy-inserted", seed=seed, slot=step.slot)
    decoys = {(step.decoy.demonstrations[step.slot].audio, step.decoy.demonstrations[step.slot].text) for step in sweep}
    assert len(decoys) == 1


def test_decoys_of_one_target_are_the_same_for_every_part() -> None:
    prompt = prompt_of("micl")
    parts: list[What] = ["pair", "text", "audio"]
    slots = {what: gold_slots(prompt, corpus=CORPUS, what=what)[0].decoy.demonstrations[0] for what in parts}
    assert slots["pair"].text_id == slots["text"].text_id == slots["audio"].audio_id == slots["pair"].audio_id
    assert slots["text"].audio_id == slots["audio"].text_id == "p0"


def test_a_decoy_of_a_prompt_with_gold_is_no_gold() -> None:
    prompt = applied(prompt_of("micl"), "gold-inserted", slot=0)
    decoys = {applied(prompt, "decoy-inserted", seed=seed, slot=0).demonstrations[0].text_id for seed in range(20)}
    assert prompt.target.id not in decoys
