"""Front ends: lengths counted twice, ids and features as the stock processors make them, nothing cut in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.encode import encode
from attnlens.data.audio import RATE
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.front import load_front_end
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.granite_mel import GraniteExtractor
from attnlens.models.registry import FAMILIES, require_model
from attnlens.testing import corpus, front_end

ALL = sorted(FAMILIES)


def noise(samples: int) -> Any:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("family", ALL)
@settings(derandomize=True, max_examples=12, deadline=None)
@given(samples=st.integers(8_000, 80_000))
def test_length_rule_equals_extractor(family: str, samples: int) -> None:
    front = front_end(family)
    assert front.features(noise(samples)).positions == front.audio_positions(samples)


@pytest.mark.parametrize("family", sorted(set(ALL) - {"whisper"}))
def test_data_is_never_read_as_markup(family: str) -> None:
    front = front_end(family)
    nasty = f"a {front.markup.audio[1]} b <|im_end|> c"
    plain = front.tokenise(nasty, kind="content")
    assert front.audio_token_id not in plain
    assert front.tokenizer.decode(plain) == nasty
    assert front.tokenise(front.markup.audio[1], kind="markup") == [front.audio_token_id]


@pytest.mark.parametrize("family", ["qwen2-audio", "audio-flamingo-3"])
def test_longer_than_the_encoder_is_refused_not_cut(family: str) -> None:
    front = front_end(family)
    limit = {"qwen2-audio": 30, "audio-flamingo-3": 600}[family]
    assert front.audio_positions(limit * RATE) > 0
    with pytest.raises(BadInput, match="longer than"):
        front.audio_positions(limit * RATE + 1)


def stock(front: BaseFrontEnd) -> Any:
    """Return the family's own processor, without the checks that stand in the way of several clips and no images."""
    import transformers
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.processing_utils import ProcessorMixin

    def audio_only(cls: Any, **parts: Any) -> Any:
        lifted = {
            "check_argument_for_proper_class": lambda self, name, part: type(part),
            "validate_inputs": ProcessorMixin.validate_inputs,
        }
        return type("AudioOnly" + cls.__name__, (cls,), lifted)(tokenizer=front.tokenizer, **parts)

    placeholder = front.markup.audio[1]
    front.tokenizer.audio_token, front.tokenizer.audio_token_id = placeholder, front.audio_token_id
    stub = ImageProcessingMixin()
    match front.family:
        case "qwen2-audio":
            names = dict(zip(["audio_bos_token", "audio_token", "audio_eos_token"], front.markup.audio, strict=True))
            return audio_only(transformers.Qwen2AudioProcessor, feature_extractor=front.extractor, **names)
        case "audio-flamingo-3":
            return audio_only(
                transformers.AudioFlamingo3Processor, feature_extractor=front.extractor, audio_token=placeholder
            )
        case "qwen3-asr":
            return audio_only(transformers.Qwen3ASRProcessor, feature_extractor=front.extractor)
        case "phi4-multimodal":
            return audio_only(
                transformers.Phi4MultimodalProcessor, audio_processor=front.extractor, image_processor=stub
            )
    raise AssertionError(front.family)


@pytest.mark.parametrize("family", ["qwen2-audio", "audio-flamingo-3", "qwen3-asr", "phi4-multimodal"])
def test_ids_and_features_are_those_of_the_stock_processor(family: str) -> None:
    front = front_end(family)
    made = corpus(pool=1)
    prompt = build_prompt(made.test[0], made.pool, condition="micl", shots=1)
    encoded = encode(prompt, front)
    processor = stock(front)
    clips = [made.pool[0].audio.load(), made.test[0].audio.load()]
    # One text per clip: padded together, a clip may get other features than alone.
    text = front.tokenizer.decode(encoded.ids)
    placeholder = front.markup.audio[1]
    halves = [clip.positions for clip in encoded.features]
    ids: list[int] = []
    rest = text
    for samples, positions, features in zip(clips, halves, encoded.features, strict=True):
        head, rest = rest.split(placeholder * positions, 1)
        out = processor(text=[head + placeholder], audio=[samples], sampling_rate=RATE, return_tensors="pt")
        ids += np.asarray(out["input_ids"])[0].tolist()
        for name, array in features.arrays.items():
            np.testing.assert_allclose(array, np.asarray(out[name]), atol=1e-6, err_msg=name)
    ids += front.tokenise(rest, kind="markup")
    assert ids == encoded.ids.tolist()


