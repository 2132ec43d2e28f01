from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.context.retrieval import Query, retrieve
from attnlens.context.retrieval.text_encoders import CHUNK, SentenceEncoder, embedded, tfidf
from attnlens.data.audio import Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

TEXTS = st.text(alphabet="abcé ßカ'", max_size=12)


def utterance(number: int, text: str) -> Utterance:
    return Utterance(f"u{number}", Audio.from_array(np.full(160 + number, 0.1, np.float32)), text, "xxx")


def grams(text: str) -> Counter[str]:
    """Character 1- to 4-grams within words that a space is put on either side of; short words count once."""
    found: Counter[str] = Counter()
    for word in text.casefold().split():
        padded = f" {word} "
        for size in range(1, 5):
            found.update(padded[at : at + size] for at in range(max(1, len(padded) - size + 1)))
            if len(padded) <= size:
                break
    return found


def naive_cosines(query: str, pool: Sequence[str]) -> list[float]:
    counted = [grams(text) for text in pool]
    idf = {gram: 1 + math.log((1 + len(pool)) / (1 + sum(gram in c for c in counted))) for c in counted for gram in c}

    def weights(counts: Counter[str]) -> dict[str, float]:
        raw = {gram: (1 + math.log(n)) * idf[gram] for gram, n in counts.items() if gram in idf}
        norm = math.sqrt(sum(weight**2 for weight in raw.values())) or 1.0
        return {gram: weight / norm for gram, weight in raw.items()}

    asked = weights(grams(query))
    return [sum(asked.get(gram, 0) * weight for gram, weight in weights(c).items()) for c in counted]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(query=TEXTS, pool=st.lists(TEXTS, min_size=1, max_size=12))
def test_tfidf_ranks_as_a_plain_loop_does(query: str, pool: list[str]) -> None:
    utterances = [utterance(number, text) for number, text in enumerate(pool)]
    if not any(text.strip() for text in pool):
        with pytest.raises(BadInput, match="no utterance of the pool has a text"):
            retrieve([Query(utterance(99, "ref"), query)], utterances, k=1)
        return
    expected = naive_cosines(query, pool)
    for name, target in (("text", Query(utterance(99, "ref"), query)), ("oracle", Query(utterance(99, query)))):
        ranking = retrieve([target], utterances, k=len(pool), retriever=name, duplicates="keep-text")[0]
        order = sorted(range(len(pool)), key=lambda number: (-round(expected[number], 9), number))
        # Scores that agree to nine decimals may be rounded to either side of a tie.
        if len({round(value, 7) for value in expected}) == len(pool):
            assert ranking.ids == tuple(f"u{number}" for number in order)
        assert ranking.scores == pytest.approx([expected[number] for number in order], abs=1e-8)


def test_the_weights_come_from_the_pool_alone() -> None:
    pool = ["bari cu", "ama delo", "ama"]
    alone, _ = tfidf(["ama cu"], pool)
    together, _ = tfidf(["ama cu", "zzz", "cu cu cu"], pool)
    assert (alone.toarray()[0] == together.toarray()[0]).all()


def test_an_empty_hypothesis_leaves_the_pool_as_it_is_and_says_so_by_its_scores() -> None:
    pool = [utterance(number, text) for number, text in enumerate(["bari", "ama", "cu"])]
    ranking = retrieve([Query(utterance(9, "ref"), "")], pool, k=3)[0]
    assert (ranking.ids, ranking.scores) == (("u0", "u1", "u2"), (0.0, 0.0, 0.0))


class Vowels:
    """An encoder small enough to check by hand; it notes what it is asked to encode."""

    identity = "vowels"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += texts
        return np.array([[text.count(vowel) for vowel in "aeiou"] for text in texts], dtype=np.float32)


def test_any_encoder_can_stand_in_for_the_default() -> None:
    pool = [utterance(number, text) for number, text in enumerate(["a i", "e e e", "a a i i", "o", "a i i"])]
    query = Query(utterance(9, "ref"), "aaa i")
    cosine = retrieve([query], pool, k=5, encoder=Vowels())[0]
    assert cosine.ids == ("u0", "u2", "u4", "u1", "u3")
    assert cosine.scores == pytest.approx([4 / 20**0.5, 4 / 20**0.5, 5 / 50**0.5, 0, 0], abs=1e-8)
    euclidean = retrieve([query], pool, k=5, retriever="ticl", encoder=Vowels())[0]
    assert euclidean.ids == ("u2", "u0", "u4", "u3", "u1")
    assert euclidean.scores == (-2.0, -4.0, -5.0, -11.0, -19.0)


