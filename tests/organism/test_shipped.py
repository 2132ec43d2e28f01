from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import attnlens
from attnlens.asr.error_rate import edit_distance
from attnlens.context.build import build_prompt
from attnlens.context.controls import apply_control
from attnlens.context.prompt import Prompt
from attnlens.data.check import check
from attnlens.errors import BadInput, UnknownName
from attnlens.models.registry import resolve
from attnlens.models.speechlm import SpeechLM
from attnlens.organism import shipped
from attnlens.organism.shipped import FILES, TARGETS, acoustic_folder, model_folder, target_corpus

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def lens() -> SpeechLM:
    return attnlens.load("organism")


def test_it_is_an_ordinary_checkpoint(lens: SpeechLM) -> None:
    from transformers import Qwen3ASRForConditionalGeneration

    assert (lens.name, lens.family) == ("organism", "qwen3-asr")
    bare = Qwen3ASRForConditionalGeneration.from_pretrained(model_folder(), dtype="float32")
    mine = dict(lens.model.named_parameters())
    assert all(bool((value == mine[name]).all()) for name, value in bare.named_parameters())
    assert resolve("organism") == str(model_folder())


def test_everything_shipped_is_small_and_quick_to_load() -> None:
    assert sum(one.stat().st_size for one in FILES.rglob("*") if one.is_file()) < 20 * MEGABYTE
    began = time.process_time()
    attnlens.load("organism")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("target", TARGETS)
def test_corpora_are_sound(target: str) -> None:
    corpus = target_corpus(target)
    assert (len(corpus.pool), len(corpus.dev), len(corpus.test)) == (100, 24, 48)
    assert check(corpus).errors == ()
    assert {one.speaker for one in corpus.test} == {"m3", "f2", "m5", "Denis"}
    assert (acoustic_folder(target) / "model.safetensors").is_file()


def test_pairs_teach_it_a_spelling_and_mismatched_pairs_do_not(lens: SpeechLM) -> None:
    corpus = target_corpus("maori")
    wrong = {"micl": 0, "asr": 0, "mismatched": 0}
    bits = dict.fromkeys(wrong, 0.0)
    characters = 0
    for target in corpus.test[:8]:
        pairs = build_prompt(target, corpus.pool[:8], condition="micl", order="as-given")
        asked: dict[str, Prompt] = {
            "micl": pairs,
            "asr": build_prompt(target, [], condition="asr"),
            "mismatched": apply_control(pairs, "mismatched-pairs", seed=0, corpus=corpus),
        }
        characters += len(target.text)
        for name, prompt in asked.items():
            encoded = lens.encode(prompt)
            wrong[name] += edit_distance(lens.generate(encoded, max_new_tokens=60).text, target.text)
            bits[name] -= lens.score(encoded, [target.text], end="eos")[0].total / np.log(2)
    # The committed table says how well on all of it; this says that it still does.
    assert wrong["micl"] < 0.5 * wrong["asr"]
    assert wrong["micl"] < 0.5 * wrong["mismatched"]
    assert bits["micl"] < bits["asr"] - characters


def test_what_is_not_shipped_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="maori"):
        target_corpus("maoru")
    monkeypatch.setattr(shipped, "FILES", tmp_path)
    with pytest.raises(BadInput, match="lacks model"):
        model_folder()