def test_omni_keeps_the_frames_that_the_padded_window_would_give() -> None:
    front = front_end("qwen2.5-omni")
    samples = noise(30_011)
    padded = front.extractor(
        samples, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="np"
    )
    frames = int(padded["attention_mask"].sum())
    ours = front.features(samples).arrays["input_features"]
    assert ours.shape[-1] == frames
    np.testing.assert_allclose(ours, padded["input_features"][..., :frames], atol=1e-5)


def test_granite_mel_equals_its_definition() -> None:
    extractor = GraniteExtractor()
    samples = noise(16_123)
    half = extractor.n_fft // 2
    padded = np.pad(samples.astype(np.float64), half, mode="reflect")
    window = np.zeros(extractor.n_fft)
    offset = (extractor.n_fft - extractor.win_length) // 2
    steps = np.arange(extractor.win_length)
    window[offset : offset + extractor.win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * steps / extractor.win_length)
    frames = [
        np.abs(np.fft.rfft(padded[start : start + extractor.n_fft] * window)) ** 2
        for start in range(0, len(samples) + 1, extractor.hop_length)
    ]
    log = np.log10(np.maximum(np.asarray(frames) @ extractor.filters, 1e-10))
    log = np.maximum(log, log.max() - 8) / 4 + 1
    log = log[: len(log) // 2 * 2]
    np.testing.assert_allclose(extractor(samples), log.reshape(-1, 160), atol=2e-4)


@pytest.mark.parametrize("family", ALL)
def test_a_checkpoint_folder_gives_the_same_front_end(family: str, tmp_path: Path) -> None:
    front = front_end(family)
    front.config.save_pretrained(tmp_path)
    front.tokenizer.save_pretrained(tmp_path)
    if family == "granite-speech":
        (tmp_path / "preprocessor_config.json").write_text('{"n_fft": 512, "feature_extractor_type": "x"}')
    else:
        front.extractor.save_pretrained(tmp_path)
    loaded = load_front_end(str(tmp_path))
    made = corpus(pool=2)
    prompt = build_prompt(made.test[0], made.pool, condition="micl")
    assert encode(prompt, loaded).ids.tolist() == encode(prompt, front).ids.tolist()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    front_end("qwen2-audio").config.save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="does not load as a checkpoint"):
        load_front_end(str(tmp_path))


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UnsupportedModel, match="llama"):
        load_front_end(str(tmp_path))


def test_a_tokenizer_of_another_family_is_refused() -> None:
    qwen, phi = front_end("qwen3-asr"), front_end("phi4-multimodal")
    with pytest.raises(UnsupportedModel, match="placeholder"):
        type(qwen)(phi.tokenizer, qwen.extractor, qwen.config)


@pytest.mark.parametrize("name", ["organsim", "tiny:qwen2-adio", "qwen"])
def test_unknown_model_names(name: str) -> None:
    with pytest.raises(KeyError):
        require_model(name)


def test_encoding_one_prompt_needs_no_weights() -> None:
    code = """
import sys
from attnlens.context.build import build_prompt
from attnlens.context.encode import encode
from attnlens.testing import front_end, utterance

encode(build_prompt(utterance("t"), [], condition="asr"), front_end("qwen3-asr"))
assert not [name for name in sys.modules if name.endswith("modeling_qwen3_asr")]
"""
    # A process of its own: the tests beside this one do load weights.
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checkpoint_of_its_own_form_says_which_revision_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refused(*_names: Any, **_options: Any) -> Any:
        raise ValueError("The repository contains custom code which must be executed to correctly load the model.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refused)
    with pytest.raises(BadInput, match="custom code") as told:
        load_front_end("microsoft/Phi-4-multimodal-instruct")
    assert "refs/pr/70" in str(told.value.fix)
    with pytest.raises(BadInput, match="custom code") as told:
        load_front_end("microsoft/Phi-4-multimodal-instruct", revision="refs/pr/70")
    assert "config.json" in str(told.value.fix)
