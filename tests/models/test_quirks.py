"""The traps of each family, one test for each, named after it."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.context.build import build_prompt
from attnlens.context.encode import Encoded
from attnlens.context.prompt import Demonstration, Prompt, Target
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.front import family_of
from attnlens.models.load import load
from attnlens.models.phi4_multimodal import Phi4BackEnd
from attnlens.models.random_weights import random_weights
from attnlens.models.registry import FAMILIES
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import clip, corpus, front_end

DECODERS = sorted(set(FAMILIES) - {"whisper"})
SPEECH = corpus(pool=2)


def prompt(*, shots: int = 1) -> Prompt:
    return build_prompt(SPEECH.test[0], SPEECH.pool, condition="micl", shots=shots)


def saved(one: SpeechLM, folder: Path) -> str:
    one.model.save_pretrained(folder)
    one.front.tokenizer.save_pretrained(folder)
    if one.family == "granite-speech":
        (folder / "preprocessor_config.json").write_text(json.dumps({"n_fft": 512, "feature_extractor_type": "x"}))
    else:
        one.front.extractor.save_pretrained(folder)
    return str(folder)


def read(one: SpeechLM, asked: Prompt) -> torch.Tensor:
    return one.logits(one.inputs(one.encode(asked)))


def lengths(*seconds: float) -> Prompt:
    clips = [clip(seconds=length, seed=index) for index, length in enumerate(seconds)]
    demos = tuple(
        Demonstration(f"d{index}", one, "ka mi", f"d{index}", f"d{index}") for index, one in enumerate(clips[:-1])
    )
    return Prompt("micl", demos, Target("t", clips[-1], "su", "xx"))


# --- clips encoded together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", DECODERS)
def test_co_batched_audio_changes_nothing(family: str) -> None:
    one = load(f"tiny:{family}")

    def first_clip(asked: Prompt) -> torch.Tensor:
        encoded = one.encode(asked)
        heard = np.flatnonzero(encoded.ids == one.front.audio_token_id)[: encoded.features[0].positions]
        return one.inputs(encoded)["inputs_embeds"][0, heard]

    assert torch.equal(first_clip(lengths(0.7, 0.9)), first_clip(lengths(0.7, 2.3, 1.1)))


def test_co_batched_audio_does_change_phi4_left_to_itself() -> None:
    # What the test above guards against; when this fails, transformers has mended it.
    one = load("tiny:phi4-multimodal")
    samples = [clip(seconds=length, seed=index).load() for index, length in enumerate((0.7, 2.3))]
    made = [one.front.extractor(batch, sampling_rate=16_000, return_tensors="pt") for batch in (samples[:1], samples)]
    found = []
    for arrays in made:
        ids = torch.full((1, int(arrays["audio_embed_sizes"].sum())), one.front.audio_token_id)
        empty = torch.zeros(1, ids.shape[1], 64)
        with torch.no_grad():
            found.append(one.decoder.embed_tokens_extend.audio_embed(ids, empty, **arrays)[0])
    alone, together = found
    assert float((together[: len(alone)] - alone).abs().max()) > 0.01 * float(alone.abs().max())


# --- processors that want one clip per text ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["audio-flamingo-3", "qwen3-asr"])
def test_one_to_one_processors_are_gone_around(family: str) -> None:
    one = load(f"tiny:{family}")
    encoded = one.encode(lengths(0.7, 1.1, 0.9))
    assert len(encoded.features) == 3
    embedded = one.inputs(encoded)["inputs_embeds"][0]
    parts = [one.back.embed_clip({n: torch.as_tensor(a) for n, a in f.arrays.items()}) for f in encoded.features]
    assert torch.equal(embedded[encoded.ids == one.front.audio_token_id], torch.cat(parts))


# --- attention of the text decoder alone ------------------------------------------------------------------------------


def test_only_the_text_decoder_changes_its_attention() -> None:
    # Asked for on the whole, some encoders raise halfway through, with part of the model changed.
    one = load("tiny:qwen2-audio", attn="eager")
    assert one.attn == "eager"
    assert one.model.model.audio_tower.config._attn_implementation == "sdpa"


# --- families that are refused, and why -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("vibevoice_asr", "drawn at random"),
        ("gemma3n", "read token ids beside the embeddings"),
        ("gemma4", "read token ids beside the embeddings"),
        ("kyutai_speech_to_text", "text and audio at once"),
        ("wav2vec2", "without a language model"),
    ],
)
def test_families_whose_numbers_would_be_wrong_are_refused(model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        family_of(SimpleNamespace(model_type=model_type), name="some/model")


# --- Granite ----------------------------------------------------------------------------------------------------------


def test_granite_logits_are_scaled_as_the_text_model_scales_them() -> None:
    from transformers import GraniteForCausalLM

    one = load("tiny:granite-speech")
    one.model.config.text_config.logits_scaling = 8.0
    text = GraniteForCausalLM(one.model.config.text_config).eval()
    text.model.load_state_dict(one.decoder.state_dict())
    text.lm_head.load_state_dict(one.model.lm_head.state_dict())
    inputs = one.inputs(one.encode(prompt()))
    with torch.no_grad():
        torch.testing.assert_close(one.logits(inputs), text(**inputs).logits, rtol=0.0, atol=1e-6)
        assert not torch.allclose(one.logits(inputs), one.model(**inputs).logits)


def lora(one: SpeechLM, folder: Path, targets: Any) -> torch.Tensor:
    """Save a random adapter into a folder; return the logits with it."""
    from peft import LoraConfig
    from transformers import PreTrainedModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        one.model.add_adapter(LoraConfig(r=4, target_modules=targets))
        with torch.no_grad():
            for name, weight in one.model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(0, 0.3)
    # Past Granite's own method, which saves the adapted weights under names that it cannot load.
    PreTrainedModel.save_pretrained(one.model, folder)
    return read(one, prompt())


def test_granite_lora_is_on_in_forward_and_stays_on_in_generate(tmp_path: Path) -> None:
    one = load("tiny:granite-speech")
    base = read(one, prompt())
    one.model.config.has_lora_adapter = True
    name = saved(one, tmp_path)
    with pytest.raises(BadInput, match="trained with an adapter that is not there"):
        load(name)
    adapted = lora(one, tmp_path, ["q_proj", "v_proj"])
    assert not torch.allclose(adapted, base, atol=1e-2)
    other = load(name)
    assert other.adapter == name
    assert torch.equal(read(other, prompt()), adapted)
    first = other.generate(prompt(), max_new_tokens=1)
    assert first.ids.tolist() in ([], [int(adapted[0, -1].argmax())])
    assert int(adapted[0, -1].argmax()) != int(base[0, -1].argmax())
    assert torch.equal(read(other, prompt()), adapted)
    assert torch.equal(read(load(name, adapter="none"), prompt()), base)


# --- Phi-4 ------------------------------------------------------------------------------------------------------------

PHI4_TARGETS = r"model\.layers\.\d+\.(self_attn\.(qkv|o)_proj|mlp\.(gate_up|down)_proj)"


def test_phi4_speech_adapter_is_found_switched_on_and_off(tmp_path: Path) -> None:
    one = load("tiny:phi4-multimodal")
    base = read(one, prompt())
    name = saved(one, tmp_path)
    adapted = lora(one, tmp_path / "speech-lora", PHI4_TARGETS)
    assert not torch.allclose(adapted, base, atol=1e-2)
    ways: list[dict[str, Any]] = [{}, {"adapter": "speech-lora"}, {"adapter": str(tmp_path / "speech-lora")}]
    for options in ways:
        other = load(name, **options)
        assert other.adapter == str(tmp_path / "speech-lora")
        assert torch.equal(read(other, prompt()), adapted)
    other.model.disable_adapters()
    assert torch.equal(read(other, prompt()), base)
    assert torch.equal(read(load(name, adapter="none"), prompt()), base)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    lora(load("tiny:phi4-multimodal"), tmp_path, PHI4_TARGETS)
    with pytest.raises(BadInput, match="does not fit VoxtralForConditionalGeneration"):
        load("tiny:voxtral", adapter=str(tmp_path))
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    deeper = {name.replace(".2.", ".3."): one.clone() for name, one in weights.items() if ".2." in name}
    for wrong in (
        {name: one for name, one in weights.items() if ".2." not in name},
        {**weights, **deeper},
        {name: torch.zeros(one.shape[0] + 1, one.shape[1]) for name, one in weights.items()},
    ):
        save_file(wrong, file, metadata={"format": "pt"})
        with pytest.raises(BadInput, match="does not fit"):
            load("tiny:phi4-multimodal", adapter=str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedModel, match="peft"):
        load("tiny:phi4-multimodal", adapter=str(tmp_path))


def bordered(border: int) -> SpeechLM:
    front = front_end("phi4-multimodal")
    front.config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0] * 3,
        "long_factor": [4.0] * 3,
        "original_max_position_embeddings": border,
    }
    front.config.original_max_position_embeddings = border
    model = random_weights(front, FAMILIES["phi4-multimodal"], seed=0)
    return SpeechLM(Phi4BackEnd(model, front), name="bordered", family="phi4-multimodal")


def longest(one: SpeechLM, encoded: Encoded, tokens: int) -> list[int]:
    inputs, made = one.inputs(encoded), list[int]()
    for _ in range(tokens):
        made.append(int(one.logits(inputs, keep=1).argmax()))
        inputs = one.back.extended(inputs, torch.tensor(made[-1:]))
    return made


def test_phi4_longrope_border_is_told_and_not_crossed_with_a_cache() -> None:
    assert load("tiny:phi4-multimodal").cache_border is None
    length = len(front_end_length(prompt()))
    one = bordered(length + 2)
    one.model.generation_config.eos_token_id = []
    assert one.cache_border == length + 2
    encoded = one.encode(prompt())
    answer = one.generate(encoded, max_new_tokens=7)
    assert answer.ids.tolist() == longest(one, encoded, 7)
    # A cache from below the border, used beyond it, gives other numbers: the reason for all this.
    made = torch.tensor(answer.ids)
    whole = one.back.extended(one.inputs(encoded), made)
    prefix = {name: value[:, :length] for name, value in whole.items()}
    with torch.no_grad():
        cache = one.model(**prefix, use_cache=True).past_key_values
        rest = {"inputs_embeds": whole["inputs_embeds"][:, length:], "position_ids": whole["position_ids"][:, length:]}
        crossed = one.model(**rest, attention_mask=whole["attention_mask"], past_key_values=cache).logits
    assert float((crossed - one.logits(whole)[:, length:]).abs().max()) > 1e-3


def front_end_length(asked: Prompt) -> Any:
    return load("tiny:phi4-multimodal").encode(asked).ids


def test_phi4_prompts_on_both_sides_of_the_border_do_not_share_a_batch() -> None:
    one = bordered(200)
    short, long = one.encode(prompt(shots=0)), one.encode(prompt(shots=2))
    assert len(short.ids) <= 200 < len(long.ids)
    with pytest.raises(BadInput, match="longer than 200"):
        one.inputs([short, long])
    one.inputs([short, short])


# --- Voxtral ----------------------------------------------------------------------------------------------------------


def test_voxtral_pads_every_clip_to_half_minutes() -> None:
    one = load("tiny:voxtral")
    encoded = one.encode(lengths(1.0, 31.0))
    window = one.front.positions_per_window  # type: ignore[attr-defined]
    assert [clip.positions for clip in encoded.features] == [window, 2 * window]
    # The published sizes: 1500 encoder frames of width 1280, stacked to 5120.
    published = {"max_source_positions": 1500, "hidden_size": 1280, "intermediate_size": 5120}
    real = type(one.front)(one.front.tokenizer, one.front.extractor, copy.deepcopy(one.front.config))
    for name, value in published.items():
        setattr(real.config.audio_config, name, value)
    assert real.audio_positions(16_000) == 375
    spans = [span for span in encoded.spans.spans if span.label.modality == "audio"]
    assert [span.seconds for span in spans] == [1.0, 31.0]
    inputs = one.inputs(encoded)
    assert inputs["position_ids"][0].tolist() == list(range(len(encoded.ids)))
    # The silence is heard: each padded position has an embedding of its own.
    heard = inputs["inputs_embeds"][0, encoded.ids == one.front.audio_token_id]
    assert float((heard[90] - heard[91]).abs().max()) > 0


# --- Omni -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen2.5-omni", "qwen3-omni"])
def test_omni_forgets_the_positions_of_the_prompt_before(family: str) -> None:
    one = load(f"tiny:{family}")
    encoded = one.encode(prompt())
    logits, answer = read(one, prompt()), one.generate(encoded, max_new_tokens=4)
    one.model.model.rope_deltas = torch.tensor([[1000]])
    assert torch.equal(read(one, prompt()), logits)
    assert one.generate(encoded, max_new_tokens=4).ids.tolist() == answer.ids.tolist()


@pytest.mark.parametrize("family", ["qwen2.5-omni", "qwen3-omni"])
def test_omni_positions_are_those_the_class_computes(family: str) -> None:
    one = load(f"tiny:{family}")
    encoded = one.encode(prompt())
    ids = torch.as_tensor(encoded.ids)[None]
    frames = torch.tensor([clip.arrays["input_features"].shape[-1] for clip in encoded.features])
    expected, delta = one.model.get_rope_index(ids, None, None, torch.ones_like(ids), False, frames, None)
    ours = one.inputs(encoded)["position_ids"]
    assert torch.equal(expected.long(), ours.expand(3, 1, -1))
    assert int(delta.sum()) == 0


@pytest.mark.parametrize("style", ["saved", "as published"])
@pytest.mark.parametrize("family", ["qwen2.5-omni", "qwen3-omni"])
def test_of_a_full_omni_checkpoint_only_the_thinker_is_loaded(family: str, style: str, tmp_path: Path) -> None:
    import transformers
    from safetensors.torch import load_file, save_file

    one = load(f"tiny:{family}")
    name = saved(one, tmp_path)
    full = {"qwen2.5-omni": transformers.Qwen2_5OmniConfig, "qwen3-omni": transformers.Qwen3OmniMoeConfig}[family]
    full(thinker_config=one.model.config.to_dict()).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if style == "as published":
        inner = [
            ("model.language_model.", "model."),
            ("model.audio_tower.", "audio_tower."),
            ("model.visual", "visual"),
        ]
        for ours, theirs in inner:
            weights = {key.replace(ours, theirs): value for key, value in weights.items()}
    prefixed = {f"thinker.{key}": value for key, value in weights.items()}
    prefixed["talker.model.norm.weight"] = torch.zeros(3)
    save_file(prefixed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    other = load(name)
    assert type(other.model) is type(one.model)
    assert torch.equal(read(other, prompt()), read(one, prompt()))
    assert other.front.tokenizer.eos_token_id in other.model.generation_config.eos_token_id
