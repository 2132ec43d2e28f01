"""Scoring: packed and sequential equal one plain forward pass per hypothesis, for every kind of decoder and family."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnlens.capture.attention import capture
from attnlens.capture.edits import Knockout
from attnlens.context.build import build_prompt
from attnlens.context.encode import Encoded
from attnlens.context.spans import Label, SpanMap
from attnlens.errors import BadInput, UnknownName, UnsupportedModel
from attnlens.models.backend import BaseBackEnd
from attnlens.models.load import load
from attnlens.models.prefix import Prefix
from attnlens.models.registry import FAMILIES
from attnlens.models.scoring import Layout, Method, Score, score
from attnlens.models.speechlm import SpeechLM
from attnlens.models.teacher_forcing import reader as reading
from attnlens.testing import corpus, utterance

EXACT = 3e-5
WINDOW, BORDER, VOCABULARY = 7, 40, 64
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": [2, 5],
}
ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [8.0] * 4,
    "factor": 8.0,
    "original_max_position_embeddings": BORDER,
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen2, windows": ("Qwen2", {"use_sliding_window": True, **ALTERNATING}),
    "qwen2, eager": ("Qwen2", {"attn": "eager"}),
    "llama": ("Llama", {}),
    "phi3, window": ("Phi3", {"sliding_window": WINDOW}),
    "phi3, longrope": ("Phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": BORDER}),
    "gemma2, soft caps": ("Gemma2", {**ALTERNATING, "query_pre_attn_scalar": 8, "attn": "eager"}),
    "gemma3": ("Gemma3", {**ALTERNATING, "query_pre_attn_scalar": 8}),
    "qwen3, experts": (
        "Qwen3Moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1},
    ),
    "gemma3n, shared keys": (
        "Gemma3n",
        {**ALTERNATING, "num_kv_shared_layers": 2, "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 4},
    ),
    "lfm2, running states": ("Lfm2", {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 16}),
}


class SoftCap(nn.Module):
    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, logits: Tensor) -> Tensor:
        return torch.tanh(logits / self.cap) * self.cap


class TextBackEnd(BaseBackEnd):
    """A plain language model: all positions are tokens."""

    decoder_path = "model"
    border: int | None = None

    @property
    def unembedding(self) -> Any:
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return nn.Sequential(self.model.lm_head, SoftCap(cap)) if cap else self.model.lm_head

    @property
    def cache_border(self) -> int | None:
        return self.border

    @property
    def context_length(self) -> int | None:
        return 200


FRONT = SimpleNamespace(audio_token_id=-1, context_length=200)


def prompt_of(ids: Sequence[int]) -> Encoded:
    target = build_prompt(utterance("t"), [], condition="asr")
    spans = SpanMap.of([(Label("task"), len(ids), None)])
    return Encoded(target, np.asarray(ids, dtype=np.int64), spans, ())


@functools.cache
def text_model(name: str) -> SpeechLM:
    family, options = DECODERS[name]
    options = {**SMALL, **options}
    attn = options.pop("attn", "sdpa")
    kind = "TextConfig" if family in ("Gemma3", "Gemma3n") else "Config"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, family + kind)(**options)
        model = getattr(transformers, family + "ForCausalLM")._from_config(config, attn_implementation=attn).eval()
    with torch.no_grad():
        # Attention that is peaked, and logits that say something.
        for path, weight in model.named_parameters():
            if path.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(8)
            if path.endswith("qkv_proj.weight"):
                weight[: 6 * 8].mul_(8)
            if path.endswith(("q_norm.weight", "q_layernorm.weight")):
                weight.mul_(3)
            if path.endswith(("lm_head.weight", "embed_tokens.weight")):
                weight.mul_(5)
    back = TextBackEnd(model, cast(Any, FRONT))
    back.border = BORDER if "longrope" in name else None
    return SpeechLM(back, name=name, family="text")


@torch.no_grad()
def naive(lens: SpeechLM, prompt: Sequence[int], hypothesis: Sequence[int], *, end: bool = False) -> Any:
    """Return the log-probabilities [tokens] by the definition: one call of transformers' own model, all in it."""
    ids = torch.tensor([[*prompt, *hypothesis]])
    rows = lens.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].double().log_softmax(-1)
    each = [rows[index, token] for index, token in enumerate(hypothesis)]
    ended = [rows[len(hypothesis), SMALL["eos_token_id"]].logsumexp(0)] if end else []
    return np.asarray([float(value) for value in each + ended])


