"""Statistics of rows against eager attention's own matrices: GQA, windows, soft caps, left padding, all precisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.capture.attention import capture
from attnlens.capture.call import Style, read_call
from attnlens.capture.request import Request
from attnlens.capture.rows import softmax_rows

FAMILIES = ["qwen2", "llama", "mistral", "phi3", "gemma2"]
ALL = ("mass", "entropy", "max", "argmax", "received")


@pytest.mark.parametrize("rows", [None, (39, 12, 30)], ids=["all rows", "some rows"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_measure_equals_eager(small: Any, masses: Any, name: str, rows: tuple[int, ...] | None) -> None:
    one = small(name)
    inputs = one.inputs()
    weights = one.eager_weights(**inputs)
    assert max(float(w.max()) for w in weights) > 0.9, "attention is not peaked, so little is tested"
    bare = one.logits(**inputs)
    groups = torch.randint(-1, 4, (2, 40))
    chosen = None if rows is None else torch.tensor(rows)
    with capture(one.sites, Request(groups=groups, n_groups=4, rows=chosen, measures=ALL, chunk=7)) as record:
        logits = one.logits(**inputs)
    assert torch.equal(logits, bare), "reading changed the logits"

    at = record.rows
    assert at.tolist() == (list(range(40)) if rows is None else sorted(rows))
    eager = torch.stack(weights)[:, :, :, at].float()
    valid = inputs["attention_mask"].bool()[None, :, None, at].expand(eager.shape[:-1])
    mass = record.stacked("mass")
    wanted = torch.stack([masses(w, groups, 4) for w in eager])
    assert mass.shape == (3, 2, 8, len(at), 4)
    assert (mass - wanted)[valid].abs().max() < 3e-6
    assert (mass[~valid] == 0).all()
    entropy = -(eager * eager.clamp_min(1e-30).log()).sum(-1)
    assert (record.stacked("entropy") - entropy)[valid].abs().max() < 1e-5
    assert (record.stacked("max") - eager.amax(-1))[valid].abs().max() < 3e-6
    chosen_key = record.stacked("argmax")
    assert (eager.gather(-1, chosen_key[..., None])[..., 0] - eager.amax(-1))[valid].abs().max() < 2e-5
    received = (eager * valid[..., None]).sum(-2)
    assert (record.stacked("received") - received).abs().max() < 2e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_masses_of_all_groups_sum_to_one(small: Any, name: str) -> None:
    one = small(name)
    inputs = one.inputs()
    groups = torch.randint(0, 5, (2, 40))
    with capture(one.sites, Request(groups=groups, n_groups=5)) as record:
        one.logits(**inputs)
    sums = record.stacked("mass").sum(-1)
    valid = inputs["attention_mask"].bool()[None, :, None].expand(sums.shape)
    assert (sums[valid] - 1).abs().max() < 1e-6


def test_layers_and_heads_are_those_of_the_whole(small: Any) -> None:
    one = small("mistral")
    inputs = one.inputs()
    groups = torch.randint(0, 3, (1, 40))
    with capture(one.sites, Request(groups=groups, n_groups=3, measures=ALL)) as whole:
        one.logits(**inputs)
    some = Request(groups=groups, n_groups=3, measures=ALL, layers=(2, 0), heads=(7, 1, 4))
    with capture(one.sites, some) as part:
        one.logits(**inputs)
    assert part.layers == (0, 2)
    for measure in ALL:
        expected = whole.stacked(measure)[[0, 2]][:, :, [7, 1, 4]]
        assert torch.allclose(part.stacked(measure).float(), expected.float(), atol=1e-6), measure


def test_averages_over_query_groups_are_averages_of_rows(small: Any) -> None:
    one = small("qwen2")
    inputs = one.inputs()
    groups = torch.randint(0, 3, (2, 40))
    queries = torch.randint(-1, 2, (2, 40))
    with capture(one.sites, Request(groups=groups, n_groups=3, measures=("mass", "entropy"))) as rows:
        one.logits(**inputs)
    asked = Request(
        groups=groups, n_groups=3, measures=("mass", "entropy"), query_groups=queries, n_query_groups=2, chunk=9
    )
    with capture(one.sites, asked) as averaged:
        one.logits(**inputs)
    for measure in ("mass", "entropy"):
        whole, found = rows.stacked(measure), averaged.stacked(measure)
        assert found.shape[3] == 2
        for item in range(2):
            for group in range(2):
                wanted = whole[:, item, :, queries[item] == group].mean(2)
                assert (found[:, item, :, group] - wanted).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["qwen2", "mistral", "gemma2"])
def test_half_precision_is_exact_where_eager_rounds(
    small: Any, naive: Any, masses: Any, *, name: str, dtype: torch.dtype
) -> None:
    one = small(name)
    one.model.to(dtype)
    inputs = one.inputs()
    groups = torch.randint(0, 3, (2, 40))
    bare = one.logits(**inputs)
    with capture(one.sites, Request(groups=groups, n_groups=3)) as record:
        assert torch.equal(one.logits(**inputs), bare)
    eager = one.eager_weights(**inputs)
    reference = naive(one.sites)
    one.use("naive")
    one.logits(**inputs)
    # The first layer's queries and keys are the same for all three; later ones have drifted apart.
    (weights,) = next(found for site, found in reference.weights.items() if site.layer == 0)
    valid = inputs["attention_mask"].bool()[:, None].expand(weights.shape[:-1])
    wanted = masses(weights, groups, 3)
    ours = (record.stacked("mass")[0] - wanted)[valid].abs().max()
    theirs = (masses(eager[0], groups, 3) - wanted)[valid].abs().max()
    assert ours < 3e-6
    assert theirs > 1e-5
    sums = record.stacked("mass").sum(-1)
    assert (sums[:, valid] - 1).abs().max() < 1e-6


def test_autocast_does_not_reach_the_statistics(small: Any) -> None:
    one = small("llama")
    inputs = one.inputs()
    groups = torch.randint(0, 3, (1, 40))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bare = one.logits(**inputs)
        with capture(one.sites, Request(groups=groups, n_groups=3, measures=ALL)) as record:
            assert torch.equal(one.logits(**inputs), bare)
    assert record.stacked("mass").dtype == torch.float32


def test_bias_on_the_scores_is_counted() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 9, 8) for _ in range(3))
    bias = torch.randn(1, 4, 9, 9)
    styles: tuple[Style, ...] = ("sdpa", "eager")
    for style in styles:
        call = read_call(
            torch.nn.Identity(),
            (q, k, v),
            None,
            {"position_bias": bias, "is_causal": False},
            style=style,
            query_start=0,
            key_start=0,
        )
        (weights,) = softmax_rows(call, torch.arange(9))
        assert torch.allclose(weights.p, (q @ k.mT * 8**-0.5 + bias).softmax(-1), atol=1e-6)
        some = call.take((3, 1))
        (weights,) = softmax_rows(some, torch.tensor([2, 5]))
        wanted = (q @ k.mT * 8**-0.5 + bias).softmax(-1)[:, [3, 1]][:, :, [2, 5]]
        assert torch.allclose(weights.p, wanted, atol=1e-6)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    shared=st.integers(1, 3),
    key_heads=st.integers(1, 2),
    n_keys=st.integers(1, 12),
    chunk=st.integers(1, 5),
    kind=st.sampled_from(["none", "bool", "additive"]),
    seed=st.integers(0, 1000),
)
def test_rows_are_a_softmax(*, shared: int, key_heads: int, n_keys: int, chunk: int, kind: str, seed: int) -> None:
    torch.manual_seed(seed)
    heads = shared * key_heads
    n_queries = int(torch.randint(1, n_keys + 1, ()))
    q = torch.randn(2, heads, n_queries, 4) * 4
    k, v = torch.randn(2, key_heads, n_keys, 4), torch.randn(2, key_heads, n_keys, 4)
    seen = torch.rand(2, 1, n_queries, n_keys) > 0.4
    scores = q @ k.repeat_interleave(shared, 1).mT / 2
    mask: torch.Tensor | None = None
    if kind == "none":
        seen = (
            torch.arange(n_keys)[None, :] <= torch.arange(n_queries)[:, None] if n_queries > 1 else seen[..., :1] | True
        )
    elif kind == "bool":
        mask = seen
    else:
        extra = torch.randn(2, 1, n_queries, n_keys)
        mask = extra.masked_fill(~seen, torch.finfo(torch.float32).min)
        scores = scores + extra
    p = scores.masked_fill(~seen, float("-inf")).softmax(-1).nan_to_num()
    call = read_call(torch.nn.Identity(), (q, k, v), mask, {}, style="sdpa", query_start=0, key_start=0)
    found = torch.zeros_like(p)
    for weights in softmax_rows(call, torch.arange(n_queries), chunk=chunk):
        found[:, :, weights.rows, : weights.end] = weights.p
        assert (weights.p.sum(-1) - weights.kept).abs().max() < 1e-6
    assert torch.allclose(found, p, atol=1e-6)


def pretend_flash(  # noqa: PLR0917 - as transformers calls it
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What flash kernels do with a 2-D mask, a window and causality by position, written out."""
    q_len, kv_len = query.shape[2], key.shape[2]
    behind = (torch.arange(q_len)[:, None] + kv_len - q_len) - torch.arange(kv_len)
    seen = (behind >= 0) & (behind < (sliding_window or kv_len + 1))
    mask = seen[None, None]
    if attention_mask is not None:
        mask = mask & attention_mask[:, None, None].bool()
    shared = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(shared, 1).mT * scaling
    p = scores.masked_fill(~mask, float("-inf")).softmax(-1).nan_to_num()
    return (p @ value.repeat_interleave(shared, 1)).transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("name", ["qwen2", "mistral", "phi3"])
def test_masks_as_flash_kernels_read_them(small: Callable[..., Any], masses: Any, name: str) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    AttentionInterface.register("pretend", pretend_flash)
    AttentionMaskInterface.register("pretend", flash_attention_mask)
    try:
        one = small(name)
        inputs = one.inputs()
        weights = torch.stack(one.eager_weights(**inputs))
        one.use("pretend")
        groups = torch.randint(0, 3, (2, 40))
        with capture(one.sites, Request(groups=groups, n_groups=3)) as record:
            one.logits(**inputs)
        valid = inputs["attention_mask"].bool()[None, :, None].expand(weights.shape[:-1])
        wanted = torch.stack([masses(w, groups, 3) for w in weights])
        assert (record.stacked("mass") - wanted)[valid].abs().max() < 3e-6
    finally:
        AttentionInterface._global_mapping.pop("pretend")
        AttentionMaskInterface._global_mapping.pop("pretend")
