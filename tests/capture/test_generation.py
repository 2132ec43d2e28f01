"""Rows of each generated step, with a cache that grows or drops old keys, against eager's matrices of each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attnlens.capture.attention import capture
from attnlens.capture.request import Request

GENERATE = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0}


def eager_masses(one: Any, inputs: dict[str, Tensor], groups: Tensor, n_groups: int) -> tuple[Tensor, Tensor]:
    """Masses [layers, B, H, rows, groups] of every step by eager attention; keys of a window are the last ones."""
    one.use("eager")
    with torch.no_grad():
        found = one.model.generate(**inputs, **GENERATE, output_attentions=True, return_dict_in_generate=True)
    one.use(one.attn)
    n = inputs["input_ids"].shape[1]
    spans = torch.nn.functional.one_hot(groups, n_groups).float()
    steps = []
    for step, layers in enumerate(found.attentions):
        seen = n + step
        steps.append(torch.stack([w.float() @ spans[:, None, seen - w.shape[-1] : seen] for w in layers]))
    return torch.cat(steps, 3), found.sequences


@pytest.mark.parametrize("rows", [None, tuple(range(39, 51))], ids=["all rows", "predicting rows"])
@pytest.mark.parametrize("name", ["qwen2", "mistral", "phi3", "gemma2"])
def test_generated_steps_equal_eager(small: Any, name: str, rows: tuple[int, ...] | None) -> None:
    one = small(name)
    inputs = one.inputs()
    groups = torch.randint(0, 3, (2, 52))
    wanted, tokens = eager_masses(one, inputs, groups, 3)
    chosen = None if rows is None else torch.tensor(rows)
    with torch.no_grad(), capture(one.sites, Request(groups=groups, n_groups=3, rows=chosen)) as record:
        sequences = one.model.generate(**inputs, **GENERATE)
    assert torch.equal(sequences, tokens)
    at = record.rows
    assert at.tolist() == list(range(51) if rows is None else rows)
    padded = inputs["attention_mask"] == 0
    mass = record.stacked("mass")
    for item in range(2):
        real = torch.tensor([row >= 40 or not padded[item, row] for row in at.tolist()])
        gap = (mass[:, item] - wanted[:, item][:, :, at])[:, :, real]
        assert gap.abs().max() < 3e-6


def test_generation_that_ends_early_says_which_rows_there_are(small: Any) -> None:
    one = small("qwen2")
    inputs = one.inputs()
    groups = torch.zeros(1, 52, dtype=torch.long)
    asked = Request(groups=groups, n_groups=1, rows=torch.arange(39, 52))
    with torch.no_grad(), capture(one.sites, asked) as record:
        one.model.generate(**inputs, **GENERATE | {"max_new_tokens": 5, "min_new_tokens": 5})
    assert record.rows.tolist() == [39, 40, 41, 42, 43]
    assert record.stacked("mass").shape[3] == 5


def test_static_cache_has_a_tail_that_nobody_sees(small: Any, masses: Any) -> None:
    one = small("llama")
    inputs = one.inputs()
    groups = torch.randint(0, 3, (2, 44))
    wanted, _ = eager_masses(one, inputs, torch.nn.functional.pad(groups, (0, 8)), 3)
    options = GENERATE | {"max_new_tokens": 4, "min_new_tokens": 4}
    with torch.no_grad(), capture(one.sites, Request(groups=groups, n_groups=3, rows=torch.arange(39, 43))) as record:
        one.model.generate(**inputs, **options, cache_implementation="static", disable_compile=True)
    assert (record.stacked("mass") - wanted[:, :, :, 39:43]).abs().max() < 3e-6