def close(scores: Sequence[Score], due: Sequence[Any]) -> bool:
    return all(
        one.logprobs.dtype == np.float32
        and len(one.logprobs) == len(one.ids) == len(want)
        and abs(one.total - want.sum()) < EXACT
        and np.allclose(one.logprobs, want, atol=EXACT, rtol=0)
        for one, want in zip(scores, due, strict=True)
    )


token = st.integers(3, VOCABULARY - 1)
PROMPT = list(np.random.default_rng(5).integers(3, VOCABULARY, 23))
THREE = [[7, 8, 9, 10, 11, 12, 13, 14, 15], [9], [7, 8, 33, 34]]


@pytest.mark.parametrize("name", DECODERS)
@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    prompt=st.lists(token, min_size=1, max_size=BORDER + 3),
    hypotheses=st.lists(st.lists(token, max_size=14), max_size=5),
    pack=st.integers(1, 40),
    end=st.booleans(),
)
def test_equals_one_forward_each(
    name: str, prompt: list[int], hypotheses: list[list[int]], pack: int, end: bool
) -> None:
    lens = text_model(name)
    due = [naive(lens, prompt, one, end=end) for one in hypotheses]
    ways: tuple[Method, ...] = ("auto", "sequential", "full")
    for method in ways:
        made = score(lens, prompt_of(prompt), hypotheses, end="eos" if end else "none", method=method, pack=pack)
        assert close(made, due), method


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_equals_full_forwards(family: str) -> None:
    lens, speech = load(f"tiny:{family}"), corpus()
    encoded = lens.encode(build_prompt(speech.test[0], speech.pool, condition="micl", shots=2))
    texts = ["", "kato", "ñandú, kato miru sela", "kato miru", "<|im_end|>", "kato"]
    inputs = lens.inputs(encoded)
    packed = score(lens, encoded, texts, end="eos", method="packed", pack=24)
    sequential = score(lens, encoded, texts, end="eos", method="sequential")
    for index, text in enumerate(texts):
        ids = lens.front.tokenise(text, kind="content")
        # Not by `extended`: the answer encoded with the prompt, as a trace would see it.
        whole = lens.encode(encoded.prompt, output=text)
        assert list(whole.ids[len(encoded.ids) :]) == ids
        rows = lens.logits(lens.inputs(whole) if ids else inputs, dtype=torch.float64)[0].log_softmax(-1)
        rows = rows[len(encoded.ids) - 1 :]
        ends = lens.model.generation_config.eos_token_id
        due = [*(rows[at, one] for at, one in enumerate(ids)), rows[-1, ends].reshape(-1).logsumexp(0)]
        for scores in (packed, sequential):
            assert scores[index].text == text
            assert close([scores[index]], [np.asarray([float(one) for one in due])])


def test_every_decoder_is_packed_but_those_that_cannot_be() -> None:
    for name in DECODERS:
        passes: list[Layout] = []
        score(text_model(name), prompt_of(PROMPT[:9]), THREE, around=noting(passes))
        assert len(passes) == (4 if "running states" in name else 2), name


def noting(passes: list[Layout]) -> Any:
    @contextmanager
    def around(layout: Layout) -> Iterator[None]:
        passes.append(layout)
        yield

    return around


def test_windows_and_shared_keys_are_what_the_test_says() -> None:
    window = Prefix.of(reader("phi3, window"), inputs("phi3, window"), length=len(PROMPT))
    mixed = Prefix.of(reader("gemma3"), inputs("gemma3"), length=len(PROMPT))
    shared = Prefix.of(reader("gemma3n, shared keys"), inputs("gemma3n, shared keys"), length=len(PROMPT))
    two = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    mask, masks = window.mask(*two), mixed.mask(*two)
    assert isinstance(mask, Tensor)
    assert mask.shape == (1, 1, 3, WINDOW - 1 + 3)
    assert isinstance(masks, dict)
    assert {kind: one.shape[-1] for kind, one in masks.items()} == {
        "sliding_attention": WINDOW - 1 + 3,
        "full_attention": len(PROMPT) + 3,
    }
    assert [layer.keys is None for layer in shared.self_attention.layers] == [False, False, True, True]


