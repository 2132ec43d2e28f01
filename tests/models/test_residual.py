"""Patching and the logit lens through nnsight, held to plain forward hooks."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import cache

import numpy as np
import pytest
import torch

from attnlens.capture.attention import capture
from attnlens.capture.request import Request
from attnlens.context.controls import apply_control
from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput
from attnlens.models.hooks import HookPoint
from attnlens.models.load import load
from attnlens.models.registry import FAMILIES
from attnlens.models.residual import output_logits
from attnlens.models.self_check import probe
from attnlens.models.speechlm import SpeechLM

DECODERS = sorted(set(FAMILIES) - {"whisper"})
PROMPT = probe()
CONTROL = apply_control(PROMPT, "character-shuffle", seed=0)


@cache
def lens_of(family: str) -> SpeechLM:
    return load(f"tiny:{family}")


def patched_by_hook(lens: SpeechLM, layer: int, answer: str) -> torch.Tensor:
    module = lens.layers[layer].residual.module
    here = lens.encode(CONTROL, answer)
    there = lens.encode(PROMPT, answer)
    positions = torch.as_tensor(there.spans.positions("demo_text"))
    kept: list[torch.Tensor] = []
    hook = module.register_forward_hook(
        lambda m, given, made: kept.append(HookPoint.tensor(made)[:, positions].clone())
    )
    lens.logits(lens.inputs(here))
    hook.remove()

    def put(m: object, given: object, made: torch.Tensor) -> None:
        HookPoint.tensor(made)[:, positions] = kept[0]

    hook = module.register_forward_hook(put)
    try:
        return output_logits(lens, there)
    finally:
        hook.remove()


@pytest.mark.parametrize("family", DECODERS)
def test_a_patch_equals_a_forward_hook(family: str) -> None:
    lens = lens_of(family)
    clean = output_logits(lens, lens.encode(PROMPT, "suti"))
    patched = lens.patch(PROMPT, CONTROL, span="demo_text", layer=1, output="suti")
    np.testing.assert_allclose(patched, patched_by_hook(lens, 1, "suti"), atol=1e-6)
    assert float((patched - clean).abs().max()) > 1e-4
    same = lens.patch(PROMPT, PROMPT, span="demo_text", layer=1, output="suti")
    np.testing.assert_allclose(same, clean, atol=1e-6)


@pytest.mark.parametrize("family", DECODERS)
def test_the_last_row_of_the_logit_lens_is_the_models_answer(family: str) -> None:
    lens = lens_of(family)
    encoded = lens.encode(PROMPT, "suti")
    logits = output_logits(lens, encoded).log_softmax(-1)
    ids = encoded.ids[encoded.spans.positions("output")]
    made = lens.logit_lens(PROMPT, output="suti")
    np.testing.assert_allclose(made.logprob[-1], logits[range(len(ids)), ids], atol=1e-5)
    best = (logits > logits[range(len(ids)), ids][:, None]).sum(-1)
    assert made["rank"][-1].values.tolist() == best.tolist()
    assert made.layer.values.tolist() == [0, 1, 2]
    assert float(abs(made.logprob[0] - made.logprob[-1]).max()) > 1e-3


def test_a_capture_opened_outside_sees_a_trace_of_nnsight() -> None:
    lens = lens_of("qwen2-audio")
    encoded = lens.encode(PROMPT, "suti")
    groups = torch.as_tensor(encoded.spans.sources().astype(np.int64))[None]
    request = Request(groups=groups, n_groups=len(SOURCES))
    with capture(lens.sites, request) as plain:
        lens.logits(lens.inputs(encoded))
    inputs = lens.inputs(encoded)
    with capture(lens.sites, request) as inside, torch.no_grad(), lens.nnsight.trace(**inputs):
        pass
    assert torch.equal(plain.stacked("mass"), inside.stacked("mass"))


def test_two_threads_may_patch_one_model() -> None:
    lens = lens_of("qwen3-asr")
    alone = lens.patch(PROMPT, CONTROL, span="demo_text", layer=0, output="suti")
    found: list[torch.Tensor] = []

    def work() -> None:
        found.append(lens.patch(PROMPT, CONTROL, span="demo_text", layer=0, output="suti"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(torch.equal(one, alone) for one in found)


def test_spans_of_other_lengths_and_unknown_layers_are_refused() -> None:
    lens = lens_of("qwen3-asr")
    with pytest.raises(BadInput, match="cannot be patched"):
        lens.patch(PROMPT, probe(shots=1), span="demo_text", layer=0, output="suti")
    with pytest.raises(BadInput, match="there is no layer 7"):
        lens.patch(PROMPT, CONTROL, span="demo_text", layer=7, output="suti")


def test_nnsight_is_not_imported_before_it_is_asked_for() -> None:
    code = """
import sys
from attnlens.models.load import load
from attnlens.models.self_check import probe
lens = load("tiny:qwen2-audio")
lens.trace(probe())
assert "nnsight" not in sys.modules
lens.logit_lens(probe())
assert "nnsight" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
