from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.retrieval import Query, retrieve
from attnlens.context.retrieval.coverage import units
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

TEXTS = st.text(alphabet="abcdef ", min_size=1, max_size=9).filter(str.strip)


def utterance(id_: str, text: str, samples: int) -> Utterance:
    return Utterance(id_, Audio.from_array(np.full(samples, 0.1, np.float32)), text, "xxx")


def chosen(hypothesis: str, texts: list[str], k: int) -> tuple[list[int], list[float]]:
    pool = [utterance(str(number), text, 200 + number) for number, text in enumerate(texts)]
    query = Query(utterance("q", "reference", 100), hypothesis)
    ranking = retrieve([query], pool, k=k, retriever="coverage")[0]
    return [int(id_) for id_ in ranking.ids], list(ranking.scores)


def naive(hypothesis: str, texts: list[str], similarity: dict[int, float]) -> tuple[list[int], list[float]]:
    """Choose step by step with sets, looking at every remaining text anew."""
    order: list[int] = []
    scores: list[float] = []
    while len(order) < len(texts):
        left = [n for n in range(len(texts)) if n not in order]
        for size in (1, 2, 3):
            wanted = units(hypothesis, size)
            missing = wanted - {unit for n in order for unit in units(texts[n], size)}
            gain = {n: len(missing & units(texts[n], size)) for n in left}
            if max(gain.values()) > 0:
                best = min(left, key=lambda n: (-gain[n], -similarity[n], n))
                scores.append(3 - size + gain[best] / len(wanted))
                break
        else:
            best = min(left, key=lambda n: (-similarity[n], n))
            scores.append(similarity[best] - 1)
        order.append(best)
    return order, scores


@settings(derandomize=True, max_examples=50, deadline=None)
@given(hypothesis=st.text(alphabet="abcdefxé ", max_size=9), texts=st.lists(TEXTS, min_size=1, max_size=9))
def test_the_choice_is_that_of_a_plain_greedy_loop(hypothesis: str, texts: list[str]) -> None:
    pool = [utterance(str(number), text, 200 + number) for number, text in enumerate(texts)]
    query = Query(utterance("q", "reference", 100), hypothesis)
    text = retrieve([query], pool, k=len(texts), retriever="text")[0]
    similarity = {int(id_): score for id_, score in zip(text.ids, text.scores, strict=True)}
    order, scores = chosen(hypothesis, texts, len(texts))
    expected, values = naive(hypothesis, texts, similarity)
    assert order == expected
    assert scores == pytest.approx(values, abs=1e-7)
    assert scores == sorted(scores, reverse=True)


def test_characters_first_then_pairs_then_triples_then_likeness() -> None:
    # abc: all characters; then the pairs ab (text 2) and bc; the triple; what is left goes by likeness.
    texts = ["cab", "zzz", "ab", "xbc", "abc"]
    assert chosen("abc", ["a b c", "zzz", "ab", "xbc", "abc"], 5)[0][0] == 4
    assert chosen("abc", ["a b c", "ab", "xbc", "xyz"], 3)[0] == [0, 1, 2]
    order, scores = chosen("abc", texts[:4], 4)
    assert order == [0, 3, 2, 1]
    assert scores[:2] == [3.0, 1.5]
    assert scores[2] < 0


def test_coverage_shows_rare_letters_that_likeness_misses() -> None:
    texts = ["tata tata", "tata tat", "tatat", "quz"]
    assert set(chosen("tata quz", texts, 2)[0]) >= {3}
    pool = [utterance(str(number), text, 200 + number) for number, text in enumerate(texts)]
    by_text = retrieve([Query(utterance("q", "ref", 100), "tata tat q")], pool, k=2)[0]
    assert "3" not in by_text.ids


def test_an_empty_hypothesis_has_nothing_to_cover() -> None:
    assert chosen("", ["ab", "cd"], 2) == ([0, 1], [-1.0, -1.0])


def test_copies_of_the_target_clip_do_not_count_as_covering() -> None:
    target = utterance("q", "reference", 100)
    pool = [utterance("copy", "abcdef", 100), utterance("a", "ab", 201), utterance("b", "cd", 202)]
    assert set(retrieve([Query(target, "abcd")], pool, k=2, retriever="coverage")[0].ids) == {"a", "b"}
    with pytest.raises(BadInput, match="too few demonstrations"):
        retrieve([Query(target, "abcd")], pool, k=3, retriever="coverage")