def reader(name: str) -> Any:
    return reading(text_model(name).back)


def inputs(name: str) -> dict[str, Any]:
    return text_model(name).inputs(prompt_of(PROMPT))


def test_a_cache_across_the_longrope_border_is_not_reused() -> None:
    lens = text_model("phi3, longrope")
    prompt, long = (PROMPT * 2)[: BORDER - 4], [9, 10, 11, 12, 13, 14, 15]
    within, onto, across = long[:3], long[:4], long[:5]
    due = [naive(lens, prompt, one) for one in (within, onto, across, long)]
    passes: list[Layout] = []
    assert close(score(lens, prompt_of(prompt), [within, onto, across, long], around=noting(passes)), due)
    assert [(one.cached, len(one.position)) for one in passes] == [(0, 36), (36, 2 + 3), (0, 41), (0, 43)]
    # What is avoided is no rounding error: the same with the border unknown.
    careless = SpeechLM(TextBackEnd(lens.model, cast(Any, FRONT)), name="careless", family="text")
    assert abs(score(careless, prompt_of(prompt), [long])[0].total - due[3].sum()) > 1e-2
    # Beyond the border all is of one kind again.
    beyond = (PROMPT * 2)[: BORDER + 1]
    passes.clear()
    assert close(score(lens, prompt_of(beyond), THREE, around=noting(passes)), [naive(lens, beyond, h) for h in THREE])
    assert len(passes) == 2


