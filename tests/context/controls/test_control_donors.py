"""Clips of other utterances of the language, by the same or another speaker."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.controls import apply_control
from attnlens.context.controls.donors import assign, ids_in, strangers
from attnlens.context.prompt import Condition
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, UnknownName
from tests.context.controls.made import (
    CORPUS,
    WITH_AUDIO,
    applied,
    prompt_of,
    prompt_with,
    properties,
    seeds,
    utterances,
    words_of,
)


@pytest.mark.parametrize("condition", WITH_AUDIO)
@pytest.mark.parametrize("name", ["other-speaker", "same-speaker"])
@properties
@given(seed=seeds, shots=st.integers(1, 8))
def test_swapped_clips_keep_text_and_voice_or_change_it(name: str, condition: Condition, seed: int, shots: int) -> None:
    prompt = prompt_of(condition, shots=shots)
    changed = applied(prompt, name, seed=seed)
    assert words_of(changed) == words_of(prompt)
    assert changed.target == prompt.target
    givers = [CORPUS[demo.audio_id] for demo in changed.demonstrations]
    assert len({giver.id for giver in givers}) == shots
    for old, new, giver in zip(prompt.demonstrations, changed.demonstrations, givers, strict=True):
        own = CORPUS[old.audio_id]
        assert giver in CORPUS.pool
        assert giver.id not in ids_in(prompt)
        assert new.audio == giver.audio
        assert giver.text != own.text
        assert (giver.speaker == own.speaker) == (name == "same-speaker")


def test_a_clip_that_says_the_same_sentence_is_never_put_in() -> None:
    own, same_sentence, another = (
        replace(utterance, text=text, speaker=speaker)
        for utterance, text, speaker in zip(utterances("p", 3), ["ima", "ima", "ari"], ["a", "b", "b"], strict=True)
    )
    corpus = Corpus("c", "que", {"pool": (own, same_sentence, another), "test": CORPUS.test})
    for condition in WITH_AUDIO:
        prompt = build_prompt(CORPUS.test[0], [own], condition=condition)
        for seed in range(10):
            changed = apply_control(prompt, "other-speaker", seed=seed, corpus=corpus)
            assert changed.demonstrations[0].audio_id == another.id


def test_unknown_speakers_and_strange_audios_are_refused() -> None:
    nameless = Corpus("c", "que", {"pool": tuple(replace(one, speaker=None) for one in CORPUS.pool)})
    with pytest.raises(BadInput, match="the speaker of 'p0' is unknown"):
        apply_control(prompt_of("micl"), "same-speaker", seed=0, corpus=nameless)
    with pytest.raises(BadInput, match="the audio of 'x0' is not in corpus 'kichwa'"):
        applied(prompt_with(["a", "b"]), "other-speaker")


def test_a_pool_without_enough_clips_is_refused() -> None:
    one_speaker = Corpus("c", "que", {"pool": tuple(replace(one, speaker="s") for one in CORPUS.pool[:6])})
    with pytest.raises(BadInput, match=r"too few clips by another speaker(.|\n)*6 utterances by 1 known speakers"):
        apply_control(prompt_of("micl"), "other-speaker", seed=0, corpus=one_speaker)
    with pytest.raises(BadInput, match="too few clips by the same speaker"):
        apply_control(prompt_of("micl"), "same-speaker", seed=0, corpus=one_speaker)
    assert apply_control(prompt_of("micl", shots=3), "same-speaker", seed=0, corpus=one_speaker).shots == 3


@properties
@given(st.lists(st.frozensets(st.integers(0, 4)), max_size=5))
@example([frozenset({0, 1}), frozenset({0})])
@example([frozenset({0, 1}), frozenset({1, 2}), frozenset({0}), frozenset({1})])
def test_donors_are_assigned_whenever_that_is_possible(fitting: list[frozenset[int]]) -> None:
    donors = utterances("x", 5)
    found = assign(len(fitting), donors, lambda place, donor: donors.index(donor) in fitting[place])
    possible = any(
        all(choice in fits for choice, fits in zip(order, fitting, strict=True))
        for order in itertools.permutations(range(5), len(fitting))
    )
    assert (found is not None) == possible
    if found is not None:
        chosen = [donors.index(donor) for donor in found]
        assert len(set(chosen)) == len(fitting)
        assert all(choice in fits for choice, fits in zip(chosen, fitting, strict=True))


@pytest.mark.parametrize("condition", ["asr", "icl", "micl", "a-icl"])
def test_target_audio_swapped_changes_the_target_audio_alone(condition: Condition) -> None:
    prompt = prompt_of(condition)
    drawn = set()
    for seed in range(30):
        changed = applied(prompt, "target-audio-swapped", seed=seed)
        assert changed.demonstrations == prompt.demonstrations
        assert changed.target.audio_id is not None
        giver = CORPUS[changed.target.audio_id]
        drawn.add(giver.id)
        assert changed.target == replace(prompt.target, audio=giver.audio, audio_id=giver.id)
        assert giver.text != prompt.target.text
    assert drawn == {"t1", "t2", "t3", "t4"}


def test_stand_ins_come_from_the_targets_own_split_unless_told() -> None:
    dev = build_prompt(CORPUS.dev[0], CORPUS.pool[:2], condition="micl")
    pooled = set()
    for seed in range(20):
        assert str(applied(dev, "target-audio-swapped", seed=seed).target.audio_id).startswith("d")
        assert applied(dev, "decoy-inserted", seed=seed).demonstrations[0].text_id.startswith("d")
        pooled.add(applied(dev, "target-audio-swapped", seed=seed, split="pool").target.audio_id)
    assert pooled <= {utterance.id for utterance in CORPUS.pool[2:]}
    unknown = replace(dev, target=replace(dev.target, id="nobody"))
    with pytest.raises(BadInput, match="the target 'nobody' is in no split"):
        applied(unknown, "decoy-inserted")
    assert applied(unknown, "decoy-inserted", split="test").demonstrations[0].text_id.startswith("t")
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        applied(dev, "decoy-inserted", split="tset")


def test_strangers_share_neither_id_nor_wording_with_the_prompt() -> None:
    test = (CORPUS.test[0], replace(CORPUS.test[1], text=CORPUS.test[0].text), CORPUS.test[2])
    corpus = Corpus("c", "que", {"test": test})
    prompt = prompt_of("micl")
    assert strangers(prompt, corpus, "test") == [CORPUS.test[2]]
    # A demonstration whose text a control has changed is still no stranger.
    shuffled = applied(prompt, "word-shuffle")
    assert strangers(shuffled, CORPUS, "pool") == list(CORPUS.pool[4:])
    shown = replace(prompt, demonstrations=(replace(prompt.demonstrations[0], text=CORPUS.test[2].text),))
    for name in ("target-audio-swapped", "decoy-inserted"):
        with pytest.raises(BadInput, match="has no utterance to put in for target 't0'"):
            apply_control(shown, name, seed=0, corpus=corpus)
