from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.data import overlap
from attnlens.data.audio import Audio
from attnlens.data.corpus import Row, Split
from attnlens.data.overlap import Match, near_duplicates, overlaps
from attnlens.data.utterance import Problem, Utterance
from attnlens.errors import BadInput


def naive(texts: Sequence[str], others: Sequence[str], threshold: float, n: int) -> list[Match]:
    def grams(text: str) -> set[str]:
        return {text[i : i + n] for i in range(len(text) - n + 1)} if len(text) >= n else {text}

    found = []
    for i, text in enumerate(texts):
        for j, other in enumerate(others):
            a, b = grams(text), grams(other)
            similarity = len(a & b) / len(a | b)
            if similarity >= threshold:
                found.append(Match(i, j, similarity))
    return found


# Few letters, so that texts meet; long ones, so that they are alike without being equal.
TEXTS = st.lists(
    st.text("ab ", max_size=40) | st.sampled_from(["ab" * 9, "ab" * 9 + "a", "abba" * 8, "abba" * 8 + " "]), max_size=12
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    TEXTS, TEXTS, st.sampled_from([0.1, 0.5, 0.8, 0.9, 1.0]), st.sampled_from([1, 2, 5]), st.sampled_from([1, 3, 1000])
)
def test_equals_the_double_loop(texts: list[str], others: list[str], threshold: float, n: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "BLOCK", block)
        assert near_duplicates(texts, others, threshold=threshold, n=n) == naive(texts, others, threshold, n)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(text=st.text("abcdef ", min_size=20, max_size=80), data=st.data())
def test_near_misses_on_both_sides_of_the_threshold(text: str, data: st.DataObject) -> None:
    # Edited copies land around 0.8, where an inexact filter would err.
    others = []
    for _ in range(6):
        at = data.draw(st.integers(0, len(text) - 1))
        others.append(text[:at] + data.draw(st.text("abcdef ", max_size=3)) + text[at + 1 :])
    assert near_duplicates([text], others) == naive([text], others, 0.8, 5)


def test_exactly_the_threshold_matches() -> None:
    # 8 grams of one letter and 10: shared 8, all 10.
    assert [match.similarity for match in near_duplicates(["abcdefgh"], ["abcdefghij"], n=1)] == [0.8]
    assert near_duplicates(["abcdefgh"], ["abcdefghijk"], n=1) == []


@pytest.mark.parametrize(("threshold", "n"), [(0.0, 5), (1.1, 5), (0.8, 0)])
def test_impossible_settings_are_refused(threshold: float, n: int) -> None:
    with pytest.raises(BadInput):
        near_duplicates(["a"], ["a"], threshold=threshold, n=n)


def test_twenty_thousand_texts_take_seconds() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeioumnptkrslgb"), rng.integers(2, 9))) for _ in range(5_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    sizes = rng.integers(4, 18, 22_000)
    drawn = np.split(rng.choice(words, sizes.sum(), p=weights / weights.sum()), np.cumsum(sizes)[:-1])
    texts = [" ".join(text) for text in drawn]
    pool, test = texts[:20_000], [*texts[20_000:], *(text + "s" for text in texts[:50])]
    begun = time.process_time()
    found = near_duplicates(pool, test)
    assert time.process_time() - begun < 20
    assert {(index, 2_000 + index) for index in range(50)} <= {(match.index, match.other) for match in found}


def row(key: str, split: Split, text: str = "", *, speaker: str | None = None, recording: str | None = None) -> Row:
    utterance = Utterance(
        key, Audio(Path(f"{key}.wav")), text or f"a text of its own: {key * 20}", "gn", speaker, recording
    )
    return Row(f"corpus.jsonl:{key}", split, utterance)


def told(rows: Sequence[Row], digests: dict[str, str] | None = None) -> list[tuple[str, str | None, str]]:
    return [(item.kind, item.id, item.detail) for item in overlaps(rows, digests=digests or {})]


def test_a_text_in_two_splits_is_put_on_the_row_easier_to_lose() -> None:
    rows = [
        row("p1", "pool", "The boat goes out early."),
        row("p2", "pool", "the boat goes out earlier"),
        row("p3", "pool", "nobody came"),
        row("d1", "dev", "the boat goes out early"),
        row("t1", "test", "THE BOAT GOES OUT EARLY!"),
        row("t2", "test", "the boat goes out early..."),
    ]
    found = told(rows)
    assert [(kind, key) for kind, key, _ in found] == [
        ("text-in-two-splits", "p1"),
        ("text-in-two-splits", "p2"),
        ("text-in-two-splits", "d1"),
    ]
    assert (
        found[0][2] == "the same text (similarity 1.00) as 't1' in test, at corpus.jsonl:t1: 'THE BOAT GOES OUT EARLY!'"
    )
    assert found[1][2].startswith("nearly the same text (similarity 0.82) as 't1' in test")


def test_texts_within_a_split_may_be_alike() -> None:
    assert told([row("p1", "pool", "yes"), row("p2", "pool", "yes"), row("t1", "test", "no")]) == []


def test_texts_of_punctuation_alone_do_not_match() -> None:
    assert told([row("p1", "pool", "..."), row("t1", "test", "?!")]) == []


def test_the_same_audio_in_two_splits_or_within_one() -> None:
    rows = [
        row("p1", "pool"),
        row("p2", "pool"),
        row("p3", "pool"),
        row("t1", "test"),
        row("t2", "test"),
        row("t3", "test"),
    ]
    digests = {"p1": "x", "p2": "x", "t1": "x", "t2": "y", "t3": "y"}
    found = told(rows, digests)
    assert [(kind, key) for kind, key, _ in found] == [
        ("audio-in-two-splits", "p1"),
        ("audio-in-two-splits", "p2"),
        ("duplicate-audio", "t3"),
    ]
    assert "as 't1' in test" in found[0][2]
    assert "as 't2' in test" in found[2][2]


def test_speakers_and_recordings_over_splits_are_told_once_each() -> None:
    rows = [
        row("p1", "pool", speaker="ana", recording="r1"),
        row("p2", "pool", speaker="ana", recording="r2"),
        row("p3", "pool", speaker="bo"),
        row("d1", "dev", speaker="ana"),
        row("t1", "test", recording="r2"),
    ]
    assert told(rows) == [
        ("speaker-in-two-splits", None, "speaker 'ana' has 2 in pool, 1 in dev"),
        ("recording-in-two-splits", None, "recording 'r2' has 1 in pool, 1 in test"),
    ]
    assert {item.severity for item in overlaps(rows, digests={}) if isinstance(item, Problem)} == {"warning"}


def test_many_repetitions_of_one_text_stay_cheap() -> None:
    rows = [row(f"p{number}", "pool", "yes") for number in range(2_000)]
    rows += [row(f"t{number}", "test", "yes") for number in range(2_000)]
    begun = time.process_time()
    assert len(told(rows, {one.utterance.id: "x" for one in rows})) == 2_000 + 2_000 + 1_999
    assert time.process_time() - begun < 5
