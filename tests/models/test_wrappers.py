"""Every family through encode, inputs, logits and generate, against the bare model and against itself."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attnlens.context.build import build_prompt
from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName, UnsupportedModel
from attnlens.models.generation import without_habits
from attnlens.models.load import load
from attnlens.models.registry import FAMILIES
from attnlens.models.speechlm import SpeechLM, require_visible
from attnlens.testing import corpus, front_end, tiny

DECODERS = sorted(set(FAMILIES) - {"whisper"})
SPEECH = corpus(pool=3)
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 2e-6}


@functools.cache
def lens(family: str) -> SpeechLM:
    return load(f"tiny:{family}")


def prompt(condition: Any = "micl", *, shots: int = 2, target: int = 0) -> Prompt:
    return build_prompt(SPEECH.test[target], SPEECH.pool, condition=condition, shots=shots)


def save(one: SpeechLM, folder: Path) -> None:
    one.model.save_pretrained(folder)
    one.front.tokenizer.save_pretrained(folder)
    if one.family == "granite-speech":
        (folder / "preprocessor_config.json").write_text(json.dumps({"n_fft": 512, "feature_extractor_type": "x"}))
    else:
        one.front.extractor.save_pretrained(folder)


def as_the_class_reads(one: SpeechLM, encoded: Encoded) -> dict[str, torch.Tensor]:
    arrays = {name: torch.as_tensor(array) for name, array in encoded.features[0].arrays.items()}
    ids = torch.as_tensor(encoded.ids)[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **arrays}


@pytest.mark.parametrize("family", DECODERS)
def test_a_prompt_is_read_as_the_bare_class_reads_it(family: str) -> None:
    one = lens(family)
    encoded = one.encode(prompt("asr", shots=0))
    with torch.no_grad():
        bare = one.model(**as_the_class_reads(one, encoded)).logits * one.back.logit_scale
    torch.testing.assert_close(one.logits(one.inputs(encoded)), bare, **CLOSE)


@pytest.mark.parametrize("family", DECODERS)
def test_encode_inputs_logits_generate(family: str) -> None:
    one = lens(family)
    encoded = one.encode(prompt(shots=1))
    inputs = one.inputs(encoded)
    logits = one.logits(inputs)
    assert logits.shape == (1, len(encoded.ids), 320)
    with torch.no_grad():
        bare = one.model(**inputs).logits * one.back.logit_scale
    assert torch.equal(logits, bare)
    torch.testing.assert_close(one.logits(inputs, keep=5), logits[:, -5:], **CLOSE)
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(one.logits(inputs, keep=rows), logits[:, rows], **CLOSE)
    answer = one.generate(encoded, max_new_tokens=3)
    naive = greedy(one, encoded, 3)
    assert answer.ids.tolist() == naive
    assert answer.text == one.front.tokenizer.decode(naive, skip_special_tokens=True)
    assert answer.encoded is encoded


def greedy(one: SpeechLM, encoded: Encoded, tokens: int) -> list[int]:
    """Decode without a cache: one full forward pass per token."""
    inputs, made = one.inputs(encoded), []
    for _ in range(tokens):
        new = int(one.logits(inputs, keep=1).argmax())
        if new in one.model.generation_config.eos_token_id:
            break
        made.append(new)
        inputs = one.back.extended(inputs, torch.tensor([new]))
    return made


@pytest.mark.parametrize("family", DECODERS)
def test_a_batch_of_two_is_two_batches_of_one(family: str) -> None:
    one = lens(family)
    batch = [one.encode(prompt(shots=1)), one.encode(prompt("t-icl", target=1))]
    together = one.logits(one.inputs(batch))
    for row, encoded in enumerate(batch):
        alone = one.logits(one.inputs(encoded))[0]
        torch.testing.assert_close(together[row, -len(alone) :], alone, **CLOSE)


@pytest.mark.parametrize("family", DECODERS)
def test_a_checkpoint_folder_gives_the_same_logits(family: str, tmp_path: Path) -> None:
    one = lens(family)
    save(one, tmp_path)
    other = load(str(tmp_path))
    assert other.family == family
    assert other.dtype == torch.float32
    encoded = one.encode(prompt("asr", shots=0))
    expected = one.logits(one.inputs(encoded))
    assert torch.equal(other.logits(other.inputs(other.encode(encoded.prompt))), expected)
    eager = load(str(tmp_path), attn="eager", device_map="cpu")
    assert eager.attn == "eager"
    torch.testing.assert_close(eager.logits(eager.inputs(encoded)), expected, rtol=0.0, atol=5e-6)
    half = load(str(tmp_path), dtype="bfloat16")
    made = half.logits(half.inputs(encoded), dtype=torch.float32)
    assert half.dtype == torch.bfloat16
    assert made.dtype == torch.float32
    assert float((made - expected).abs().max()) < 0.2 * float(expected.std())


@pytest.mark.parametrize("family", DECODERS)
def test_stable_names_and_what_they_name(family: str) -> None:
    one = lens(family)
    assert (one.n_layers, one.n_heads) == (3, 8)
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for layer in one.layers:
        for name in ("residual", "attention_output", "mlp_output"):
            point = getattr(layer, name)
            assert one.model.get_submodule(point.path) is point.module

            def keep(_m: Any, _i: Any, output: Any, key: str = f"{name}{layer.index}", point: Any = point) -> None:
                seen[key] = point.tensor(output)

            handles.append(point.module.register_forward_hook(keep))
    try:
        one.logits(one.inputs(one.encode(prompt("asr", shots=0))))
    finally:
        for handle in handles:
            handle.remove()
    for index in (1, 2):
        halves = seen[f"attention_output{index}"] + seen[f"mlp_output{index}"]
        stream = seen[f"residual{index - 1}"] + one.back.residual_multiplier * halves
        torch.testing.assert_close(seen[f"residual{index}"], stream, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("family", DECODERS)
def test_sites_are_the_decoders_attention(family: str) -> None:
    one = lens(family)
    assert one.sites.decoder is one.decoder
    assert one.sites.layers("self") == (0, 1, 2)
    for layer in one.layers:
        site = one.sites.find(layer.attention_output.module)
        assert site is not None
        assert site.layer == layer.index
        assert one.sites.projections[site] is layer.module.get_submodule("self_attn.o_proj")
    assert one.sites.unembedding is one.model.get_output_embeddings()


@pytest.mark.parametrize("family", DECODERS)
def test_the_stand_ins_attention_is_not_flat(family: str) -> None:
    # A nearly uniform pattern would agree with any other within a tolerance.
    one = load(f"tiny:{family}", attn="eager")
    with torch.no_grad():
        out = one.model(**one.inputs(one.encode(prompt("t-icl"))), output_attentions=True)
    for layer in out.attentions:
        rows = layer[0, :, -40:]
        assert float(rows.amax(-1).mean()) > 10 / rows.shape[-1]


def test_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (load("tiny:voxtral", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [one.model.lm_head.weight for one in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_sampling_follows_its_seed() -> None:
    one = lens("qwen3-asr")
    encoded = one.encode(prompt("asr", shots=0))
    before = torch.get_rng_state()
    first, again, other = (
        one.generate(encoded, max_new_tokens=12, do_sample=True, seed=seed).ids.tolist() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert first == again != other


def test_a_checkpoints_penalties_and_temperatures_do_not_act() -> None:
    from transformers import GenerationConfig

    model, front = load("tiny:qwen2-audio").model, front_end("qwen2-audio")
    model.generation_config = GenerationConfig(repetition_penalty=1.3, do_sample=True, top_k=5, eos_token_id=[9, 8])
    without_habits(model, front.tokenizer)
    kept = model.generation_config
    assert (kept.repetition_penalty, kept.do_sample, kept.top_k) == (None, None, None)
    assert kept.eos_token_id == [9, 8, front.tokenizer.eos_token_id]


def test_generation_stops_at_an_end_token_and_leaves_it_out() -> None:
    one = load("tiny:qwen3-omni")
    encoded = one.encode(prompt("asr", shots=0))
    free = one.generate(encoded, max_new_tokens=6)
    assert free.ended == "length"
    one.model.generation_config.eos_token_id = [int(free.ids[1])]
    stopped = one.generate(encoded, max_new_tokens=6)
    assert stopped.ended == "end-token"
    assert stopped.ids.tolist() == free.ids[: free.ids.tolist().index(int(free.ids[1]))].tolist()


def test_what_does_not_fit_is_refused() -> None:
    one = lens("qwen2-audio")
    encoded = one.encode(prompt("asr", shots=0))
    limit = one.front.context_length
    assert limit == 4096
    with pytest.raises(BadInput, match="does not fit"):
        one.generate(encoded, max_new_tokens=limit - len(encoded.ids) + 1)
    longer = one.encode(encoded.prompt, "a" * limit)
    with pytest.raises(BadInput, match="4096"):
        one.inputs(longer)
    with pytest.raises(BadInput, match="at least one prompt"):
        one.inputs([])
    with pytest.raises(BadInput, match="at least one token"):
        one.generate(encoded, max_new_tokens=0)
    with pytest.raises(BadInput, match="at least one position"):
        one.logits({}, keep=0)


def test_placeholders_that_do_not_match_the_features_are_refused() -> None:
    from dataclasses import replace

    from attnlens.context.encode import Features
    from attnlens.errors import SelfCheckFailed

    one = lens("qwen3-asr")
    encoded = one.encode(prompt("asr", shots=0))
    with pytest.raises(BadInput, match="hold the audio placeholder"):
        one.inputs(replace(encoded, features=encoded.features * 2))
    clip = encoded.features[0]
    wrong = Features(clip.arrays, clip.positions - 1)
    ids = np.delete(encoded.ids, np.flatnonzero(encoded.ids == one.front.audio_token_id)[0])
    with pytest.raises(SelfCheckFailed, match="length rule disagree"):
        one.inputs(replace(encoded, ids=ids, features=(wrong,)))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"attn": "sdpaa"}, UnknownName, "did you mean 'sdpa'"),
        ({"dtype": "bfloat61"}, UnknownName, "bfloat16"),
        ({"attn": "flash_attention_2"}, UnsupportedModel, "attn='sdpa'"),
        ({"device_map": {"": 0}}, BadInput, "one device"),
        ({"adapter": "/not/there"}, BadInput, "no adapter at"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind) as caught:
        load("tiny:qwen2-audio", **options)
    assert words in str(caught.value)


def test_a_checkpoint_that_lacks_weights_is_refused_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(lens("qwen2-audio"), tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    dropped = next(name for name in weights if "q_proj.weight" in name)
    save_file({name: one for name, one in weights.items() if name != dropped}, file, metadata={"format": "pt"})
    with pytest.raises(BadInput, match="lacks 1 weights"):
        load(str(tmp_path))
    file.unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"safetensors"):
        load(str(tmp_path))


def test_shards_and_device_maps_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    one = lens("qwen2-audio")
    save(one, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    one.model.save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    other = load(str(tmp_path), device_map={"": "cpu"})
    encoded = one.encode(prompt(shots=1))
    assert torch.equal(other.logits(other.inputs(encoded)), one.logits(one.inputs(encoded)))


def test_a_quantisation_is_passed_on_to_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    save(lens("qwen2-audio"), tmp_path)
    asked, quantised = transformers.BitsAndBytesConfig(load_in_8bit=True), []

    def refuse(name: str, **options: Any) -> None:
        quantised.append(options["quantization_config"])
        raise ImportError("no kernels for it here")

    monkeypatch.setattr(transformers.Qwen2AudioForConditionalGeneration, "from_pretrained", refuse)
    with pytest.raises(BadInput, match="no kernels for it here"):
        load(str(tmp_path), quantization_config=asked)
    assert quantised == [asked]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_stand_in_is_made_in_well_under_a_second(family: str) -> None:
    tiny(family)  # transformers imports a family's modules once
    begin = time.process_time()
    made = tiny(family, seed=1)
    made.encode(prompt("asr", shots=0))
    assert time.process_time() - begin < 1.0


def test_models_that_cannot_be_watched_are_refused_with_the_reason() -> None:
    class Own:
        decoder = nn.Linear(2, 2)

    with pytest.raises(UnsupportedModel, match="by itself"):
        require_visible(Own(), name="some/model")  # type: ignore[arg-type]


def test_out_of_memory_says_what_was_asked_and_what_lowers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one = lens("qwen3-asr")
    inputs = one.inputs(one.encode(prompt("asr", shots=0)))

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr(one.back, "logits", fail)
    with pytest.raises(BadInput) as caught:
        one.logits(inputs)
    assert "inputs_embeds [1, " in str(caught.value)
    assert "keep fewer positions" in str(caught.value)

    def fail_on_cpu(*_: Any) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(one.back, "logits", fail_on_cpu)
    with pytest.raises(BadInput, match="out of memory"):
        one.logits(inputs)

    def bug(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(one.back, "logits", bug)
    with pytest.raises(RuntimeError, match="shapes differ"):
        one.logits(inputs)