def test_each_text_is_encoded_once_and_then_found_in_the_cache(tmp_path: Path) -> None:
    texts = ["ama", "bari", "ama", *(f"text {number}" for number in range(CHUNK + 3))]
    encoder, cache = Vowels(), ArrayCache(tmp_path)
    first = embedded(texts, encoder, cache=cache)
    assert encoder.seen == list(dict.fromkeys(texts))
    assert np.array_equal(embedded(texts, encoder, cache=cache), first)
    assert len(encoder.seen) == len(set(texts))
    assert np.array_equal(embedded(texts, Vowels(), cache=None), first)

    other = Vowels()
    other.identity = "other weights"
    embedded(texts, other, cache=cache)
    assert other.seen == encoder.seen


def test_an_encoder_that_returns_nan_is_refused() -> None:
    class Broken(Vowels):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.where(np.array([text == "bari" for text in texts])[:, None], np.nan, 1.0).astype(np.float32)

    with pytest.raises(BadInput, match="not finite") as caught:
        embedded(["ama", "bari"], Broken(), cache=None)
    assert "bari" in str(caught.value.given)


def test_a_missing_sentence_transformers_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    pool = [utterance(0, "ama")]
    with pytest.raises(BadInput, match="needs the package sentence-transformers") as caught:
        retrieve([Query(utterance(9, "ref"), "ama")], pool, k=1, encoder="some/mpnet")
    assert "pip install sentence-transformers" in str(caught.value.fix)


@pytest.fixture
def sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the optional package, with the parts of its interface that are used."""
    import torch

    made: list[dict[str, Any]] = []

    class SentenceTransformer(torch.nn.Module):
        max_seq_length = 6

        def __init__(self, name: str, *, device: str, local_files_only: bool) -> None:
            super().__init__()
            made.append({"name": name, "device": device, "local_files_only": local_files_only})
            if "absent" in name:
                raise OSError("no such model\nand much more")
            self.weight = torch.nn.Parameter(torch.ones(2))

        def tokenizer(self, texts: list[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [[0, *range(len(text.split())), 1] for text in texts]}

        def encode(
            self, texts: list[str], *, convert_to_numpy: bool, show_progress_bar: bool, batch_size: int
        ) -> NDArray[np.float32]:
            assert convert_to_numpy
            assert not show_progress_bar
            assert batch_size > 1
            return Vowels().encode(texts)

    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    return made


def test_a_sentence_encoder_is_loaded_and_used_by_name(
    sentence_transformers: list[dict[str, Any]], tmp_path: Path
) -> None:
    pool = [utterance(number, text) for number, text in enumerate(["e e", "a i"])]
    for name, on_disk in ((str(tmp_path), True), ("some/mpnet", False)):
        assert retrieve([Query(utterance(9, "ref"), "a")], pool, k=1, encoder=name)[0].ids == ("u1",)
        assert sentence_transformers[-1] == {"name": name, "device": "cpu", "local_files_only": on_disk}


def test_a_sentence_encoder_refuses_what_it_cannot_read_or_load(sentence_transformers: list[dict[str, Any]]) -> None:
    encoder = SentenceEncoder("some/mpnet")
    encoder.encode(["four words still fit"])
    with pytest.raises(BadInput, match="longer than the encoder 'some/mpnet' can read") as caught:
        encoder.encode(["fits", "five words do not fit"])
    assert caught.value.present == "at most 6 tokens"
    with pytest.raises(BadInput, match=r"could not be loaded: no such model\n  fix"):
        SentenceEncoder("some/absent-model")
    with pytest.raises(BadInput, match="does not exist"):
        SentenceEncoder("./no-such-folder")
    assert len(sentence_transformers) == 2


def test_what_is_cached_for_one_model_is_not_taken_for_another(sentence_transformers: list[dict[str, Any]]) -> None:
    import torch

    before, after = SentenceEncoder("some/mpnet"), SentenceEncoder("some/mpnet")
    assert before.identity == after.identity
    tuned = SentenceEncoder("some/mpnet")
    with torch.no_grad():
        tuned.model.weight[0] += 1e-6
    assert tuned.identity != before.identity


def test_a_source_language_without_sonar_is_refused() -> None:
    for encoder in (None, "some/mpnet"):
        with pytest.raises(BadInput, match="only a SONAR text encoder takes a source language"):
            retrieve([Query(utterance(9, "ref"), "a")], [utterance(0, "a")], k=1, encoder=encoder, src_lang="quy_Latn")
