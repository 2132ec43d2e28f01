"""Words and characters in another order."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.context.controls.text import shuffle_characters, shuffle_words
from attnlens.context.prompt import Condition, Prompt
from attnlens.data.normalise import clusters
from attnlens.errors import BadInput
from tests.context.controls.made import (
    WITH_TEXT,
    applied,
    audios,
    prompt_of,
    prompt_with,
    properties,
    seeds,
    shown_texts,
    texts,
)


def spaces(text: str) -> list[str]:
    return re.findall(r"\s+", text)


@properties
@given(st.lists(texts, min_size=1, max_size=5), st.sampled_from(WITH_TEXT), seeds)
def test_word_shuffle_keeps_words_and_spaces_and_destroys_their_order(
    contents: list[str], condition: Condition, seed: int
) -> None:
    prompt = prompt_with(contents, condition)
    can_change = [len(set(text.split())) > 1 for text in contents]
    if not any(can_change):
        with pytest.raises(BadInput, match="changed nothing"):
            applied(prompt, "word-shuffle", seed=seed)
        return
    changed = applied(prompt, "word-shuffle", seed=seed)
    assert audios(changed) == audios(prompt)
    for old, new, free in zip(shown_texts(prompt), shown_texts(changed), can_change, strict=True):
        assert Counter(new.split()) == Counter(old.split())
        assert spaces(new) == spaces(old)
        assert (new != old) == free
    stuck = can_change.count(False)
    assert changed.applied == (f"word-shuffle@{seed}" + (f":unchanged={stuck}" if stuck else ""),)
    assert [demo.text_id for demo in changed.demonstrations] == [demo.id for demo in prompt.demonstrations]


@properties
@given(st.lists(texts, min_size=1, max_size=5), st.sampled_from(WITH_TEXT), seeds)
def test_character_shuffle_keeps_characters_and_spaces_and_destroys_words(
    contents: list[str], condition: Condition, seed: int
) -> None:
    prompt = prompt_with(contents, condition)
    can_change = [len(set(clusters(text)) - set(spaces_of(text))) > 1 for text in contents]
    if not any(can_change):
        with pytest.raises(BadInput, match="changed nothing"):
            applied(prompt, "character-shuffle", seed=seed)
        return
    changed = applied(prompt, "character-shuffle", seed=seed)
    assert audios(changed) == audios(prompt)
    for old, new, free in zip(shown_texts(prompt), shown_texts(changed), can_change, strict=True):
        assert Counter(new) == Counter(old)
        assert len(new.split()) == len(old.split())
        assert (new != old) == free


def spaces_of(text: str) -> str:
    return "".join(letter for letter in text if letter.isspace())


def test_character_shuffle_moves_a_base_with_its_marks() -> None:
    text = unicodedata.normalize("NFD", "ébḿọ̀ ŋɔ́")
    assert clusters(text) == [unicodedata.normalize("NFD", one) for one in ["é", "b", "ḿ", "ọ̀", " ", "ŋ", "ɔ́"]]
    assert clusters("क्\u200dष") == ["क्\u200dष"]
    assert clusters(" \u0301a") == [" ", "\u0301", "a"]
    for seed in range(20):
        shuffled = shuffle_characters(text, np.random.default_rng(seed))
        assert Counter(clusters(shuffled)) == Counter(clusters(text))
        assert clusters(shuffled)[4] == " "


@properties
@given(texts)
def test_characters_split_a_text_without_loss(text: str) -> None:
    assert "".join(clusters(text)) == text


@pytest.mark.parametrize(("shuffle", "text"), [(shuffle_words, "a b c"), (shuffle_characters, "abc")])
def test_every_other_order_is_drawn(shuffle: Callable[[str, np.random.Generator], str], text: str) -> None:
    drawn = Counter(shuffle(text, np.random.default_rng(seed)) for seed in range(300))
    assert len(drawn) == 5
    assert text not in drawn
    assert min(drawn.values()) > 30


@pytest.mark.parametrize("name", ["word-shuffle", "character-shuffle"])
def test_a_text_is_shuffled_alike_at_any_shots_order_and_condition(name: str) -> None:
    def by_id(prompt: Prompt) -> dict[str, str | None]:
        return {demo.id: demo.text for demo in applied(prompt, name, seed=1).demonstrations}

    full = by_id(prompt_of("micl", shots=6))
    assert by_id(prompt_of("icl", shots=2)).items() <= full.items()
    assert by_id(applied(prompt_of("micl", shots=6), "order-reversed")) == full


def test_each_text_has_a_draw_of_its_own() -> None:
    same = prompt_with(["a b c d e f g h"] * 4, "t-icl")
    for name in ("word-shuffle", "character-shuffle"):
        assert len(set(shown_texts(applied(same, name)))) == 4
