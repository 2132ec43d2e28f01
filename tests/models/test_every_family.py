"""Every family through the whole of it: encode, trace, score, generate, knockout, doctor, against naive references."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.capture.attention import capture
from attnlens.capture.request import Request
from attnlens.context.spans import SOURCES
from attnlens.errors import SelfCheckFailed
from attnlens.models import self_check
from attnlens.models.interventions import ablate_heads, edits_for, knockout, shuffle_values
from attnlens.models.load import load
from attnlens.models.registry import FAMILIES
from attnlens.models.rows import rows_of
from attnlens.models.self_check import check_model, ensure_checked, probe
from attnlens.models.speechlm import SpeechLM
from attnlens.models.trace import trace

DECODERS = sorted(set(FAMILIES) - {"whisper"})
PROMPT = probe()
ANSWER = "kuna mana"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@cache
def lens_of(family: str) -> SpeechLM:
    return load(f"tiny:{family}")


def eager_weights(lens: SpeechLM) -> tuple[torch.Tensor, torch.Tensor]:
    """All weights [layers, heads, n, n] and the logits [n, vocabulary], from transformers' own eager attention."""
    weights: list[torch.Tensor] = []
    hooks = [
        layer.attention_output.module.register_forward_hook(lambda module, given, made: weights.append(made[1][0]))
        for layer in lens.layers
    ]
    before = lens.decoder.config._attn_implementation
    lens.decoder.set_attn_implementation({"": "eager"})
    try:
        logits = lens.logits(lens.inputs(lens.encode(PROMPT, ANSWER)))[0]
    finally:
        lens.decoder.set_attn_implementation({"": before})
        for hook in hooks:
            hook.remove()
    return torch.stack(weights), logits


