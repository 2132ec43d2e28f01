"""What groups of keys write: the parts add up, their norms are norms, their effects are what the logits say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnlens.capture.attention import capture
from attnlens.capture.call import read_call
from attnlens.capture.contribution import KeyGroups, group_parts
from attnlens.capture.edits import AblateHeads
from attnlens.capture.projection import Projection
from attnlens.capture.request import Request
from attnlens.capture.rows import softmax_rows

N = 40


def grouped(groups: Tensor, weights: Tensor, values: Tensor, matrix: Tensor) -> Tensor:
    """The parts [B, H, rows, groups, hidden] by definition, every matrix written out."""
    shared = weights.shape[1] // values.shape[1]
    values = values.repeat_interleave(shared, 1)
    slices = matrix.reshape(len(matrix), weights.shape[1], -1)
    parts = []
    for group in range(int(groups.max()) + 1):
        member = (groups == group).float()[:, None, None, :]
        parts.append(torch.einsum("bhrk,bhkd,mhd->bhrm", weights * member, values, slices))
    return torch.stack(parts, 3)


@pytest.mark.parametrize("name", ["qwen2", "phi3", "gemma2"])
def test_norms_and_sums_of_parts(small: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnlens.capture.contribution.BUDGET", 30000)
    one = small(name)
    torch.manual_seed(5)
    inputs = one.inputs()
    groups = torch.stack([torch.arange(N) // 10, torch.randint(0, 4, (N,))])
    values: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}
    attention = one.layers[1].self_attn
    hooks = [attention.o_proj.register_forward_hook(lambda _, __, output: outputs.update({1: output}))]
    weights = one.eager_weights(**inputs)[1].float()

    def keep_values(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        hidden = kwargs["hidden_states"]
        value = attention.qkv_proj(hidden)[..., -2 * 8 :] if name == "phi3" else attention.v_proj(hidden)
        values[1] = value.view(2, N, 2, 8).transpose(1, 2)

    hooks.append(attention.register_forward_hook(keep_values, with_kwargs=True))
    asked = Request(groups=groups, n_groups=4, measures=("contribution",), layers=(1,), chunk=16)
    with capture(one.sites, asked) as record:
        one.logits(**inputs)
    for hook in hooks:
        hook.remove()
    parts = grouped(groups, weights, values[1], attention.o_proj.weight)
    valid = inputs["attention_mask"].bool()
    at = valid[:, None].expand(2, 8, N)
    found = record.stacked("contribution")[0]
    assert (found - parts.norm(dim=-1))[at].abs().max() < 1e-5
    assert (parts.sum((1, 3)) - outputs[1])[valid].abs().max() < 1e-5, "eager's own parts"
    # The same with our parts: from the values and the captured norms' source, not from the reference's matrices.
    assert found[at].max() > 0.01


def test_parts_add_up_to_the_output_of_the_projection() -> None:
    torch.manual_seed(6)
    q, k, v = torch.randn(2, 8, N, 8) * 3, torch.randn(2, 2, N, 8), torch.randn(2, 2, N, 8)
    linear = nn.Linear(64, 48)
    groups = torch.randint(0, 5, (2, N))
    call = read_call(nn.Identity(), (q, k, v), None, {}, style="sdpa", query_start=0, key_start=0)
    projection = Projection(linear, n_heads=8, heads=tuple(range(8)), size=8, like=q)
    slices = linear.weight.detach().view(48, 8, 8).transpose(0, 1)
    members = KeyGroups(groups, 5, batch=2, device=q.device)
    output = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    wanted = linear(output.transpose(1, 2).flatten(2)) - linear.bias
    for weights in softmax_rows(call, torch.arange(N), chunk=11):
        for some, parts in group_parts(weights, call, members):
            written = torch.einsum("bhrgd,hmd->brm", parts, slices)
            assert (written - wanted[:, weights.rows[some]]).abs().max() < 1e-5
            direct = torch.einsum("bhrgd,hmd->bhrgm", parts, slices).norm(dim=-1)
            assert (direct - projection.norms(parts)).abs().max() < 1e-5


def test_projection_behind_an_adapter_is_read_by_its_effect() -> None:
    torch.manual_seed(0)

    class Adapted(nn.Module):
        """A projection whose weight alone does not say what it does."""

        def __init__(self) -> None:
            super().__init__()
            self.base, self.more = nn.Linear(8, 6), nn.Linear(8, 6)
            self.weight = self.base.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + self.more(x)

    module = Adapted()
    found = Projection(module, n_heads=2, heads=(1,), size=4, like=torch.zeros(1))
    wanted = (module.base.weight + module.more.weight)[:, 4:].detach()
    part, direction = torch.randn(1, 1, 1, 1, 4), torch.randn(1, 1, 6)
    assert torch.allclose(found.norms(part).squeeze(), (wanted @ part.squeeze()).norm(), atol=1e-6)
    assert torch.allclose(found.pull(direction).squeeze(), direction.squeeze() @ wanted, atol=1e-6)


@pytest.mark.parametrize("how", ["weight", "data", "adapter"])
def test_a_projection_that_changed_is_read_anew(how: str) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(8, 6)
    module = linear if how != "adapter" else nn.Sequential(linear)
    part = torch.randn(1, 2, 3, 1, 4)

    def norms() -> Tensor:
        return Projection(module, n_heads=2, heads=(0, 1), size=4, like=torch.zeros(1)).norms(part)

    before = norms()
    assert torch.equal(norms(), before)
    if how == "data":
        linear.weight.data[0, 0] += 0.5
    else:
        with torch.no_grad():
            linear.weight[0, 0] += 0.5
    after = norms()
    slices = linear.weight.detach().view(6, 2, 4).transpose(0, 1)
    assert torch.allclose(after, torch.einsum("bhrgd,hmd->bhrgm", part, slices).norm(dim=-1), atol=1e-6)
    assert not torch.equal(after[:, 0], before[:, 0])
    assert torch.allclose(after[:, 1], before[:, 1], atol=1e-6)


def silence(one: Any, layer: int) -> None:
    """Make everything after one layer's attention do nothing, so that its effect is direct and no more."""
    with torch.no_grad():
        for number, each in enumerate(one.layers):
            if number >= layer:
                each.mlp.down_proj.weight.zero_()
            if number > layer:
                each.self_attn.o_proj.weight.zero_()


