"""Edits against attention from scratch with n x n matrices: logits and masses, padded batches, cached generation."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from attnlens.capture.attention import capture
from attnlens.capture.edits import AblateHeads, Edit, Knockout, ShuffleValues
from attnlens.capture.request import Request
from attnlens.capture.sites import Site

How = Literal["mask", "zero"]
What = Literal["v", "k", "kv"]
N, B, H = 40, 2, 8
FAMILIES = ["qwen2", "mistral", "phi3", "gemma2"]


def spans() -> tuple[Tensor, Tensor, Tensor]:
    """Groups, the queries and the keys of a knockout; the second item of the batch is cut elsewhere."""
    at = torch.arange(N)
    groups = torch.stack([at // 10, at // 8])
    queries = torch.stack([at >= 28, (at >= 25) & (at < 35)])
    return groups, queries, groups == 2


def compare(one: Any, reference: Any, masses: Any, edits: list[Edit], *, close: float = 1e-6) -> None:
    """Logits and masses under the edits, ours against the reference's, and against no edit at all."""
    inputs = one.inputs()
    groups, _, _ = spans()
    bare = one.logits(**inputs)
    with capture(one.sites, Request(groups=groups, n_groups=5), edits) as record:
        ours = one.logits(**inputs)
    with capture(one.sites, None, edits):
        assert torch.equal(one.logits(**inputs), ours), "reading changes what editing does"
    assert torch.equal(one.logits(**inputs), bare), "an edit outlives its block"
    one.use("naive")
    reference.weights.clear()
    theirs = one.logits(**inputs)
    one.use(one.attn)
    valid = inputs["attention_mask"].bool()
    assert (ours - bare)[valid].abs().max() > 1e-3, "the edit did nothing"
    assert (ours - theirs)[valid].abs().max() < close
    weights = torch.stack([reference.weights[Site(layer, "self")][0] for layer in range(3)])
    wanted = torch.stack([masses(w, groups, 5) for w in weights])
    at = valid[None, :, None].expand(weights.shape[:-1])
    assert (record.stacked("mass") - wanted)[at].abs().max() < 3e-6


@pytest.mark.parametrize("how", ["mask", "zero"])
@pytest.mark.parametrize("heads", [None, (1, 5)], ids=["all heads", "two heads"])
@pytest.mark.parametrize("name", FAMILIES)
def test_knockout(small: Any, naive: Any, masses: Any, *, name: str, heads: tuple[int, ...] | None, how: How) -> None:
    one = small(name)
    _, queries, keys = spans()
    layers = (1,) if heads is None else None
    cut = queries[:, None, :, None] & keys[:, None, None, :]
    cut = cut & torch.tensor([heads is None or head in heads for head in range(H)])[None, :, None, None]
    reference = naive(one.sites)
    reference.cut = {Site(layer, "self"): (cut, how) for layer in layers or range(3)}
    edit = Knockout(queries=queries, keys=keys, layers=layers, heads=heads, how=how)
    compare(one, reference, masses, [edit])


def test_mask_hands_the_weight_on_and_zero_does_not(small: Any) -> None:
    one = small("qwen2")
    inputs = one.inputs(lengths=(N, N))
    groups, queries, keys = spans()
    found = {}
    hows: tuple[How, ...] = ("mask", "zero")
    for how in hows:
        edit = Knockout(queries=queries, keys=keys, layers=(0,), how=how)
        with capture(one.sites, Request(groups=groups, n_groups=5, layers=(0,)), [edit]) as record:
            one.logits(**inputs)
        found[how] = record.stacked("mass")[0]
    with capture(one.sites, Request(groups=groups, n_groups=5, layers=(0,))) as record:
        one.logits(**inputs)
    bare = record.stacked("mass")[0]
    rest = torch.tensor([0, 1, 3, 4])
    for item in range(B):
        rows = queries[item]
        masked, zeroed, was = (one_[item][:, rows] for one_ in (found["mask"], found["zero"], bare))
        assert masked[..., 2].abs().max() == zeroed[..., 2].abs().max() == 0
        assert (masked.sum(-1) - 1).abs().max() < 1e-6
        assert torch.allclose(zeroed[..., rest], was[..., rest], atol=1e-6)
        assert torch.allclose(zeroed.sum(-1), 1 - was[..., 2], atol=1e-6)
        assert torch.allclose(masked[..., rest], was[..., rest] / (1 - was[..., 2:3]), atol=1e-4)
        assert torch.equal(found["mask"][item][:, ~rows], bare[item][:, ~rows])


def test_a_row_cut_from_everything_writes_nothing(small: Any) -> None:
    one = small("llama")
    inputs = one.inputs(lengths=(N,))
    everything = torch.ones(1, N, dtype=torch.bool)
    cut = Knockout(queries=everything, keys=everything)
    gone = AblateHeads(layers=None, heads=tuple(range(H)))
    with capture(one.sites, None, [cut]):
        ours = one.logits(**inputs)
    with capture(one.sites, None, [gone]):
        assert torch.equal(one.logits(**inputs), ours)
    assert ours.isfinite().all()


