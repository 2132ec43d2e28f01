"""Which text belongs to which audio, and which of them comes first."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.context.controls.pairs import derangement
from attnlens.errors import BadInput
from tests.context.controls.made import (
    applied,
    audios,
    prompt_of,
    prompt_with,
    properties,
    seeds,
    texts,
    words_of,
)


@properties
@given(st.lists(texts, min_size=2, max_size=8), seeds)
def test_mismatched_pairs_keeps_texts_and_audios_and_destroys_every_pair(contents: list[str], seed: int) -> None:
    prompt = prompt_with(contents)
    if 2 * max(Counter(contents).values()) > len(contents):
        with pytest.raises(BadInput, match="too many demonstrations share one text"):
            applied(prompt, "mismatched-pairs", seed=seed)
        return
    changed = applied(prompt, "mismatched-pairs", seed=seed)
    assert audios(changed) == audios(prompt)
    assert Counter(words_of(changed)) == Counter(words_of(prompt))
    assert changed.target == prompt.target
    for old, new in zip(prompt.demonstrations, changed.demonstrations, strict=True):
        assert new.text != old.text
        assert new.text_id != old.text_id
        assert new.id == old.id


def test_mismatched_pairs_draws_every_derangement_equally_often() -> None:
    draws = 1800
    counts = Counter(tuple(derangement("abcd", np.random.default_rng(seed))) for seed in range(draws))
    expected = [order for order in itertools.permutations(range(4)) if all(i != o for i, o in enumerate(order))]
    assert set(counts) == set(expected)
    # Nine equal cells: chi-square on 8 degrees of freedom exceeds 26 once in a thousand.
    assert sum((count - draws / 9) ** 2 / (draws / 9) for count in counts.values()) < 26


@pytest.mark.parametrize("labels", ["a" * 30 + "b" * 30, "a" * 30 + "bcdef" * 6, "ab"])
def test_derangement_finds_an_order_however_rare(labels: str) -> None:
    drawn = {tuple(derangement(labels, np.random.default_rng(seed))) for seed in range(3)}
    for order in drawn:
        assert sorted(order) == list(range(len(labels)))
        assert all(labels[place] != labels[source] for place, source in enumerate(order))
    assert len(drawn) == (1 if labels == "ab" else 3)


def test_pair_order_swapped_changes_the_order_in_pairs_alone() -> None:
    prompt = prompt_of("micl")
    changed = applied(prompt, "pair-order-swapped")
    assert changed.pair_order == "text-first"
    assert replace(changed, pair_order="audio-first", applied=()) == prompt
    assert applied(changed, "pair-order-swapped").pair_order == "audio-first"