@pytest.mark.parametrize("rows", ["predicting", "reading"])
@pytest.mark.parametrize("family", DECODERS)
def test_a_trace_is_eager_attention_added_up(family: str, rows: str) -> None:
    lens = lens_of(family)
    made = trace(lens, PROMPT, outputs=ANSWER, rows=rows, measures=("mass", "entropy", "max"))  # type: ignore[arg-type]
    weights, logits = eager_weights(lens)
    spans = lens.encode(PROMPT, ANSWER).spans
    picked = weights[:, :, rows_of(spans, "output", rows=rows)]  # type: ignore[arg-type]
    for index, source in enumerate(SOURCES):
        naive = picked[..., spans.positions(source)].sum(-1).mean(-1)
        np.testing.assert_allclose(made.mass[0, :, :, 0, index], naive, atol=3e-6, err_msg=source)
    entropy = -(picked * picked.clamp_min(1e-30).log()).sum(-1).mean(-1)
    np.testing.assert_allclose(made.entropy[0, :, :, 0], entropy, atol=3e-5)
    np.testing.assert_allclose(made["max"][0, :, :, 0], picked.amax(-1).mean(-1), atol=2e-5)
    assert float(abs(made.mass.sum("source") - 1).max()) < 1e-6
    for demo in range(2):
        for place, modality in enumerate(made.modality.values):
            where = spans.positions(f"demo_{modality}", demo=demo)  # type: ignore[arg-type]
            naive = picked[..., where].sum(-1).mean(-1)
            np.testing.assert_allclose(made.demo_mass[0, :, :, 0, demo, place], naive, atol=3e-6)
    ids = torch.as_tensor(lens.encode(PROMPT, ANSWER).ids)[spans.positions("output")]
    nll = -logits[spans.positions("output") - 1].log_softmax(-1)[range(len(ids)), ids].sum()
    assert float(made.nll[0]) == pytest.approx(float(nll), abs=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_tracing_changes_no_bit_of_the_logits(family: str) -> None:
    lens = lens_of(family)
    inputs = lens.inputs(lens.encode(PROMPT, ANSWER))
    before = lens.logits(inputs)
    trace(lens, PROMPT, outputs=ANSWER, measures=("mass", "entropy", "contribution", "logit_effect"))
    assert torch.equal(lens.logits(inputs), before)


@pytest.mark.parametrize("family", DECODERS)
def test_scores_are_those_of_full_forwards(family: str) -> None:
    lens = lens_of(family)
    texts = ["kuna mana", "suti", "lima lima lima", "k"]
    for text, found in zip(texts, lens.score(PROMPT, texts), strict=True):
        whole = lens.encode(PROMPT, text)
        positions = whole.spans.positions("output")
        logits = lens.logits(lens.inputs(whole))[0]
        naive = logits[positions - 1].log_softmax(-1)[range(len(positions)), whole.ids[positions]]
        assert len(found.logprobs) == len(positions)
        assert found.total == pytest.approx(float(naive.sum()), abs=3e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_a_knockout_holds_in_trace_score_and_generate(family: str) -> None:
    lens = lens_of(family)
    clean = trace(lens, PROMPT, outputs=ANSWER)
    plain = lens.score(PROMPT, [ANSWER, "suti"])
    with knockout(lens, queries="output", keys=["demo_audio", "demo_text"]):
        cut = trace(lens, PROMPT, outputs=ANSWER)
        scores = lens.score(PROMPT, [ANSWER, "suti"])
        lens.generate(PROMPT, max_new_tokens=3)
    assert float(cut.mass.sel(source=["demo_audio", "demo_text"]).max()) == 0.0
    assert float(abs(cut.mass.sum("source") - 1).max()) < 1e-6
    assert scores[0].total == pytest.approx(-float(cut.nll[0]), abs=1e-4)
    assert abs(float(cut.nll[0]) - float(clean.nll[0])) > 1e-4
    assert scores[0].total != plain[0].total
    assert cut.intervention.item().startswith("knockout(output->demo_audio|demo_text")
    after = trace(lens, PROMPT, outputs=ANSWER)
    assert after.identical(clean), "the cut is undone"
    assert lens.score(PROMPT, [ANSWER])[0].total == pytest.approx(plain[0].total, abs=3e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_a_knockout_equals_a_mask_given_to_the_bare_model(family: str) -> None:
    lens = lens_of(family)
    encoded = lens.encode(PROMPT, ANSWER)
    inputs, n = lens.inputs(encoded), len(encoded.ids)
    seen = torch.ones(n, n, dtype=torch.bool).tril()
    seen[encoded.spans.positions("output")[0] - 1 :, encoded.spans.positions("demo_text")] = False
    naive = lens.logits({**inputs, "attention_mask": seen[None, None]})
    with (
        knockout(lens, queries="output", keys="demo_text"),
        capture(lens.sites, None, edits_for(lens, encoded)),
    ):
        cut = lens.logits(inputs)
    assert (cut - naive).abs().max() < 1e-6
    assert (lens.logits(inputs) - naive).abs().max() > 1e-2


@pytest.mark.parametrize("family", DECODERS)
def test_bfloat16_is_no_farther_from_the_truth_than_eagers_own(family: str) -> None:
    lens, half = lens_of(family), load(f"tiny:{family}", dtype="bfloat16")
    encoded = lens.encode(PROMPT, ANSWER)
    sources = torch.as_tensor(encoded.spans.sources().astype(np.int64))[None]
    found = []
    for one in (lens, half):
        with capture(one.sites, Request(groups=sources, n_groups=len(SOURCES))) as record:
            one.logits(one.inputs(encoded), keep=1)
        found.append(record.stacked("mass")[:, 0])
    exact, ours = found
    onto = torch.nn.functional.one_hot(sources[0], len(SOURCES)).float()
    theirs = eager_weights(half)[0].float() @ onto
    assert (ours - exact).abs().mean() <= (theirs - exact).abs().mean()
    assert (ours.sum(-1) - 1).abs().max() < 1e-6
    assert (theirs.sum(-1) - 1).abs().max() > 1e-4


@pytest.mark.parametrize("family", DECODERS)
def test_generation_under_a_knockout_is_that_of_full_forwards(family: str) -> None:
    lens = lens_of(family)
    with knockout(lens, queries="output", keys="demo_text", layers=[0, 1]):
        made = lens.generate(PROMPT, max_new_tokens=4)
        prompt = lens.encode(PROMPT)
        for count, token in enumerate(made.ids):
            inputs = lens.inputs(prompt)
            if count:
                inputs = lens.back.extended(inputs, torch.as_tensor(made.ids[:count]))
            with capture(lens.sites, None, edits_for(lens, prompt, new=4)):
                logits = lens.logits(inputs, keep=1)[0, -1]
            assert int(logits.argmax()) == int(token)


@pytest.mark.parametrize("family", DECODERS)
def test_the_doctor_passes(family: str) -> None:
    table = check_model(lens_of(family))
    assert table.passed, [finding for finding in table.findings if not finding.passed]
    assert table.batching_exact
    assert len(table.findings) == 9


@pytest.mark.parametrize("family", ["qwen2-audio", "phi4-multimodal"])
def test_ablations_leave_their_mark_and_go(family: str) -> None:
    lens = lens_of(family)
    clean = float(trace(lens, PROMPT, outputs=ANSWER).nll[0])
    found = set()
    for value in ("zero", "mean", "resample"):
        with ablate_heads(lens, layers=[0, 2], heads=[1, 5], value=value, reference=[probe(seed=3)]):
            found.add(round(float(trace(lens, PROMPT, outputs=ANSWER).nll[0]), 5))
    with shuffle_values(lens, span="demo_text", seed=1):
        found.add(round(float(trace(lens, PROMPT, outputs=ANSWER).nll[0]), 5))
    assert len(found | {round(clean, 5)}) == 5, "every change moves the answer its own way"
    assert float(trace(lens, PROMPT, outputs=ANSWER).nll[0]) == clean


def test_contribution_is_per_source_and_effects_add_up() -> None:
    lens = lens_of("qwen2-audio")
    made = trace(lens, PROMPT, outputs=ANSWER, measures=("mass", "contribution", "logit_effect"))
    absent = made.tokens[0] == 0
    assert bool((made.contribution[..., absent.values] == 0).all())
    assert bool((made.contribution >= 0).all())
    assert made.contribution.sel(source="demo_text").max() > 0
    assert made.logit_effect.shape == made.mass.shape


def test_layers_and_heads_can_be_chosen() -> None:
    lens = lens_of("qwen3-asr")
    whole = trace(lens, PROMPT, outputs=ANSWER)
    part = trace(lens, PROMPT, outputs=ANSWER, layers=[2, 0], heads=[5, 1])
    assert part.layer.values.tolist() == [0, 2]
    for head in (5, 1):
        for layer in (0, 2):
            np.testing.assert_array_equal(
                part.mass.sel(layer=layer, head=head).values, whole.mass.sel(layer=layer, head=head).values
            )


def test_several_prompts_make_one_dataset_with_gaps_said() -> None:
    lens = lens_of("qwen3-asr")
    made = trace(lens, [PROMPT, probe(shots=1), probe(condition="asr", shots=0)], outputs=[ANSWER] * 3)
    assert made.shots.values.tolist() == [2, 1, 0]
    assert made.sizes["demo"] == 2
    assert bool(np.isnan(made.demo_mass[1, ..., 1, :]).all())
    assert bool(np.isnan(made.demo_mass[2]).all())
    assert made.demo_start[1, 1].values.tolist() == [-1, -1, -1]
    alone = trace(lens, PROMPT, outputs=ANSWER)
    np.testing.assert_array_equal(made.mass[0], alone.mass[0])


def test_a_model_that_fails_its_check_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = load("tiny:qwen2-audio")
    monkeypatch.setitem(self_check.LIMITS, "torch.float32", -1.0)
    with pytest.raises(SelfCheckFailed, match="fails its self-check: masses equal eager attention"):
        trace(lens, PROMPT, outputs=ANSWER)


def test_a_check_is_done_once_per_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = load("tiny:qwen2-audio"), load("tiny:qwen2-audio")
    ensure_checked(first)

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(self_check, "check_model", never)
    assert ensure_checked(second).weights == ensure_checked(first).weights
    with torch.no_grad():
        next(second.model.parameters()).add_(1e-2)
    del second.__dict__["_checked"]
    with pytest.raises(AssertionError, match="measured again"):
        ensure_checked(second)
