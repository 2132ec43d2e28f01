"""The SONAR path on a tiny random encoder of SONAR's class, with a tiny tokeniser of SONAR's class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import M2M100Config, M2M100Model, NllbTokenizer
from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

from attnlens.context.retrieval import Query, retrieve
from attnlens.context.retrieval.sonar import BATCH, SonarTextEncoder, masked_mean
from attnlens.data.audio import Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
CONFIG = M2M100Config(
    vocab_size=40,
    d_model=16,
    encoder_layers=2,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    max_position_embeddings=48,
    pad_token_id=1,
)


def tokenizer() -> NllbTokenizer:
    languages = ["eng_Latn", "quy_Latn"]
    vocabulary = {piece: index for index, piece in enumerate(PIECES)}
    return NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=languages, src_lang="eng_Latn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sonar")
    torch.manual_seed(0)
    M2M100Encoder(CONFIG).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def test_a_vector_is_the_mean_of_the_states_of_its_own_tokens(folder: Path) -> None:
    texts = ["ama", "bari cu delo", "x", "ama bari", "ama"]
    encoder = SonarTextEncoder(str(folder), src_lang="quy_Latn")
    model = M2M100Encoder.from_pretrained(folder).eval()
    vectors = encoder.encode(texts)
    assert vectors.shape == (5, 16)
    for text, vector in zip(texts, vectors, strict=True):
        # One text at a time there is no padding, and the mean needs no mask.
        ids = [PIECES.index(piece) for piece in ["▁", *text.replace(" ", "▁")]]
        inputs = torch.tensor([[encoder.tokenizer.convert_tokens_to_ids("quy_Latn"), *ids, PIECES.index("</s>")]])
        with torch.inference_mode():
            states = model(inputs, attention_mask=torch.ones_like(inputs)).last_hidden_state
        assert np.allclose(vector, states[0].mean(dim=0).numpy(), atol=1e-6)


def test_many_texts_give_the_vectors_that_each_has_alone(folder: Path) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc de"), size=rng.integers(1, 30))) for _ in range(2 * BATCH + 5)]
    encoder = SonarTextEncoder(str(folder), src_lang="eng_Latn")
    together = encoder.encode(texts)
    assert np.allclose(together, np.concatenate([encoder.encode([text]) for text in texts]), atol=1e-6)


def test_the_language_is_part_of_the_vector_and_of_its_identity(folder: Path) -> None:
    english, quechua = (SonarTextEncoder(str(folder), src_lang=code) for code in ("eng_Latn", "quy_Latn"))
    assert not np.allclose(english.encode(["ama"]), quechua.encode(["ama"]), atol=1e-4)
    assert english.identity != quechua.identity
    assert english.identity == SonarTextEncoder(str(folder), src_lang="eng_Latn").identity


def test_retrieval_by_sonar_finds_the_nearest_vectors(folder: Path, tmp_path: Path) -> None:
    texts = ["bari", "cu delo", "ama", "eni fo", "ama bari"]
    pool = [
        Utterance(f"u{n}", Audio.from_array(np.full(160 + n, 0.1, np.float32)), text, "que")
        for n, text in enumerate(texts)
    ]
    query = Query(Utterance("q", Audio.from_array(np.full(80, 0.1, np.float32)), "ref", "que"), "ama bar")
    options: dict[str, Any] = {"encoder": f"sonar:{folder}", "src_lang": "quy_Latn", "cache": ArrayCache(tmp_path)}
    encoder = SonarTextEncoder(str(folder), src_lang="quy_Latn")
    asked, vectors = encoder.encode(["ama bar"])[0].astype(float), encoder.encode(texts).astype(float)
    cosines = vectors @ asked / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked)
    for _ in range(2):
        ranking = retrieve([query], pool, k=5, **options)[0]
        assert ranking.ids == tuple(f"u{n}" for n in np.argsort(-cosines))
        assert np.allclose(ranking.scores, np.sort(cosines)[::-1], atol=1e-6)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), junk=st.sampled_from([1e9, np.inf, np.nan]))
def test_the_mean_does_not_see_what_stands_in_padding(lengths: list[int], junk: float) -> None:
    rows = [torch.randn(length, 3, dtype=torch.float64) for length in lengths]
    states = torch.full((len(rows), 7, 3), junk, dtype=torch.float64)
    mask = torch.zeros(len(rows), 7, dtype=torch.long)
    for index, row in enumerate(rows):
        states[index, : len(row)] = row
        mask[index, : len(row)] = 1
    assert torch.allclose(masked_mean(states, mask), torch.stack([row.mean(dim=0) for row in rows]))


def test_languages_and_lengths_that_it_cannot_read_are_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="needs to be told the language"):
        SonarTextEncoder(str(folder), src_lang=None)
    with pytest.raises(BadInput, match="knows no language 'kjj'"):
        SonarTextEncoder(str(folder), src_lang="kjj")
    encoder = SonarTextEncoder(str(folder), src_lang="eng_Latn")
    encoder.encode(["a" * 45])
    with pytest.raises(BadInput, match="longer than the encoder"):
        encoder.encode(["b", "a" * 46])


def test_a_checkpoint_of_something_else_is_refused_instead_of_giving_noise(tmp_path: Path) -> None:
    # transformers would load this with a warning, all weights at random.
    M2M100Model(CONFIG).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="does not hold this encoder") as caught:
        SonarTextEncoder(str(tmp_path), src_lang="eng_Latn")
    assert "embed_tokens.weight" in str(caught.value.present)


def test_a_folder_without_its_tokeniser_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="could not be loaded"):
        SonarTextEncoder(str(tmp_path), src_lang="eng_Latn")
    M2M100Encoder(CONFIG).save_pretrained(tmp_path)
    # transformers would build an empty tokeniser and read every text as unknown.
    with pytest.raises(BadInput, match="does not hold the tokeniser"):
        SonarTextEncoder(str(tmp_path), src_lang="eng_Latn")
