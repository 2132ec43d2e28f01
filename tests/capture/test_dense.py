"""All rows at the cost of one attention call: exact in float32, averaged on the way, and never as large as n x n."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attnlens.capture.attention import capture
from attnlens.capture.edits import Knockout
from attnlens.capture.request import Method, Request

Dense = Literal["widened", "second-pass"]
METHODS: list[Dense] = ["widened", "second-pass"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["qwen2", "mistral", "phi3", "gemma2"])
def test_masses_equal_eager(small: Any, masses: Any, name: str, method: Dense) -> None:
    one = small(name)
    inputs = one.inputs()
    weights = torch.stack(one.eager_weights(**inputs))
    bare = one.logits(**inputs)
    # More groups than a head is wide, so that the second pass needs two.
    groups = torch.randint(-1, 11, (2, 40))
    with capture(one.sites, Request(groups=groups, n_groups=11, method=method)) as record:
        logits = one.logits(**inputs)
    assert record.method == method
    valid = inputs["attention_mask"].bool()
    if method == "second-pass":
        assert torch.equal(logits, bare)
    else:
        assert (logits - bare)[valid].abs().max() < 1e-6
    wanted = torch.stack([masses(w, groups, 11) for w in weights])
    at = valid[None, :, None].expand(weights.shape[:-1])
    assert (record.stacked("mass") - wanted)[at].abs().max() < 3e-6


@pytest.mark.parametrize("method", METHODS)
def test_rows_heads_layers_and_averages(small: Any, method: Dense) -> None:
    one = small("llama")
    inputs = one.inputs()
    groups, queries = torch.randint(0, 3, (2, 40)), torch.randint(0, 2, (2, 40))
    picked = {"heads": (6, 2), "layers": (1,), "rows": torch.arange(29, 40)}
    for more in ({}, {"query_groups": queries, "n_query_groups": 2}):
        found = []
        for how in ("rows", method):
            asked = Request(groups=groups, n_groups=3, method=how, **picked, **more)  # type: ignore[arg-type]
            with capture(one.sites, asked) as record:
                one.logits(**inputs)
            found.append(record.stacked("mass"))
        assert found[0].shape == found[1].shape == (1, 2, 2, 2 if more else 11, 3)
        assert torch.allclose(found[0], found[1], atol=2e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["mask", "zero"])
def test_masses_are_those_of_the_edited_pattern(small: Any, method: Dense, how: Literal["mask", "zero"]) -> None:
    one = small("qwen2")
    inputs = one.inputs()
    groups = torch.arange(40)[None] // 10
    edit = Knockout(queries=torch.arange(40)[None] >= 30, keys=groups == 2, heads=(1, 5), how=how)
    found, logits = [], []
    ways: tuple[Method, ...] = ("rows", method)
    for used in ways:
        with capture(one.sites, Request(groups=groups, n_groups=4, method=used), [edit]) as record:
            logits.append(one.logits(**inputs))
        found.append(record.stacked("mass"))
    valid = inputs["attention_mask"].bool()
    assert torch.allclose(logits[0][valid], logits[1][valid], atol=4e-6)
    at = valid[None, :, None].expand(found[0].shape[:-1])
    assert torch.allclose(found[0][at], found[1][at], atol=3e-6)
    assert found[1][:, :, [1, 5], 30:, 2].abs().max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_rounds_but_not_far(small: Any, method: Dense) -> None:
    one = small("qwen2")
    one.model.to(torch.bfloat16)
    inputs = one.inputs()
    groups = torch.randint(0, 3, (2, 40))
    found = []
    ways: tuple[Method, ...] = ("rows", method)
    for used in ways:
        with capture(one.sites, Request(groups=groups, n_groups=3, method=used, layers=(0,))) as record:
            one.logits(**inputs)
        found.append(record.stacked("mass"))
    assert 1e-6 < float((found[0] - found[1]).abs().max()) < 1e-2


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the largest tensor any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return made


@contextmanager
def largest() -> Iterator[Largest]:
    with Largest() as mode:  # type: ignore[no-untyped-call]
        yield mode


@pytest.mark.parametrize("method", ["rows", *METHODS])
def test_no_tensor_grows_with_the_square_of_the_prompt(small: Any, method: Dense) -> None:
    one = small("llama", num_hidden_layers=1, vocab_size=64)
    sizes = []
    for n in (256, 512, 1024):
        inputs = one.inputs(lengths=(n,))
        groups, queries = torch.arange(n)[None] * 4 // n, torch.arange(n)[None] * 3 // n
        asked = Request(groups=groups, n_groups=4, query_groups=queries, n_query_groups=3, method=method, chunk=32)
        with largest() as mode, capture(one.sites, asked) as record:
            one.logits(input_ids=inputs["input_ids"])
        assert record.stacked("mass").shape == (1, 1, 8, 3, 4)
        sizes.append(mode.elements)
    assert sizes[2] < 2.2 * sizes[1] < 5 * sizes[0]
    assert sizes[2] < 8 * 1024 * 1024 // 4


def test_two_captures_cannot_both_widen(small: Any) -> None:
    one = small("llama")
    asked = Request(groups=torch.zeros(1, 40, dtype=torch.long), n_groups=1, method="widened")
    with (
        capture(one.sites, asked),
        pytest.raises(ValueError, match="two captures want to widen"),
        capture(one.sites, asked),
    ):
        pass