@pytest.mark.parametrize("name", ["qwen2", "gemma2"])
def test_effects_are_what_the_logits_lose(small: Any, name: str) -> None:
    """Without the layer, the gold logit falls by the effect, once both logits are put on the same scale of the norm."""
    one = small(name, **({"final_logit_softcapping": None} if name == "gemma2" else {}))
    silence(one, 1)
    inputs = one.inputs(lengths=(N, N))
    rows = torch.tensor([39, 20, 30])
    gold = torch.randint(3, 60, (2, 3))
    asked = Request(
        groups=torch.arange(N)[None] // 10, n_groups=4, rows=rows, gold=gold, measures=("logit_effect",), layers=(1,)
    )
    lengths: list[Tensor] = []
    eps = one.model.config.rms_norm_eps
    hook = one.model.model.norm.register_forward_hook(
        lambda _, args, __: lengths.append((args[0].square().mean(-1) + eps).sqrt())
    )
    with capture(one.sites, asked) as record:
        full = one.logits(**inputs)
    with capture(one.sites, None, [AblateHeads(layers=(1,), heads=tuple(range(8)))]):
        without = one.logits(**inputs)
    hook.remove()
    with_, less = lengths
    lost = full - without * (less / with_)[..., None]
    lost = lost[:, rows].gather(2, gold[..., None])[..., 0]
    effect = record.stacked("logit_effect")[0]
    assert effect.shape == (2, 8, 3, 4)
    # stacked() sorts rows by position: 20, 30, 39.
    total = effect.sum((1, 3))[:, [2, 0, 1]]
    assert lost.abs().max() > 1e-2
    assert (total - lost).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["qwen2", "gemma2"])
