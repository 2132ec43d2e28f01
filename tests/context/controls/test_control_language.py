"""Demonstrations of another language."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlens.context.controls.base import What
from attnlens.context.prompt import SHOWN, Condition
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput
from tests.context.controls.made import (
    CORPUS,
    OTHER,
    WITH_DEMONSTRATIONS,
    WITH_TEXT,
    applied,
    audios,
    prompt_of,
    prompt_with,
    properties,
    seeds,
    shown_texts,
    utterances,
    words_of,
)


@pytest.mark.parametrize("condition", WITH_DEMONSTRATIONS)
@pytest.mark.parametrize("what", ["pair", "text", "audio"])
def test_other_language_replaces_what_it_is_told_to(condition: Condition, what: What) -> None:
    prompt = prompt_of(condition)
    if what not in ("pair", *SHOWN[condition]):
        with pytest.raises(BadInput, match=f"shows no {what} of its demonstrations"):
            applied(prompt, "other-language", what=what)
        return
    changed = applied(prompt, "other-language", what=what)
    replaced = set(SHOWN[condition]) if what == "pair" else {what}
    assert changed.target == prompt.target
    assert (audios(changed) == audios(prompt)) == ("audio" not in replaced)
    assert (words_of(changed) == words_of(prompt)) == ("text" not in replaced)
    for demo in changed.demonstrations:
        assert "audio" not in replaced or demo.audio == OTHER[demo.audio_id].audio
        assert "text" not in replaced or demo.text == OTHER[demo.text_id].text
        assert replaced != {"audio", "text"} or demo.audio_id == demo.text_id
    ids = [demo.audio_id if "audio" in replaced else demo.text_id for demo in changed.demonstrations]
    assert len(set(ids)) == prompt.shots


@properties
@given(seeds, st.sampled_from(WITH_TEXT), st.floats(0.1, 1))
def test_other_language_text_is_about_as_long(seed: int, condition: Condition, tolerance: float) -> None:
    prompt = prompt_of(condition)
    changed = applied(prompt, "other-language-text", seed=seed, tolerance=tolerance)
    assert audios(changed) == audios(prompt)
    assert len({demo.text_id for demo in changed.demonstrations}) == prompt.shots
    for old, new in zip(shown_texts(prompt), changed.demonstrations, strict=True):
        assert new.text == OTHER[new.text_id].text
        assert abs(len(new.text) - len(old)) <= tolerance * len(old)


def test_other_language_text_takes_the_nearest_length_left() -> None:
    lengths = [4, 7, 12]
    pool = tuple(replace(one, text="m" * size) for one, size in zip(utterances("m", 3, "mdw"), lengths, strict=True))
    other = Corpus("few", "mdw", {"pool": pool})
    prompt = prompt_with(["abcdefg", "abcdef"], "t-icl")
    changed = applied(prompt, "other-language-text", other=other, tolerance=0.5)
    assert [len(text) for text in shown_texts(changed)] == [7, 4]
    with pytest.raises(BadInput, match=r"no text as long as that of demonstration 'x1'(.|\n)*6 characters(.|\n)*has 4"):
        applied(prompt, "other-language-text", other=other, tolerance=0.25)


@pytest.mark.parametrize("name", ["other-language", "other-language-text"])
def test_another_language_must_be_another_and_large_enough(name: str) -> None:
    with pytest.raises(BadInput, match="corpus 'kichwa' is of the target's own language"):
        applied(prompt_of("icl"), name, other=CORPUS)
    small = Corpus("small", "mdw", {"pool": OTHER.pool[:3]})
    with pytest.raises(
        BadInput, match=r"pool of corpus 'small' is too small(.|\n)*4 demonstrations(.|\n)*3 utterances"
    ):
        applied(prompt_of("icl"), name, other=small)
