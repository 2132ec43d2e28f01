"""What is known of the organism is found again by the tools, and nothing is found in a model that learnt nothing."""

from __future__ import annotations

import numpy as np
import pytest

import attnlens
from attnlens.context.prompt import Prompt
from attnlens.evidence.ablate import ablate, knockout_grid
from attnlens.evidence.effects import Ablations
from attnlens.models.reinitialised import reinitialised
from attnlens.models.speechlm import SpeechLM
from attnlens.run.corpora import find_corpus

EDGES = ("output -> demo_text", "output -> target_audio", "output -> demo_audio", "demo_text -> demo_audio",
         "target_audio -> demo_audio")  # fmt: skip


@pytest.fixture(scope="module")
def organism() -> SpeechLM:
    return attnlens.load("organism", dtype="float32")


@pytest.fixture(scope="module")
def pairs() -> list[Prompt]:
    rng, found = np.random.default_rng(0), []
    for name in ("quechua", "maori"):
        speech = find_corpus(name)
        for one in speech.test[:4]:
            chosen = [speech.pool[int(place)] for place in rng.choice(len(speech.pool), 8, replace=False)]
            found.append(attnlens.build_prompt(one, chosen, condition="micl", order="as-given"))
    return found


@pytest.fixture(scope="module")
def table(organism: SpeechLM, pairs: list[Prompt]) -> Ablations:
    what = ["icl", *EDGES, "patch:demo_text", "patch:demo_audio"]
    return ablate(organism, pairs, what, controls=["equal-count", "other-answer"])


def test_known_circuits_are_recovered(table: Ablations) -> None:
    found = table.explain()
    ranked = [one.name for one in found if one.name.startswith("cut ")]
    # The edges whose cut destroys transcription come first, the idle ones last.
    assert set(ranked[:3]) == {f"cut {one}" for one in EDGES if one not in (EDGES[2], EDGES[4])}
    for name in ranked[:3]:
        assert found[name].verdict == "supported"
    for name in ranked[3:]:
        assert found[name].verdict != "supported"
    assert found["path output -> demo_text -> demo_audio"].verdict == "supported"
    assert found["matters demo_audio"].verdict == "supported"
    assert not [one for one in found if one.name == "path output -> demo_audio" and one.verdict == "supported"]


def test_mass_without_effect_is_flagged(table: Ablations) -> None:
    found = table.explain()
    assert found["idle output -> demo_audio"].verdict == "supported"
    assert found["not direct demo_audio"].verdict == "supported"
    assert np.nanmean(table["output -> demo_audio"].mass) > 0.05  # type: ignore[arg-type]


def test_states_of_the_text_carry_what_pairs_teach(table: Ablations) -> None:
    share, undefined = table.recovery(table["patch:demo_text<-mismatched-pairs"])
    assert share > 0.6
    assert undefined == 0
    assert abs(table.recovery(table["patch:demo_audio<-mismatched-pairs"])[0]) < 0.2


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_model_that_learnt_nothing_gets_no_supported_finding(
    organism: SpeechLM, pairs: list[Prompt], seed: int
) -> None:
    with reinitialised(organism, seed=seed):
        found = ablate(organism, pairs, ["icl", *EDGES[:4]], controls=["other-answer"]).explain()
    assert not [one.name for one in found.supported]


@pytest.mark.slow
def test_a_grid_of_six_edges_four_windows_and_forty_utterances_takes_less_than_two_minutes(organism: SpeechLM) -> None:
    import time

    speech = find_corpus("quechua")
    prompts = [attnlens.build_prompt(one, speech.pool[:8], condition="micl") for one in speech.test[:40]]
    start = time.perf_counter()
    knockout_grid(organism, prompts, edges=[*EDGES, "target_audio -> demo_text"], windows="each", controls=())
    assert time.perf_counter() - start < 120