@pytest.mark.parametrize("value", ["zero", "mean", "resample"])
@pytest.mark.parametrize("name", ["qwen2", "phi3"])
def test_ablated_heads(small: Any, naive: Any, masses: Any, *, name: str, value: str) -> None:
    one = small(name)
    torch.manual_seed(3)
    _, queries, _ = spans()
    heads = (0, 3)
    new: dict[str, Tensor] = {
        "zero": torch.zeros(2, 8),
        "mean": torch.randn(2, 8),
        "resample": torch.randn(B, N, 2, 8),
    }
    filled = new[value]

    def replaced(output: Tensor) -> Tensor:
        output = output.clone()
        wanted = filled.expand(B, N, 2, 8).transpose(1, 2)
        for place, head in enumerate(heads):
            output[:, head] = torch.where(queries[..., None], wanted[:, place], output[:, head])
        return output

    reference = naive(one.sites)
    reference.replace = {Site(1, "self"): replaced}
    edit = AblateHeads(layers=(1,), heads=heads, value="zero" if value == "zero" else filled, queries=queries)
    compare(one, reference, masses, [edit])


@pytest.mark.parametrize("what", ["v", "k", "kv"])
@pytest.mark.parametrize("name", ["qwen2", "mistral"])
def test_shuffled_within_a_span(
    small: Any, naive: Any, masses: Any, *, name: str, what: Literal["v", "k", "kv"]
) -> None:
    one = small(name)
    torch.manual_seed(4)
    order = torch.arange(N).repeat(B, 1)
    for item in range(B):
        span = torch.arange(14 + item, 24)
        order[item, span] = span[torch.randperm(len(span))]
    reference = naive(one.sites)
    reference.moved = {Site(layer, "self"): (order, what) for layer in (0, 2)}
    compare(one, reference, masses, [ShuffleValues(layers=(0, 2), permutation=order, what=what)])


def test_edits_compose_in_one_list_or_in_nested_blocks(small: Any, naive: Any, masses: Any) -> None:
    one = small("qwen2")
    groups, queries, keys = spans()
    inputs = one.inputs()
    order = torch.arange(N)[None].repeat(1, 1)
    order[0, 15:25] = order[0, 15:25].flip(0)
    edits: list[Edit] = [
        Knockout(queries=queries, keys=keys, layers=(0, 1)),
        Knockout(queries=queries, keys=groups == 1, heads=(2,), how="zero"),
        AblateHeads(layers=(2,), heads=(4,)),
        ShuffleValues(layers=None, permutation=order),
    ]
    request = Request(groups=groups, n_groups=5)
    with capture(one.sites, request, edits) as flat:
        expected = one.logits(**inputs)
    with (
        capture(one.sites, None, edits[:1]),
        capture(one.sites, request, edits[1:2]) as nested,
        capture(one.sites, None, edits[2:3]),
        capture(one.sites, None, edits[3:]),
    ):
        assert torch.equal(one.logits(**inputs), expected)
    assert torch.equal(nested.stacked("mass"), flat.stacked("mass"))


@pytest.mark.parametrize("how", ["mask", "zero"])
@pytest.mark.parametrize("name", ["qwen2", "mistral"])
def test_knockout_during_cached_generation(small: Any, naive: Any, *, name: str, how: How) -> None:
    one = small(name)
    inputs = one.inputs(lengths=(N,))
    new, end = 12, N + 12
    queries = torch.arange(end)[None] >= N - 1
    keys = (torch.arange(end)[None] >= 30) & (torch.arange(end)[None] < 38)
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    options |= {"output_logits": True, "return_dict_in_generate": True}
    edit = Knockout(queries=queries, keys=keys, how=how)
    asked = Request(groups=keys.long(), n_groups=2, rows=torch.arange(N - 1, end - 1))
    with torch.no_grad(), capture(one.sites, asked, [edit]) as record:
        ours = one.model.generate(**inputs, **options)
    reference = naive(one.sites)
    cut = (queries[:, None, :, None] & keys[:, None, None, :]).expand(1, H, end, end)
    # One forward over all tokens but the last: the cached steps, without a cache.
    reference.cut = {Site(layer, "self"): (cut[..., : end - 1, : end - 1], how) for layer in range(3)}
    one.use("naive")
    theirs = one.logits(input_ids=ours.sequences[:, :-1])[:, N - 1 :]
    one.use(one.attn)
    assert (torch.stack(ours.logits, 1) - theirs).abs().max() < 1e-6
    assert record.stacked("mass")[..., 1].abs().max() == 0


def test_knockout_of_cross_attention(whisper: Any, naive: Any) -> None:
    torch.manual_seed(1)
    inputs = {"input_features": torch.randn(1, 16, 60), "decoder_input_ids": torch.randint(3, 60, (1, 11))}
    frames = torch.arange(30)[None]
    edit = Knockout(queries=torch.ones(1, 11, dtype=torch.bool), keys=frames < 20, layers=(1,), kind="cross")
    bare = whisper.logits(**inputs)
    with capture(whisper.sites, None, [edit]):
        ours = whisper.logits(**inputs)
    reference = naive(whisper.sites)
    reference.cut = {Site(1, "cross"): ((frames < 20)[:, None, None].expand(1, 4, 11, 30), "mask")}
    whisper.use("naive")
    assert (ours - whisper.logits(**inputs)).abs().max() < 1e-6
    assert (ours - bare).abs().max() > 1e-4


def test_the_cache_keeps_what_was_written(small: Any) -> None:
    one = small("llama")
    inputs = one.inputs(lengths=(N,))
    order = torch.arange(N).flip(0)[None]
    with torch.no_grad():
        clean = one.model(**inputs, use_cache=True).past_key_values
        with capture(one.sites, None, [ShuffleValues(layers=(0,), permutation=order, what="kv")]):
            edited = one.model(**inputs, use_cache=True).past_key_values
    assert torch.equal(clean.layers[0].keys, edited.layers[0].keys)
    assert torch.equal(clean.layers[0].values, edited.layers[0].values)
