"""Nothing stays registered or hooked, whatever happens; models and threads do not see each other's captures."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from attnlens.capture.attention import capture
from attnlens.capture.edits import Knockout
from attnlens.capture.request import Request


def registered() -> dict[str, Any]:
    from transformers import AttentionInterface, AttentionMaskInterface

    return {**AttentionInterface._global_mapping, "masks": dict(AttentionMaskInterface._global_mapping)}


def hooks(one: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in one.model.modules())


def everything(n: int = 40) -> Request:
    return Request(
        groups=torch.zeros(1, n, dtype=torch.long),
        n_groups=1,
        rows=torch.arange(n - 3, n),
        gold=torch.full((1, 3), 5),
        measures=("mass", "logit_effect"),
    )


def test_all_is_undone_at_the_end_and_after_exceptions(small: Any) -> None:
    one = small("qwen2")
    inputs = one.inputs()
    before, hooked = registered(), hooks(one)
    with capture(one.sites, everything()):
        one.logits(**inputs)
        assert registered() != before
        assert hooks(one) > hooked
    assert registered() == before
    assert hooks(one) == hooked
    with pytest.raises(KeyboardInterrupt), capture(one.sites, everything()):
        raise KeyboardInterrupt
    with (
        pytest.raises(ValueError, match="batch"),
        capture(one.sites, Request(groups=torch.zeros(3, 40).long(), n_groups=1)),
    ):
        one.logits(**inputs)
    with (
        pytest.raises(ValueError, match="no such self layer"),
        capture(one.sites, Request(groups=torch.zeros(1, 40).long(), n_groups=1, layers=(9,))),
    ):
        pass
    with pytest.raises(RuntimeError, match="boom"), capture(one.sites, everything()), capture(one.sites, everything()):
        raise RuntimeError("boom")
    assert registered() == before
    assert hooks(one) == hooked


def test_what_others_register_meanwhile_stays(small: Any) -> None:
    from transformers import AttentionInterface

    one = small("qwen2")
    original = AttentionInterface._global_mapping["sdpa"]

    def theirs(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    try:
        with capture(one.sites, everything()):
            one.logits(**one.inputs())
            AttentionInterface.register("sdpa", theirs)
        assert AttentionInterface._global_mapping["sdpa"] is theirs
    finally:
        AttentionInterface.register("sdpa", original)


def test_two_models_in_one_process(small: Any) -> None:
    one, two = small("qwen2"), small("mistral")
    with torch.no_grad():
        two.layers[0].self_attn.q_proj.weight.mul_(0.3)
    inputs = one.inputs()
    alone = []
    groups = torch.randint(0, 3, (2, 40))
    asked = Request(groups=groups, n_groups=3)
    for each in (one, two):
        with capture(each.sites, asked) as record:
            each.logits(**inputs)
        alone.append(record.stacked("mass"))
    bare = two.logits(**inputs)
    cut = Knockout(queries=torch.ones(1, 40, dtype=torch.bool), keys=torch.arange(40)[None] == 20)
    with capture(one.sites, asked) as first, capture(two.sites, asked) as second:
        two.logits(**inputs)
        one.logits(**inputs)
    assert torch.equal(first.stacked("mass"), alone[0])
    assert torch.equal(second.stacked("mass"), alone[1])
    with capture(one.sites, asked, [cut]):
        assert torch.equal(two.logits(**inputs), bare)
        one.logits(**inputs)


def test_threads_have_captures_of_their_own(small: Any) -> None:
    one = small("llama")
    jobs = []
    for seed in range(4):
        inputs = one.inputs(seed=seed)
        groups = torch.randint(0, 3, (2, 40))
        rows = None if seed % 2 else torch.tensor([5 + seed, 30])
        cut = [Knockout(queries=torch.arange(40)[None] > 20, keys=groups == 1)] if seed < 2 else []
        jobs.append((inputs, Request(groups=groups, n_groups=3, rows=rows), cut))

    def work(number: int) -> tuple[Tensor, Tensor]:
        inputs, asked, cut = jobs[number]
        with capture(one.sites, asked, cut) as record:
            logits = one.logits(**inputs)
        return logits, record.stacked("mass")

    alone = [work(number) for number in range(4)]
    bare = one.logits(**jobs[0][0])
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    plain: list[Tensor] = []

    def loop(number: int) -> None:
        for turn in range(4):
            found[number, turn] = work(number)
        plain.append(one.logits(**jobs[0][0]))

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
    before = registered()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    for (number, _), (logits, mass) in found.items():
        assert torch.equal(logits, alone[number][0])
        assert torch.equal(mass, alone[number][1])
    assert all(torch.equal(logits, bare) for logits in plain)
    assert registered() == before
    assert hooks(one) == 0


def test_another_threads_forward_is_not_captured(small: Any) -> None:
    one = small("qwen2")
    inputs, other = one.inputs(), one.inputs(seed=1)
    with capture(one.sites, everything()) as record:
        thread = threading.Thread(target=one.logits, kwargs=other)
        thread.start()
        thread.join()
        assert record.forwards == 0
        one.logits(**inputs)
    assert record.forwards == 1
    assert record.stacked("mass").shape == (3, 2, 8, 3, 1)


def test_modules_that_are_not_watched_pass_straight_through(whisper: Any) -> None:
    from attnlens.capture.sites import Sites

    decoder = whisper.model.model.decoder
    sites = Sites.of(decoder, layers=[decoder.layers[1].self_attn])
    inputs = {"input_features": torch.randn(1, 16, 60), "decoder_input_ids": torch.randint(3, 60, (1, 11))}
    with capture(sites, Request(groups=torch.zeros(1, 11).long(), n_groups=1)) as record:
        whisper.logits(**inputs)
    assert record.layers == (0,)
    assert record.stacked("mass").shape == (1, 1, 4, 11, 1)


def test_gradients_flow_past_a_capture(small: Any) -> None:
    one = small("qwen2")
    inputs = one.inputs()
    weight: Any = one.layers[0].self_attn.v_proj.weight
    one.model(**inputs, use_cache=False).logits.sum().backward()
    plain = weight.grad
    weight.grad = None
    with capture(one.sites, everything()):
        one.model(**inputs, use_cache=False).logits.sum().backward()
    assert plain is not None
    assert weight.grad is not None
    assert torch.equal(plain, weight.grad)
