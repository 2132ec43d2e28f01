"""What holds for every control: purity, seeds, refusals, records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlens.context.controls import CONTROLS, Control, apply_control
from attnlens.context.prompt import CONDITIONS, Condition, Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.registry import Registry
from tests.context.controls.made import (
    AUDIO_EDITS,
    CHANCE,
    CORPUS,
    WITH_AUDIO,
    WITH_DEMONSTRATIONS,
    WITH_TEXT,
    applied,
    content,
    prompt_of,
    prompt_with,
)


def test_the_promised_names_are_there() -> None:
    assert set(CONTROLS) == CHANCE | set(AUDIO_EDITS) | {
        "none",
        "order-reversed",
        "order-permutation",
        "gold-inserted",
        "pair-order-swapped",
    }


@pytest.mark.parametrize("entry", CONTROLS.entries(), ids=lambda entry: entry.name)
def test_each_is_listed_in_one_line_and_says_what_it_keeps_and_destroys(entry: Any) -> None:
    assert 0 < len(entry.summary) <= 64
    assert "\n" not in entry.summary
    control = CONTROLS[entry.name]
    assert isinstance(control, Control)
    assert control.__doc__ == control.change.__doc__
    assert "Keeps" in str(control.__doc__)
    assert "Destroys" in str(control.__doc__)


def test_the_page_names_every_control_and_where_it_applies() -> None:
    page = (Path(__file__).parents[3] / "docs" / "retrieval-and-controls.md").read_text(encoding="utf-8")
    rows = {cells[1].strip("` "): cells[4] for line in page.splitlines() if len(cells := line.split("|")) == 6}
    said = {
        "every condition": list(CONDITIONS),
        "every condition but t-icl": [condition for condition in CONDITIONS if condition != "t-icl"],
        "with demonstrations": WITH_DEMONSTRATIONS,
        "with texts": WITH_TEXT,
        "with audios": WITH_AUDIO,
        "micl": ["micl"],
    }
    for name in CONTROLS:
        where, _, shots = rows[name].strip().replace("`", "").partition(", ")
        assert said[where] == list(CONTROLS[name].conditions), name
        assert (shots == "2 shots or more") == (CONTROLS[name].at_least == 2), name


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_it_applies_or_refuses_and_stays_pure(name: str, condition: Condition) -> None:
    prompt = prompt_of(condition)
    before = (repr(prompt), prompt)
    if not CONTROLS[name].applies_to(condition, shots=prompt.shots):
        with pytest.raises(BadInput, match=f"the control '{name}' would change nothing in the condition '{condition}'"):
            applied(prompt, name)
        return
    np.random.seed(1)  # noqa: NPY002 - the point: global state must not matter
    changed = applied(prompt, name, seed=5)
    np.random.seed(2)  # noqa: NPY002
    for other in (prompt_of(condition, target=1), prompt_of(condition)):
        applied(other, name, seed=5)
    assert applied(prompt_of(condition), name, seed=5) == changed
    assert (repr(prompt), prompt) == before
    assert len(changed.applied) == 1
    assert re.fullmatch(rf"{name}@5(:.+)?", changed.applied[0])
    assert (content(changed) == content(prompt)) == (name == "none")
    assert (changed.condition, changed.template, changed.shots) == (prompt.condition, prompt.template, prompt.shots)
    assert sorted(demo.id for demo in changed.demonstrations) == sorted(demo.id for demo in prompt.demonstrations)
    assert replace(changed.target, audio=None, audio_id=None) == replace(prompt.target, audio=None, audio_id=None)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_too_few_demonstrations_are_refused(name: str, condition: Condition) -> None:
    control = CONTROLS[name]
    if condition not in control.conditions or not control.at_least:
        return
    assert not control.applies_to(condition, shots=control.at_least - 1)
    assert control.applies_to(condition, shots=control.at_least)
    with pytest.raises(BadInput, match=f"the control '{name}' needs more demonstrations"):
        applied(prompt_of(condition, shots=control.at_least - 1), name)


@pytest.mark.parametrize(
    ("names", "conditions"),
    [
        (sorted(AUDIO_EDITS), ["micl", "a-icl"]),
        (["other-speaker", "same-speaker"], ["micl", "a-icl"]),
        (["word-shuffle", "character-shuffle", "other-language-text"], ["t-icl", "icl", "micl"]),
        (["mismatched-pairs", "pair-order-swapped"], ["micl"]),
        (["order-reversed", "order-shuffled", "order-permutation"], ["t-icl", "icl", "micl", "a-icl"]),
        (["gold-inserted", "decoy-inserted", "other-language"], ["t-icl", "icl", "micl", "a-icl"]),
        (["target-audio-swapped"], ["asr", "icl", "micl", "a-icl"]),
        (["none"], list(CONDITIONS)),
    ],
)
def test_each_declares_where_it_applies(names: list[str], conditions: list[Condition]) -> None:
    assert {name: list(CONTROLS[name].conditions) for name in names} == dict.fromkeys(names, conditions)


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_chance_comes_from_seed_and_target(name: str) -> None:
    prompt = prompt_of("micl", shots=6)
    by_seed = {content(applied(prompt, name, seed=seed)) for seed in range(12)}
    # The same demonstrations and another target: only the target's id differs, so what differs is its draw.
    renamed = [replace(prompt, target=replace(prompt.target, id=utterance.id)) for utterance in CORPUS.test]
    by_target = {content(applied(other, name)) for other in renamed}
    if name in CHANCE:
        assert len(by_seed) > 2
        assert len(by_target) > 1
    elif name == "order-permutation":
        assert len(by_seed) > 2
        assert len(by_target) == 1
    else:
        assert len(by_seed) == 1
        assert len(by_target) == 1


def test_controls_are_recorded_in_order_with_their_options() -> None:
    prompt = applied(applied(prompt_of("micl"), "order-reversed", seed=3), "gold-inserted", seed=4, slot=1, what="text")
    assert prompt.applied == ("order-reversed@3", "gold-inserted@4:slot=1,what=text")
    assert applied(prompt_of("icl"), "other-language").applied == ("other-language@0:other=mboshi,what=pair",)
    assert applied(prompt_of("icl"), "none").applied == ("none@0",)
    assert applied(prompt_of("icl"), "none").digest == prompt_of("icl").digest


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mismatched-pairs'"):
        applied(prompt_of("micl"), "mismatched-pair")
    with pytest.raises(UnknownName, match=r"unknown option of the control 'gold-inserted' 'slt'(.|\n)*'slot'"):
        applied(prompt_of("micl"), "gold-inserted", slt=1)
    with pytest.raises(UnknownName, match="unknown option of the control 'word-shuffle' 'slot'"):
        applied(prompt_of("micl"), "word-shuffle", slot=1)
    with pytest.raises(BadInput, match="the control 'order-permutation' needs index"):
        apply_control(prompt_of("micl"), "order-permutation", seed=0)
    with pytest.raises(BadInput, match="the control 'other-language' needs other"):
        apply_control(prompt_of("micl"), "other-language", seed=0, corpus=CORPUS)


@pytest.mark.parametrize("name", ["other-speaker", "same-speaker", "target-audio-swapped", "decoy-inserted"])
def test_a_missing_corpus_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"the control '{name}' needs corpus"):
        apply_control(prompt_of("micl"), name, seed=0)


def test_a_void_change_is_refused() -> None:
    alike = prompt_with(["ima", "ima"], "t-icl")
    with pytest.raises(BadInput, match="the control 'order-reversed' changed nothing in the prompt of target 't0'"):
        applied(alike, "order-reversed")
    gold = prompt_with(["the reference", "ima"], "t-icl")
    with pytest.raises(BadInput, match="'gold-inserted' changed nothing"):
        applied(gold, "gold-inserted", slot=0)


def test_a_package_can_add_its_own() -> None:
    def upper(prompt: Prompt, draw: Any, *, mark: str = "") -> Prompt:
        """Keeps the words. Destroys case."""
        return replace(
            prompt,
            demonstrations=tuple(
                replace(demo, text=f"{demo.text}".upper() + f"{mark}{draw.seed}") for demo in prompt.demonstrations
            ),
        )

    own: Registry[Control] = Registry("control", group="example.none", builtin={})
    own.register("upper", Control(upper, conditions=("icl",)), summary="texts in capitals")
    assert own["upper"].applies_to("icl", shots=1)
    assert own["upper"].__doc__ == "Keeps the words. Destroys case."