def test_effects_are_exact_with_the_norm_held(small: Any, name: str) -> None:
    one = small(name)
    inputs = one.inputs(lengths=(N, N))
    rows = torch.tensor([17, 30, 39])
    gold = torch.randint(3, 60, (2, 3))
    gold[1, 0] = -1
    kept: dict[str, Any] = {}
    layer = one.layers[0]
    inner = layer.post_attention_layernorm if name == "gemma2" else layer.self_attn.o_proj
    hooks = [
        inner.register_forward_hook(lambda _, __, output: kept.update(written=output)),
        one.model.model.norm.register_forward_hook(lambda _, args, output: kept.update(x=args[0], y=output)),
    ]
    asked = Request(
        groups=torch.arange(N)[None] // 10, n_groups=4, rows=rows, gold=gold, measures=("logit_effect",), layers=(0,)
    )
    with capture(one.sites, asked) as record:
        one.logits(**inputs)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        held = kept["y"] / kept["x"] * kept["written"]
        wanted = (held @ one.model.lm_head.weight.T)[:, rows].gather(2, gold.clamp_min(0)[..., None])[..., 0]
    total = record.stacked("logit_effect")[0].sum((1, 3))
    assert bool(total[1, 0].isnan())
    wanted[1, 0] = total[1, 0] = 0
    assert (total - wanted).abs().max() < 1e-5


def test_effects_through_a_layer_norm(whisper: Any) -> None:
    inputs = {"input_features": torch.randn(1, 16, 60), "decoder_input_ids": torch.randint(3, 60, (1, 11))}
    decoder = whisper.model.model.decoder
    with torch.no_grad():
        decoder.layer_norm.weight.add_(torch.randn(32) * 0.3)
        decoder.layer_norm.bias.add_(torch.randn(32))
    kept: dict[str, Any] = {}
    hooks = [
        decoder.layers[1].encoder_attn.out_proj.register_forward_hook(lambda _, __, out: kept.update(written=out)),
        decoder.layer_norm.register_forward_hook(lambda _, args, __: kept.update(x=args[0])),
    ]
    rows, gold = torch.tensor([3, 10]), torch.tensor([[7, 9]])
    asked = Request(
        cross_groups=torch.arange(30)[None] // 10,
        n_groups=3,
        rows=rows,
        gold=gold,
        measures=("logit_effect",),
        kinds=("cross",),
    )
    with capture(whisper.sites, asked) as record:
        whisper.logits(**inputs)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        written = kept["written"] - decoder.layers[1].encoder_attn.out_proj.bias
        x = kept["x"]
        deviation = (x.var(-1, unbiased=False, keepdim=True) + decoder.layer_norm.eps).sqrt()
        held = (written - written.mean(-1, keepdim=True)) / deviation * decoder.layer_norm.weight
        wanted = (held[:, rows] * whisper.model.proj_out.weight[gold]).sum(-1)
    assert (record.stacked("logit_effect", "cross")[1].sum((1, 3)) - wanted).abs().max() < 1e-5


def test_replaced_heads_write_nothing_of_the_prompt(small: Any) -> None:
    one = small("llama")
    inputs = one.inputs(lengths=(N,))
    queries = torch.arange(N)[None] >= 30
    asked = Request(groups=torch.arange(N)[None] // 10, n_groups=4, measures=("contribution", "mass"))
    with capture(one.sites, asked, [AblateHeads(layers=(1,), heads=(2, 6), queries=queries)]) as record:
        one.logits(**inputs)
    found = record.stacked("contribution")[1, 0]
    assert (found[[2, 6], 30:] == 0).all()
    assert (found[[2, 6], 29].sum(-1) > 0).all()
    assert (found[3, 30:].sum(-1) > 0).all()
    assert (record.stacked("mass")[1, 0, 2, 30:].sum(-1) - 1).abs().max() < 1e-6
