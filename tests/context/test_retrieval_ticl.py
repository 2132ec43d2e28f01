from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.retrieval import Query, make, retrieve
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

WORDS = ["ama", "bari", "cu", "delo", "eni", "fo", "gapa"]


def utterance(number: int) -> Utterance:
    rng = np.random.default_rng(number)
    length = int(rng.integers(800, 2000))
    tone = np.sin(np.arange(length) * rng.uniform(0.05, 2.5)) * 0.3 + rng.normal(0, 0.02, length)
    text = " ".join(rng.choice(WORDS, size=rng.integers(1, 6)))
    return Utterance(f"u{number}", Audio.from_array(tone.astype(np.float32)), text, "xxx")


POOL = [utterance(number) for number in range(40)]
QUERIES = [Query(utterance(number), " ".join(WORDS[number % 3 :][:3])) for number in (100, 101, 102)]


def test_of_unit_vectors_the_nearest_have_the_largest_cosine() -> None:
    options: dict[str, Any] = {"k": 40, "duplicates": "keep-text"}
    by_distance = retrieve(QUERIES, POOL, retriever="ticl", **options)
    by_cosine = retrieve(QUERIES, POOL, retriever="ticl", distance="cosine", **options)
    assert [r.scores for r in by_cosine] == [r.scores for r in retrieve(QUERIES, POOL, retriever="text", **options)]
    for near, like in zip(by_distance, by_cosine, strict=True):
        assert near.scores == pytest.approx([2 * cosine - 2 for cosine in like.scores], abs=1e-8)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(candidates=st.integers(1, 45), share=st.floats(0, 1))
def test_ticl_plus_ranks_the_nearest_texts_as_the_audio_retriever_would_rank_them_alone(
    candidates: int, share: float
) -> None:
    k = 1 + int(share * (min(candidates, 40) - 1))
    options = {"duplicates": "keep-text"}
    found = retrieve(QUERIES, POOL, k=k, retriever="ticl+", candidates=candidates, **options)
    for query, ranking in zip(QUERIES, found, strict=True):
        near = set(retrieve([query], POOL, k=min(candidates, 40), retriever="ticl", **options)[0].ids)
        among = [item for item in POOL if item.id in near]
        assert ranking == retrieve([query], among, k=k, retriever="audio", **options)[0]


def test_only_candidates_are_listened_to() -> None:
    heard: set[str] = set()

    class Listening:
        identity = "listening"

        def frames(self, audio: Audio) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            heard.add(audio.digest)
            return audio.load()[:100].reshape(-1, 4)

    retrieve(QUERIES[:1], POOL, k=2, retriever="ticl+", candidates=5, audio_encoder=Listening())
    near = set(retrieve(QUERIES[:1], POOL, k=5, retriever="ticl")[0].ids)
    expected = {item.audio.digest for item in POOL if item.id in near} | {QUERIES[0].utterance.audio.digest}
    assert heard == expected


def test_more_demonstrations_than_candidates_are_refused() -> None:
    with pytest.raises(BadInput, match="more demonstrations are asked for than survive"):
        make("ticl+", candidates=4).rank(QUERIES, POOL, k=5)
