"""A model outside transformers: decoder layers, a label vector and a callable are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from attnlens.capture.attention import capture
from attnlens.capture.request import Request
from attnlens.context.build import build_prompt
from attnlens.context.encode import Encoded, encode
from attnlens.errors import UnsupportedModel
from attnlens.models.load import load
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import front_end, utterance

PROMPT = build_prompt(utterance("t"), [], condition="asr")


class ToyAttention(nn.Module):
    """Of another code base: its own names, and only the call of the interface in common."""

    is_causal = True

    def __init__(self) -> None:
        super().__init__()
        from transformers import PretrainedConfig

        self.config = PretrainedConfig()
        self.config._attn_implementation = "sdpa"
        self.mix = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        heads = self.mix(states).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        call = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        made, _ = call(self, *heads, None, dropout=0.0, scaling=0.5)
        return self.out(made.flatten(-2))


class ToyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.think = ToyAttention(), nn.Linear(16, 16)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = states + self.attend(states)
        return states + self.think(states)


class Toy(nn.Module):
    """Groups of frames and tokens added up into one position each, as in MiMo-Audio, and no transformers class."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Embedding(320, 16)
        self.trunk = nn.Sequential(ToyLayer(), ToyLayer())
        self.say = nn.Linear(16, 320)

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.say(self.trunk(self.read(inputs["codes"]).sum(2)))


def naive_mass(toy: Toy, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Return the first layer's masses [prompts, heads, positions, groups] from their definition."""
    first: Any = toy.trunk[0]
    with torch.no_grad():
        mixed = first.attend.mix(toy.read(inputs["codes"]).sum(2))
    query, key, _ = mixed.unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
    scores = 0.5 * query @ key.mT
    unseen = torch.ones(scores.shape[-2:]).triu(1).bool()
    pattern = scores.masked_fill(unseen, -torch.inf).softmax(-1)
    return pattern @ torch.nn.functional.one_hot(labels, 3).float()[:, None]


def test_a_model_outside_transformers_needs_layers_labels_and_a_callable() -> None:
    toy = Toy()
    names: dict[str, Any] = {"attention": "attend", "projection": "out", "mlp": "think"}
    one = SpeechLM.wrap(toy, decoder=toy.trunk, layers=list(toy.trunk), forward=toy.logits, n_heads=4, **names)
    inputs = {"codes": torch.arange(24).reshape(1, 6, 4)}
    assert torch.equal(one.logits(inputs, keep=2), toy.logits(inputs)[:, -2:])
    assert [layer.attention_output.path for layer in one.layers] == ["trunk.0.attend", "trunk.1.attend"]
    assert one.sites.layers("self") == (0, 1)
    assert (one.n_layers, one.n_heads, one.family, one.cache_border) == (2, 4, "wrapped", None)
    assert one.attn == "sdpa"
    labels = torch.tensor([[0, 0, 1, 1, 1, 2]])
    with capture(one.sites, Request(groups=labels, n_groups=3)) as record:
        seen = one.logits(inputs)
    assert torch.equal(seen, toy.logits(inputs))
    mass = record.stacked("mass")
    assert mass.shape == (2, 1, 4, 6, 3)
    torch.testing.assert_close(mass[0], naive_mass(toy, inputs, labels), rtol=0.0, atol=1e-6)
    with pytest.raises(UnsupportedModel, match="encode="):
        one.encode(PROMPT)
    with pytest.raises(UnsupportedModel, match="cannot generate"):
        one.generate(load("tiny:qwen3-asr").encode(PROMPT))
    with pytest.raises(UnsupportedModel, match="no module 'self_attn'"):
        _ = SpeechLM.wrap(toy, decoder=toy.trunk, layers=list(toy.trunk), forward=toy.logits, n_heads=4).layers


def test_a_wrapped_model_reads_prompts_by_its_own_functions() -> None:
    toy, front = Toy(), front_end("qwen3-asr")

    def inputs(batch: Sequence[Encoded]) -> dict[str, Any]:
        return {"codes": torch.as_tensor(batch[0].ids)[None, :, None]}

    one = SpeechLM.wrap(
        toy,
        decoder=toy.trunk,
        layers=list(toy.trunk),
        forward=toy.logits,
        n_heads=4,
        encode=lambda asked, output: encode(asked, front, output=output),
        inputs=inputs,
        attention="attend",
        projection="out",
        mlp="think",
    )
    encoded = one.encode(PROMPT, "kami")
    assert one.logits(one.inputs(encoded)).shape == (1, len(encoded.spans), 320)
