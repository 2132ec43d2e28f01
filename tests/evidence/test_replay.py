from __future__ import annotations

import numpy as np
import pytest
import torch

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput
from attnlens.models.interventions import edits_for
from attnlens.models.replay import INPUT, Replay, Stream
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import tiny

NEAR = 2e-4
"""Nats of a whole answer: a pass over part of the positions blocks its sums in another way than a whole one."""


@pytest.mark.parametrize("family", ["qwen3-asr", "qwen3-omni", "phi4-multimodal", "whisper"])
@pytest.mark.parametrize(("queries", "keys"), [("output", "demo_text"), ("demo_text", "demo_text"), ("output", "sink")])
def test_a_replay_is_a_pass_over_everything(family: str, queries: str, keys: str, prompts: list[Prompt]) -> None:
    lens, prompt = tiny(family), prompts[0]
    if family == "whisper":
        from attnlens.evidence.asked import shown_as

        prompt = shown_as(prompt, "icl")
    encoded = lens.encode(prompt, prompt.target.text)
    replay = Replay(lens, encoded)
    assert replay.clean == pytest.approx(lens.trace(prompt).nll.item(), abs=NEAR)
    with lens.knockout(queries=queries, keys=keys, layers=[1]):  # type: ignore[arg-type]
        edits = edits_for(lens, encoded)
        expected = lens.trace(prompt).nll.item()
    assert replay.nll(edits) == pytest.approx(expected, abs=NEAR)
    assert abs(expected - replay.clean) > 2 * NEAR
    # Reading under edits leaves what is kept as it was.
    assert replay.nll(edits) == replay.nll(edits)


def test_streams_are_replaced_as_by_a_hook(lens: SpeechLM, prompts: list[Prompt]) -> None:
    encoded = lens.encode(prompts[0], prompts[0].target.text)
    replay = Replay(lens, encoded)
    at = encoded.spans.positions("demo_text")
    for layer in (INPUT, 0, 2):
        own = replay.streams([layer])[layer]
        assert replay.nll(streams=[Stream(layer, at, own[at])]) == pytest.approx(replay.clean, abs=NEAR)
    values = torch.randn(len(at), own.shape[1], generator=torch.Generator().manual_seed(0))

    def put(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed[0, torch.as_tensor(at)] = values
        return changed

    hook = lens.layers[1].module.register_forward_hook(put)
    try:
        expected = lens.trace(prompts[0]).nll.item()
    finally:
        hook.remove()
    assert replay.nll(streams=[Stream(1, at, values)]) == pytest.approx(expected, abs=NEAR)


def test_a_patch_is_that_of_the_lens(lens: SpeechLM, prompts: list[Prompt]) -> None:
    from attnlens.context.controls import apply_control

    clean = prompts[0]
    corrupted = apply_control(clean, "audio-reversed", seed=0)
    to = lens.encode(corrupted, clean.target.text)
    at = to.spans.positions("demo_audio")
    stream = Replay(lens, lens.encode(clean, clean.target.text)).streams([1])[1][at]
    logits = lens.patch(corrupted, clean, span="demo_audio", layer=1)
    gold = torch.as_tensor(to.ids[to.spans.positions("output")])
    expected = -logits.float().log_softmax(-1).gather(1, gold[:, None]).sum().item()
    assert Replay(lens, to).nll(streams=[Stream(1, at, stream)]) == pytest.approx(expected, abs=NEAR)


def test_what_keys_receive_adds_up_to_the_mass(lens: SpeechLM, prompts: list[Prompt]) -> None:
    encoded = lens.encode(prompts[0], prompts[0].target.text)
    replay = Replay(lens, encoded)
    rows = np.zeros(len(replay), dtype=bool)
    rows[replay.rows] = True
    received = replay.received(rows)
    mass = lens.trace(prompts[0]).mass.isel(item=0, query=0).mean("head")
    for source in ("demo_audio", "demo_text", "sink"):
        at = encoded.spans.positions(source)
        np.testing.assert_allclose(received[:, at].sum(1), mass.sel(source=source).values, atol=1e-5)


def test_refused(lens: SpeechLM, prompts: list[Prompt]) -> None:
    with pytest.raises(BadInput, match="no answer"):
        Replay(lens, lens.encode(prompts[0]))
    replay = Replay(lens, lens.encode(prompts[0], "suto"))
    with pytest.raises(BadInput, match="no layer 7"):
        replay.streams([7])
