"""Encoder, decoder-self and decoder-cross reach the same function and are told apart by their modules."""

from __future__ import annotations

from typing import Any

import torch

from attnlens.capture.attention import capture
from attnlens.capture.request import Request
from attnlens.capture.sites import KINDS


def test_each_kind_equals_eager(whisper: Any, masses: Any) -> None:
    torch.manual_seed(1)
    inputs = {"input_features": torch.randn(2, 16, 60), "decoder_input_ids": torch.randint(3, 60, (2, 11))}
    whisper.use("eager")
    with torch.no_grad():
        eager = whisper.model(**inputs, use_cache=False, output_attentions=True)
    whisper.use("sdpa")
    bare = whisper.logits(**inputs)
    groups, frames = torch.randint(0, 3, (2, 11)), torch.randint(0, 3, (2, 30))
    measures = ("mass", "contribution")
    asked = Request(groups=groups, cross_groups=frames, n_groups=3, kinds=KINDS, measures=measures)
    with capture(whisper.sites, asked) as record:
        assert torch.equal(whisper.logits(**inputs), bare)
    matrices = (eager.decoder_attentions, eager.cross_attentions, eager.encoder_attentions)
    for kind, weights, labels in zip(KINDS, matrices, (groups, frames, frames), strict=True):
        wanted = torch.stack([masses(w, labels, 3) for w in weights])
        assert (record.stacked("mass", kind) - wanted).abs().max() < 3e-6
        assert record.stacked("contribution", kind).shape == wanted.shape


def test_generated_steps_of_cross_attention(whisper: Any) -> None:
    torch.manual_seed(1)
    features = torch.randn(1, 16, 60)
    frames = torch.randint(0, 3, (1, 30))
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    start = {"decoder_input_ids": torch.tensor([[1, 7, 8]])}
    whisper.use("eager")
    with torch.no_grad():
        eager = whisper.model.generate(features, **start, **options, output_attentions=True)
    whisper.use("sdpa")
    steps = [torch.stack(list(layers)) for layers in eager.cross_attentions]
    spans = torch.nn.functional.one_hot(frames, 3).float()
    wanted = torch.cat(steps, 3) @ spans[:, None]
    asked = Request(cross_groups=frames, n_groups=3, kinds=("cross",))
    with torch.no_grad(), capture(whisper.sites, asked) as record:
        whisper.model.generate(features, **start, **options)
    assert record.rows.tolist() == list(range(wanted.shape[3]))
    assert (record.stacked("mass", "cross") - wanted).abs().max() < 3e-6


def test_rows_of_cross_attention_are_positions_of_the_decoder(whisper: Any) -> None:
    inputs = {"input_features": torch.randn(1, 16, 60), "decoder_input_ids": torch.randint(3, 60, (1, 11))}
    frames = torch.randint(0, 3, (1, 30))
    with capture(whisper.sites, Request(cross_groups=frames, n_groups=3, kinds=("cross",))) as whole:
        whisper.logits(**inputs)
    asked = Request(cross_groups=frames, n_groups=3, kinds=("cross",), rows=torch.tensor([4, 9]))
    with capture(whisper.sites, asked) as some:
        whisper.logits(**inputs)
    wanted = whole.stacked("mass", "cross")[:, :, :, [4, 9]]
    assert torch.allclose(some.stacked("mass", "cross"), wanted, atol=1e-6)