@pytest.mark.parametrize("axes", [3, 4])
def test_positions_go_on_behind_the_farthest_axis(axes: int) -> None:
    """An Omni prompt with a picture: time, height and width differ, and the text after it starts behind all three."""
    lens = load("tiny:qwen2.5-omni")
    encoded = lens.encode(build_prompt(utterance("t"), [], condition="asr"))
    n = len(encoded.ids)
    base = torch.arange(n)
    rope = torch.stack([base.clamp(max=n - 9), base // 2, base.clamp(max=n - 5)])[:, None]
    plain = base[None, None]

    def with_axes(positions: Tensor, flat: Tensor) -> Tensor:
        return torch.cat([flat, positions]) if axes == 4 else positions

    class Pictured(type(lens.back)):  # type: ignore[misc]
        def inputs(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
            return {**super().inputs(encoded), "position_ids": with_axes(rope, plain)}

        def extended(self, inputs: dict[str, Any], ids: Tensor) -> dict[str, Any]:
            after = (torch.arange(len(ids)) + rope.max() + 1).expand(3, 1, -1)
            all_rope = torch.cat([rope, after], dim=-1)
            flat = torch.arange(n + len(ids))[None, None]
            made = super().extended({**inputs, "position_ids": plain[0]}, ids)
            return {**made, "position_ids": with_axes(all_rope, flat)}

    other = SpeechLM(Pictured(lens.model, lens.front), name="pictured", family="qwen2.5-omni")
    texts = ["kato miru", "sela", "kato"]
    full = score(other, encoded, texts, method="full")
    for method in ("packed", "sequential"):
        assert close(score(other, encoded, texts, method=method), [one.logprobs.astype(float) for one in full])
    # The test would notice wrong positions.
    assert abs(full[0].total - score(lens, encoded, texts)[0].total) > 1e-3


def test_a_back_end_with_logits_of_its_own_is_read_in_full() -> None:
    plain = text_model("llama")

    class Louder(TextBackEnd):
        def logits(self, inputs: dict[str, Any], keep: slice | Tensor) -> Tensor:
            return super().logits(inputs, keep) * 3

    lens = SpeechLM(Louder(plain.model, cast(Any, FRONT)), name="louder", family="text")
    ids = torch.tensor([[*PROMPT, *THREE[0]]])
    rows = (plain.model(input_ids=ids).logits[0, len(PROMPT) - 1 :] * 3).log_softmax(-1)
    due = np.asarray([float(rows[at, one].detach()) for at, one in enumerate(THREE[0])])
    assert close(score(lens, prompt_of(PROMPT), THREE[:1]), [due])


def test_granite_logits_are_scaled_as_trained() -> None:
    lens = load("tiny:granite-speech")
    lens.model.config.text_config.logits_scaling = 8.0
    encoded = lens.encode(build_prompt(utterance("t"), [], condition="asr"))
    rows = lens.logits(lens.inputs(lens.encode(encoded.prompt, output="a")))[0, -2].log_softmax(-1)
    due = float(rows[lens.front.tokenise("a", kind="content")[0]])
    unscaled = float((rows * 8).log_softmax(-1)[lens.front.tokenise("a", kind="content")[0]])
    assert abs(due - unscaled) > 1e-2
    assert score(lens, encoded, ["a"])[0].total == pytest.approx(due, abs=EXACT)


def test_attention_that_takes_no_mask_is_scored_one_after_another() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("test-without-masks", sdpa_attention_forward)
    AttentionMaskInterface.register("test-without-masks", sdpa_mask)
    lens = text_model("qwen2")
    lens.model.set_attn_implementation("test-without-masks")
    try:
        passes: list[Layout] = []
        made = score(lens, prompt_of(PROMPT), THREE, around=noting(passes))
        with pytest.raises(UnsupportedModel, match="test-without-masks"):
            score(lens, prompt_of(PROMPT), THREE, method="packed")
    finally:
        lens.model.set_attn_implementation("sdpa")
    # The prompt, and each hypothesis with more than one token to predict.
    assert [len(one.position) for one in passes] == [len(PROMPT), 8, 3]
    assert close(made, [naive(lens, PROMPT, one) for one in THREE])


METHODS: tuple[Method, ...] = ("packed", "sequential", "full")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pack", [1, 9, 512])
def test_the_layout_says_what_every_row_is(method: Method, pack: int) -> None:
    """An edit that depends on hypothesis and position, applied by the layout, acts the same in every method."""
    lens = text_model("qwen2, windows")
    embedding = 3 * torch.randn(2, 8, SMALL["hidden_size"], generator=torch.Generator().manual_seed(0))
    hypotheses = [THREE[0], [9], THREE[0], THREE[2], []]

    def edit(layout: Layout) -> Any:
        where = torch.as_tensor((layout.position % 7) * (layout.position >= 5))
        kind = torch.as_tensor((layout.hypothesis > 0).astype(int))

        @contextmanager
        def applied() -> Iterator[None]:
            def change(_module: Any, _args: Any, out: Tensor) -> Tensor:
                assert out.shape[1] == len(layout.position) == len(layout.hypothesis)
                return out + embedding[kind, where]

            hook = lens.layers[1].residual.module.register_forward_hook(change)
            try:
                yield
            finally:
                hook.remove()

        return applied()

    made = score(lens, prompt_of(PROMPT), hypotheses, end="eos", method=method, pack=pack, around=edit)
    due = []
    for index, ids in enumerate(hypotheses):
        n = len(PROMPT)
        owner = np.r_[np.full(n, -1), np.full(len(ids), hypotheses.index(ids))]
        with edit(Layout(owner, np.arange(n + len(ids)), 0)):
            due.append(naive(lens, PROMPT, ids, end=True))
        assert index < 2 or np.array_equal(made[2].logprobs, made[0].logprobs)
    assert close(made, due)
    assert abs(due[0].sum() - naive(lens, PROMPT, hypotheses[0], end=True).sum()) > 1e-2


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
@pytest.mark.parametrize("how", ["mask", "zero"])
def test_a_knockout_by_position_acts_alike_in_every_method(name: str, how: Any) -> None:
    lens = text_model(name)
    positions = np.arange(len(PROMPT) + 10)
    queries, keys = positions >= len(PROMPT) - 1, (positions % 3 == 0) & (positions > 4)

    def cut(layout: Layout) -> Any:
        flags = [torch.as_tensor(one[layout.places])[None] for one in (queries, keys)]
        return capture(lens.sites, edits=[Knockout(queries=flags[0], keys=flags[1], how=how, heads=(0, 3))])

    full = score(lens, prompt_of(PROMPT), THREE, method="full", around=cut)
    for method in METHODS:
        made = score(lens, prompt_of(PROMPT), THREE, end="none", method=method, around=cut)
        assert close(made, [one.logprobs.astype(float) for one in full])
    assert abs(full[0].total - score(lens, prompt_of(PROMPT), THREE)[0].total) > 1e-2


def test_the_prompt_is_read_once_and_only_predicting_rows_meet_the_vocabulary() -> None:
    lens = text_model("llama")
    read: list[int] = []
    unembedded: list[int] = []
    hooks = [
        lens.decoder.register_forward_hook(lambda _m, _a, out: read.append(out.last_hidden_state.shape[1])),
        lens.model.lm_head.register_forward_hook(lambda _m, _a, out: unembedded.append(out[..., 0].numel())),
    ]
    hypotheses = [list(range(3, 3 + length)) for length in (40, 50, 60, 40)]
    score(lens, prompt_of(PROMPT), hypotheses, pack=512)
    for hook in hooks:
        hook.remove()
    # Duplicates count once, and no hypothesis's last token is read, for it predicts nothing that is asked.
    assert read == [len(PROMPT), 39 + 49 + 59]
    assert unembedded == [1, 128, 19]


def test_packs_are_filled_in_order_and_never_split_a_hypothesis() -> None:
    passes: list[Layout] = []
    hypotheses = [[3] * length for length in (3, 4, 20, 1, 2, 6)]
    score(text_model("llama"), prompt_of(PROMPT), hypotheses, pack=8, around=noting(passes))
    assert [one.hypothesis.tolist() for one in passes[1:]] == [[0, 0, 1, 1, 1], [2] * 19, [4] + [5] * 5]
    assert [one.position.tolist() for one in passes[1::2]] == [[23, 24, 23, 24, 25], [23, 23, 24, 25, 26, 27]]
    assert [one.cached for one in passes] == [0, 23, 23, 23]


def test_nothing_in_nothing_out() -> None:
    lens = text_model("llama")
    assert score(lens, prompt_of(PROMPT), []) == []
    passes: list[Layout] = []
    empty = score(lens, prompt_of(PROMPT), [[]], around=noting(passes))[0]
    assert (empty.total, len(empty.logprobs), len(empty.ids), passes) == (0.0, 0, 0, [])
    with pytest.raises(BadInput, match="no mean"):
        _ = empty.per_token
    ended = score(lens, prompt_of(PROMPT), [[]], end="eos")[0]
    assert ended.ids.tolist() == [2]
    assert ended.total == ended.per_token == pytest.approx(naive(lens, PROMPT, [], end=True)[0], abs=EXACT)


def test_duplicates_share_the_work_and_not_the_array() -> None:
    one, two = score(text_model("llama"), prompt_of(PROMPT), [[7, 8], [7, 8]])
    one.logprobs[0] = 5.0
    assert two.logprobs[0] < 0
    assert one.text is None


def test_two_threads_score_with_one_model() -> None:
    lens = text_model("gemma3")
    prompts = [PROMPT, PROMPT[::-1][:11]]
    alone = [[one.total for one in score(lens, prompt_of(prompt), THREE)] for prompt in prompts]
    found: dict[int, list[list[float]]] = {0: [], 1: []}

    def work(which: int) -> None:
        for _ in range(6):
            found[which].append([one.total for one in score(lens, prompt_of(prompts[which]), THREE)])

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {which: [alone[which]] * 6 for which in (0, 1)}


def test_positions_of_another_thread_are_not_taken_for_the_prompts() -> None:
    inner, mine = reader("qwen2"), inputs("qwen2")

    class Crowded:
        decoder = inner.decoder
        after, unembed = inner.after, inner.unembed

        def read(self, given: dict[str, Any]) -> Any:
            far = {**given, "position_ids": given["position_ids"] + 50}
            other = threading.Thread(target=lambda: inner.read(far))
            other.start()
            other.join()
            return inner.read(given)

    assert Prefix.of(Crowded(), mine, length=len(PROMPT)).following.tolist() == [len(PROMPT)]


@torch.no_grad()
def test_a_pass_keeps_nothing_and_copies_nothing() -> None:
    prefix = Prefix.of(reader("gemma3"), inputs("gemma3"), length=len(PROMPT))
    ids, at = torch.tensor([5, 6, 7]), torch.arange(3)
    stored = [layer.keys.clone() for layer in prefix.stored.layers]
    cache = prefix.cache()
    mask = prefix.mask(torch.zeros(3, dtype=torch.long), at)
    prefix.model.read(prefix.model.after(ids, mask=mask, positions=prefix.positions(at), cache=cache))
    for used, own, before in zip(cache.layers, prefix.stored.layers, stored, strict=True):
        assert used.keys is own.keys
        assert torch.equal(own.keys, before)


def test_an_exception_leaves_nothing_behind() -> None:
    lens = text_model("qwen2")

    @contextmanager
    def failing(layout: Layout) -> Iterator[None]:
        with lens.decoder.layers[2].register_forward_pre_hook(lambda *_: 1 / 0):
            yield

    before = [one.total for one in score(lens, prompt_of(PROMPT), THREE)]
    with pytest.raises(ZeroDivisionError):
        score(lens, prompt_of(PROMPT), THREE, around=failing)
    assert not lens.decoder._forward_pre_hooks
    assert [one.total for one in score(lens, prompt_of(PROMPT), THREE)] == before


def test_bfloat16_is_packed_as_exactly_as_it_is_read_in_full() -> None:
    lens = load("tiny:qwen2-audio", dtype="bfloat16", attn="eager")
    encoded = lens.encode(build_prompt(utterance("t"), [], condition="asr"))
    texts = ["kato miru", "sela"]
    exact = score(load("tiny:qwen2-audio"), encoded, texts, method="full")
    full, packed = (score(lens, encoded, texts, method=method) for method in ("full", "packed"))
    for one, other, true in zip(full, packed, exact, strict=True):
        assert abs(other.total - true.total) < 2 * abs(one.total - true.total) + 0.05


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"hypotheses": "kato"}, BadInput, "are a list"),
        ({"end": "stop"}, UnknownName, "unknown end 'stop'"),
        ({"method": "batched"}, UnknownName, "unknown method 'batched'"),
        ({"pack": 0}, BadInput, "at least one token"),
        ({"hypotheses": [[3, VOCABULARY]]}, BadInput, f"token id {VOCABULARY}"),
        ({"hypotheses": [[3, -1]]}, BadInput, "token id -1"),
        ({"hypotheses": [[3] * 178]}, BadInput, "does not fit"),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(options: dict[str, Any], kind: Any, message: str) -> None:
    lens = text_model("llama")

    def never(_layout: Layout) -> Any:
        raise AssertionError

    with pytest.raises(kind, match=message):
        score(lens, prompt_of(PROMPT), **{"hypotheses": THREE, "around": never, **options})


def test_a_model_without_an_end_is_refused_when_the_end_is_asked_for() -> None:
    model = replace_end(text_model("llama").model)
    lens = SpeechLM(TextBackEnd(model, cast(Any, FRONT)), name="endless", family="text")
    with pytest.raises(BadInput, match="endless does not say"):
        score(lens, prompt_of(PROMPT), THREE, end="eos")


def test_a_wrapped_model_with_inputs_of_its_own_is_refused_and_one_with_ours_is_scored() -> None:
    known = text_model("llama")
    model = known.model

    def wrapped(inputs: Any) -> SpeechLM:
        return SpeechLM.wrap(
            model,
            decoder=model.model,
            layers=model.model.layers,
            forward=lambda given: model(**given, use_cache=False).logits,
            n_heads=4,
            inputs=inputs,
        )

    strange = wrapped(lambda batch: {"input_ids": torch.as_tensor(batch[0].ids)[None]})
    with pytest.raises(UnsupportedModel, match="put after the inputs of wrapped"):
        score(strange, prompt_of(PROMPT), THREE)
    made = score(wrapped(known.back.inputs), prompt_of(PROMPT), THREE)
    assert close(made, [naive(known, PROMPT, one) for one in THREE])


def replace_end(model: Any) -> Any:
    config = transformers.LlamaConfig(**{**SMALL, "eos_token_id": None})
    other = transformers.LlamaForCausalLM._from_config(config)
    other.generation_config.eos_token_id = None
    return other.eval()


def test_a_padded_prompt_is_no_prefix() -> None:
    padded = inputs("llama")
    padded["attention_mask"][0, 0] = 0
    with pytest.raises(BadInput, match="without padding"):
        Prefix.of(reader("llama"), padded, length=len(PROMPT))


def test_the_encoded_prompt_is_left_as_it_was() -> None:
    encoded = prompt_of(PROMPT)
    copy = replace(encoded, ids=encoded.ids.copy())
    score(text_model("llama"), encoded, THREE)
    assert np.array_equal(copy.ids, encoded.ids)
