from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.asr.load_acoustic import load_acoustic
from attnlens.asr.whisper import WhisperModel
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    where = tmp_path_factory.mktemp("whisper")
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    vocabulary = {name: number for number, name in enumerate([*LETTERS, "Ġ", *specials])}
    bare = Tokenizer(models.BPE(vocabulary, []))
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token=specials[0], extra_special_tokens=specials[1:])
    end, start = (vocabulary[name] for name in specials[:2])
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_source_positions=100,
        max_target_positions=40,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        begin_suppress_tokens=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
        with torch.no_grad():
            model.proj_out.weight.normal_(std=0.15)
    # Without the space every text is one sequence.
    model.generation_config.suppress_tokens = [vocabulary[name] for name in ("Ġ", *specials[1:])]
    model.generation_config.begin_suppress_tokens = None
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    WhisperFeatureExtractor(feature_size=8, chunk_length=2).save_pretrained(where)
    # A checkpoint's own tokenizer class; the tiny vocabulary is not Whisper's.
    told = json.loads((where / "tokenizer_config.json").read_text())
    assert told["tokenizer_class"] != "WhisperTokenizer"
    return where


@pytest.fixture(scope="module")
def model(folder: Path) -> WhisperModel:
    made = load_acoustic(folder)
    assert isinstance(made, WhisperModel)
    return made


def spoken(seconds: float, name: str = "u") -> Utterance:
    samples = np.random.default_rng(0).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)
    return Utterance(name, Audio.from_array(samples), "", "xx")


def test_lists_are_sorted_distinct_and_scored_exactly(model: WhisperModel) -> None:
    one = spoken(1.0)
    (found,) = model.nbest([one], n=5)
    assert found.utterance_id == "u"
    assert len(found) == 5
    scores = [each.acoustic for each in found.hypotheses]
    assert scores == sorted(scores, reverse=True)
    for each in found.hypotheses:
        assert naive(model, one, each.text) == pytest.approx(each.acoustic, abs=1e-4)


def naive(model: WhisperModel, one: Utterance, text: str) -> float:
    """Step by step, a forward each."""
    net: Any = model.model
    features = model.extractor(one.audio.load(), sampling_rate=16_000, return_tensors="pt")["input_features"]
    ids, total = model._prompt(features), 0.0
    for number in [*model.tokenizer(text, add_special_tokens=False).input_ids, net.config.eos_token_id]:
        with torch.no_grad():
            logits = net(input_features=features, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
        total += float(torch.log_softmax(logits, -1)[number])
        ids.append(number)
    return total


def test_what_does_not_end_is_no_transcript(model: WhisperModel, caplog: pytest.LogCaptureFixture) -> None:
    (cut,) = model.nbest([spoken(1.0)], n=2, max_new_tokens=1)
    assert all(not one.text for one in cut.hypotheses)
    if not len(cut):
        assert "came to an end" in caplog.text


def test_language_and_task_are_said_to_the_model(folder: Path) -> None:
    made = load_acoustic(folder)
    assert isinstance(made, WhisperModel)
    ids = made.tokenizer.convert_tokens_to_ids(["<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    told = made.model.generation_config
    told.lang_to_id, told.task_to_id, told.no_timestamps_token_id = {"<|en|>": ids[0]}, {"transcribe": ids[1]}, ids[2]
    for language in ("en", None):
        made.language = language
        (found,) = made.nbest([spoken(1.0)], n=2)
        features = made.extractor(spoken(1.0).audio.load(), sampling_rate=16_000, return_tensors="pt")
        assert made._prompt(features["input_features"])[1:] == ids
        assert naive(made, spoken(1.0), found.best.text) == pytest.approx(found.best.acoustic, abs=1e-4)
    made.language = "xx"
    with pytest.raises(UnknownName, match="xx"):
        made.nbest([spoken(1.0)], n=1)


def test_audio_longer_than_the_model_reads_is_refused_before_any_is_heard(model: WhisperModel) -> None:
    with pytest.raises(BadInput, match="longer than Whisper reads"):
        model.nbest([spoken(1.0), spoken(2.5, "long")])


def test_bad_options(model: WhisperModel, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least one"):
        model.nbest([spoken(1.0)], n=0)
    with pytest.raises(BadInput, match="no frame log-probabilities"):
        load_acoustic(folder, cache=tmp_path)
