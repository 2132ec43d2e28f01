from __future__ import annotations

import numpy as np
import pytest
import torch

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.model_null import model_null
from attnlens.evidence.sinks import find_sinks
from attnlens.models.reinitialised import reinitialised
from attnlens.models.speechlm import SpeechLM


def test_weights_come_back_even_after_an_error(lens: SpeechLM, prompts: list[Prompt]) -> None:
    before = {name: one.clone() for name, one in lens.model.named_parameters()}
    seen: list[bool] = []

    def stopped() -> None:
        with reinitialised(lens, seed=1):
            seen.extend(not torch.equal(one, before[name]) for name, one in lens.model.named_parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert any(seen)
    assert all(torch.equal(one, before[name]) for name, one in lens.model.named_parameters())


def test_only_the_layers_named_change_and_keep_their_spread(lens: SpeechLM) -> None:
    before = {name: one.clone() for name, one in lens.model.named_parameters()}
    with reinitialised(lens, [1], seed=3):
        changed = {name for name, one in lens.model.named_parameters() if not torch.equal(one, before[name])}
        assert changed
        assert all(".layers.1." in name for name in changed)
        for name, one in lens.model.named_parameters():
            if name in changed and one.numel() > 500:
                assert one.std().item() == pytest.approx(before[name].std().item(), rel=0.1)
        drawn = dict(lens.model.named_parameters())[sorted(changed)[0]].clone()
    with reinitialised(lens, [1], seed=3):
        assert torch.equal(dict(lens.model.named_parameters())[sorted(changed)[0]], drawn)


def test_recordings_are_encoded_by_the_weights_in_force(lens: SpeechLM, prompts: list[Prompt]) -> None:
    from attnlens.models.clips import reusing_clips

    encoded = lens.encode(prompts[0])
    with reusing_clips(lens):
        trained = lens.inputs(encoded)["inputs_embeds"]
        with reinitialised(lens):
            assert not torch.equal(lens.inputs(encoded)["inputs_embeds"], trained)
        assert torch.equal(lens.inputs(encoded)["inputs_embeds"], trained)


def test_the_null_of_models(lens: SpeechLM, prompts: list[Prompt]) -> None:
    told: list[int] = []
    null = model_null(lens, prompts[:6], modes=["each", "whole"], layers=[2], tick=lambda: told.append(1))
    frame = null.to_frame()
    assert frame["drawn anew"].tolist() == ["layer 2", "all weights"]
    assert len(told) == 10
    # Drawing one of three layers anew leaves the other two's maps as they were.
    assert frame["rho"][0] > frame["rho"][1]
    assert (frame["low"] <= frame["rho"]).all()
    assert len(null.findings()) == lens.n_layers
    assert all(one.controls[0].name == "random weights" for one in null.findings() if one.controls)
    plan = model_null(lens, prompts[:1], modes=["top-down"])
    names = [one.name for one in plan.redrawn if one.seed == 0]
    assert names == ["layer 2", "layers 1-2", "layers 0-2"]
    assert "Spearman" in str(plan)
    with pytest.raises(BadInput, match="as a whole"):
        plan.findings()


def test_nulls_that_are_none(lens: SpeechLM, prompts: list[Prompt]) -> None:
    from attnlens.evidence.asked import shown_as

    with pytest.raises(BadInput, match="too few"):
        model_null(lens, prompts[:1], seeds=[0, 1])
    with pytest.raises(UnknownName, match="mode"):
        model_null(lens, prompts[:1], modes=["some"])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="audio and text"):
        model_null(lens, [shown_as(prompts[0], "icl")], modes=["whole"])
    with pytest.raises(BadInput, match="no such layer"), reinitialised(lens, [5]):
        pass


def test_sinks_are_what_collects_at_every_layer(lens: SpeechLM, prompts: list[Prompt]) -> None:
    some = find_sinks(lens, prompts[:3], times=1.5)
    trace = lens.trace(prompts[0], measures=("received",))
    received = trace.received.values[0]
    encoded = lens.encode(prompts[0], prompts[0].target.text)
    due = (received * received.shape[1] >= 1.5).all(0)
    due[encoded.spans.positions("output")[0] - 1 : -1] = False
    strings = lens.front.strings(encoded.ids)
    kinds = {(some_.source, some_.token) for some_ in some.found}
    labels = [span.label.source for span in encoded.spans for _ in range(len(span))]
    assert {(labels[place], strings[place]) for place in np.flatnonzero(due)} <= kinds
    none = find_sinks(lens, prompts[:2], times=1e6)
    assert not none.found
    np.testing.assert_array_equal(none.with_them, none.without)
    assert none.to_frame().columns.tolist() == ["source", "token", "prompts", "mass", "least"]
    assert "with and without" in str(some)
    for options in ({"times": 0.5}, {"layers": [9]}):
        with pytest.raises(BadInput):
            find_sinks(lens, prompts[:1], **options)
    with pytest.raises(BadInput, match="nothing to read"):
        find_sinks(lens, [])
