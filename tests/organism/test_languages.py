from __future__ import annotations

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.errors import BadInput
from attnlens.organism.languages import Language, Stress, make_language, side_of
from attnlens.organism.orthography import LETTERS, make_cipher, make_orthography
from attnlens.organism.phones import MNEMONICS, NASAL, PHONES, SILENCE, STRESSED, VOWELS, classes, phone_id


@settings(derandomize=True, max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_train_and_dev_languages_share_no_word(seed: int) -> None:
    train = make_language("t", np.random.default_rng(seed), side="train", lexicon=30)
    dev = make_language("d", np.random.default_rng(seed), side="dev", lexicon=30)
    assert not set(train.words) & set(dev.words)
    assert {side_of(word) for word in train.words} == {"train"}
    assert len(set(train.words)) == 30
    assert train.shares.sum() == pytest.approx(1)


def test_words_recur_within_a_language() -> None:
    language = make_language("x", np.random.default_rng(0), lexicon=40)
    rng = np.random.default_rng(1)
    said = [word for _ in range(40) for word in language.phrase(rng, words=(1, 4))]
    # A lexicon with uneven shares: demonstrations hold words of the target far more often than chance syllables would.
    assert len(set(said)) < 0.5 * len(said)


def test_no_word_repeats_a_sound_at_once() -> None:
    language = make_language("x", np.random.default_rng(3))
    assert all(a != b for word in language.words for a, b in pairwise(word))


def test_an_impossible_lexicon_is_refused() -> None:
    with pytest.raises(BadInput, match="no 60 different words"):
        make_language("x", np.random.default_rng(0), phones=[1, 2], length=(1, 2), lexicon=60)


@settings(derandomize=True, max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 37))
def test_spelling_is_one_grapheme_a_sound_and_labels_every_character(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    phones = (rng.permutation(len(PHONES) - 1)[:count] + 1).tolist()
    made = make_orthography(phones, rng, digraphs=0.3, marked=0.3)
    assert len(set(made.graphemes.values())) == len(phones)
    assert all(set(grapheme) <= set(LETTERS) for grapheme in made.graphemes.values())
    words = [tuple(rng.choice(phones, 3).tolist()) for _ in range(3)]
    written = made.write(words, [(0, 0, 0)] * 3)
    assert len(written.text) == len(written.phones)
    assert written.text == " ".join("".join(made.graphemes[one] for one in word) for word in words)
    assert [one for one, char in zip(written.phones, written.text, strict=True) if char == " "] == [SILENCE, SILENCE]


def test_digraphs_occur_about_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    many = [make_orthography(range(1, 25), rng, digraphs=0.25) for _ in range(60)]
    share = np.mean([len(one) == 2 for made in many for one in made.graphemes.values()])
    assert share == pytest.approx(0.25, abs=0.04)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="abcdehiknoqrtuwyzñáé' ", min_size=1), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_a_cipher_keeps_everything_but_the_letters_names(texts: list[str], seed: int) -> None:
    cipher = make_cipher(texts, np.random.default_rng(seed))
    back = {value: key for key, value in cipher.letters.items()}
    for text in texts:
        written = cipher.write(text)
        assert "".join(back.get(one, one) for one in written.text) == text
        assert set(written.phones) <= {-1}


def test_sounds_of_many_voices_fall_into_classes() -> None:
    assert [PHONES[one] for one in classes("ˈaɪ")] == ["a", "i"]
    assert [PHONES[one] for one in classes("tʃː")] == ["tʃ"]
    assert [PHONES[one] for one in classes("ɾ")] == ["r"]
    assert [PHONES[one] for one in classes("ˌɔʊ")] == ["o", "u"]
    assert [PHONES[one] for one in classes("ɑ̃")] == ["a"]
    assert [PHONES[one] for one in classes("ũ")] == ["u"]
    assert [PHONES[one] for one in classes("ʔi")] == ["ʔ", "i"]
    assert classes("ʲ") == classes("") == ()
    assert all(classes(name) == (phone_id(name),) for name in PHONES[1:])
    assert set(MNEMONICS) < set(PHONES)


