"""Sequences end to end against each by itself."""

from __future__ import annotations

import pytest
import torch

from attnlens.capture.packed import attend, decode_packed
from attnlens.organism.model import Size, make_front_end, make_model


@pytest.mark.parametrize("causal", [False, True])
def test_each_sequence_attends_to_itself_alone(causal: bool) -> None:
    torch.manual_seed(0)
    lengths = [3, 1, 17]
    q, k, v = (torch.randn(1, 2, sum(lengths), 8) for _ in range(3))
    made = attend(q, k, v, lengths, causal=causal, scale=0.3)
    end = 0
    for length in lengths:
        part = slice(end, end + length)
        scores = 0.3 * q[:, :, part] @ k[:, :, part].transpose(-1, -2)
        if causal:
            scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
        assert torch.allclose(made[:, :, part], scores.softmax(-1) @ v[:, :, part], atol=1e-6)
        end += length


def test_attention_keeps_the_precision_it_is_given() -> None:
    x = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    assert attend(x, x, x, [5], causal=True).dtype is torch.bfloat16


def test_a_decoder_gives_packed_what_it_gives_one_by_one_and_is_left_as_it_was() -> None:
    decoder = make_model(make_front_end(Size(width=32, layers=2, heads=2)), seed=0).model.language_model.eval()
    usual = decoder.config._attn_implementation
    one, other = torch.randn(5, 32, requires_grad=True), torch.randn(12, 32)
    made = decode_packed(decoder, torch.cat([one, other]), [5, 12])
    alone = [decoder(inputs_embeds=part[None], use_cache=False).last_hidden_state[0] for part in (one, other)]
    assert torch.allclose(made, torch.cat(alone), atol=1e-5)
    assert decoder.config._attn_implementation == usual
    together, apart = (torch.autograd.grad(states.square().sum(), one)[0] for states in (made[:5], alone[0]))
    assert torch.allclose(together, apart, atol=1e-4)