def test_stress_is_where_the_language_has_it() -> None:
    k, a, o = (phone_id(name) for name in "kao")
    word = (k, a, k, o, k, a, k)
    at = {stress: Language("x", (word,), np.ones(1), stress).stressed(word) for stress in get_args(Stress)}
    assert (at["first"], at["last but one"], at["last"]) == (1, 3, 5)
    assert at["free"] in (1, 3, 5)
    # A word of one vowel has nowhere else to put it, one without vowels has its first sound.
    one = [Language("x", (word,), np.ones(1), stress) for stress in get_args(Stress)]
    assert [language.stressed((k, a, k)) for language in one] == [1] * 4
    assert [language.stressed((k,)) for language in one] == [0] * 4
    free = Language("x", (word,), np.ones(1), "free")
    places = {free.stressed((k, a, k, o, k, a, *range(1, 1 + more))) for more in range(12)}
    assert places == {1, 3, 5}


def test_stress_that_is_written_has_letters_of_its_own() -> None:
    k, a, o = (phone_id(name) for name in "kao")
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        made = make_orthography([k, a, o], rng, digraphs=0.0, stress="written")
        assert set(made.stressed) == {a, o}
        assert len({*made.graphemes.values(), *made.stressed.values()}) == 5
        written = made.write([(k, a, k, o), (k, a, k, o)], [(0, STRESSED, 0, 0), (0, 0, 0, STRESSED)])
        plain = "".join(made.graphemes[one] for one in (k, a, k, o))
        first, last = plain.replace(plain[1], made.stressed[a]), plain[:3] + made.stressed[o]
        assert written.text == f"{first} {plain if made.unwritten == 'last sound' else last}"
        assert written.phones == (k, a, k, o, SILENCE, k, a, k, o)
        seen.add(made.unwritten)
    assert seen == {"nowhere", "last sound"}
    assert make_orthography([k, a, o], rng).stressed == {}
    assert make_orthography([k, a, o], rng).nasal == {}
    with pytest.raises(BadInput, match="more sounds than letters"):
        make_orthography([a] * (len(LETTERS) // 2 + 1), rng, stress="written")


def test_nasal_vowels_are_a_matter_of_the_word() -> None:
    able = [phone_id(name) for name in VOWELS[:5]]
    made = [make_language("x", np.random.default_rng(seed), lexicon=40, nasal=able) for seed in range(60)]
    assert 10 < sum(bool(one.nasal) for one in made) < 40
    assert {one.glottal for one in made} == {"stop", "pause"}
    assert all(make_language("x", np.random.default_rng(seed)).nasal == () for seed in range(5))
    shares = []
    for language in made:
        marks = {word: language.marks(word) for word in language.words}
        assert marks == {word: language.marks(word) for word in language.words}
        for word, bits in marks.items():
            assert [place for place, mark in enumerate(bits) if mark & STRESSED] == [language.stressed(word)]
            nasal = [place for place, mark in enumerate(bits) if mark & NASAL]
            assert len(nasal) <= 1
            assert all(word[place] in able for place in nasal)
        if language.nasal:
            shares.append(np.mean([any(mark & NASAL for mark in bits) for bits in marks.values()]))
        else:
            assert not any(mark & NASAL for bits in marks.values() for mark in bits)
    assert 0.3 < np.mean(shares) < 0.5


def test_nasal_vowels_that_are_written_have_letters_of_their_own_with_stress_or_without() -> None:
    k, a, o = (phone_id(name) for name in "kao")
    for seed in range(20):
        made = make_orthography([k, a, o], np.random.default_rng(seed), digraphs=0.0, stress="written", nasal=[a])
        assert set(made.nasal) == {a}
        assert len({*made.graphemes.values(), *made.stressed.values(), *made.nasal.values()}) == 6
        plain, nasal = made.graphemes, made.nasal[a]
        written = made.write([(k, a, k, o), (k, a)], [(0, NASAL, 0, 0), (0, NASAL | STRESSED)])
        assert written.text == f"{plain[k]}{nasal}{plain[k]}{plain[o]} {plain[k]}{nasal}"
        assert written.phones == (k, a, k, o, SILENCE, k, a)
