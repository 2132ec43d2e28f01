"""Normalisers: exactly what goes and what stays; words and characters as error rates count them."""

from __future__ import annotations

import itertools
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.data.normalise import NORMALISERS, Spacing, basic_unicode, characters, none, paper, spacing_of, words

EVERY_CHARACTER = [
    char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) not in ("Cn", "Co", "Cs")
]
# Marks, joiners, punctuation and letters that compose, fold or look like something else, beside anything at all.
TRICKY = (
    "aA. -'!+=(\u2019\u02bc\u02bb\u01c3\u0301\u0303\u0307\u0323\u200c\u200d\u1100\u1161\u3000\t\n"
    "d\u0131İßẞΣ\u03c3ς\u017fﬁ\uff21\uff0e…¨℀ǄéÅก้ำកក្ខ་፡"
)
texts = st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=30)
many = settings(derandomize=True, max_examples=300, deadline=None)


def punctuation(text: str) -> str:
    return "".join(char for char in text if unicodedata.category(char).startswith("P"))


def test_there_are_three() -> None:
    assert list(NORMALISERS) == ["basic-unicode", "none", "paper"]
    assert (NORMALISERS["none"], NORMALISERS["paper"], NORMALISERS["basic-unicode"]) == (none, paper, basic_unicode)


@pytest.mark.parametrize("name", list(NORMALISERS))
@given(text=texts)
@many
def test_twice_is_once(name: str, text: str) -> None:
    once = NORMALISERS[name](text)
    assert NORMALISERS[name](once) == once


@pytest.mark.parametrize("name", ["paper", "basic-unicode"])
def test_twice_is_once_for_every_character_there_is(name: str) -> None:
    normalise = NORMALISERS[name]
    for char in EVERY_CHARACTER:
        once = normalise(f"a{char}\u0301b")
        assert normalise(once) == once, hex(ord(char))


@given(text=texts)
@many
def test_none_leaves_everything(text: str) -> None:
    assert none(text) == text


@given(text=texts)
@many
def test_paper_removes_punctuation_and_case_and_nothing_else(text: str) -> None:
    gone = set(punctuation(text)) | set('()#+=?!;.,"')
    assert paper(text) == "".join(char for char in text if char not in gone).lower()


def test_the_papers_list_is_category_p_and_two_mathematical_signs() -> None:
    listed = '()#+=?!;.,"'
    assert punctuation(listed) == '()#?!;.,"'
    assert paper(listed) == ""


def test_paper_keeps_white_space_and_unicode_form() -> None:
    assert paper(" A - n\u0303 \uff21\n") == " a  n\u0303 \uff41\n"


@given(text=texts)
@many
def test_basic_unicode_leaves_composed_lower_case_without_punctuation(text: str) -> None:
    out = basic_unicode(text)
    assert unicodedata.is_normalized("NFKC", out)
    assert out == out.lower()
    assert not punctuation(out)
    assert out == " ".join(out.split())


@given(text=texts)
@many
def test_basic_unicode_does_not_ask_how_a_text_was_typed(text: str) -> None:
    typed = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    assert len({basic_unicode(each) for each in (text, *typed)}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Ñuka, WASI!  ", "ñuka wasi"),
        ("N\u0303uka\u3000wasi", "ñuka wasi"),
        ("\uff28\uff45\uff4c\uff4c\uff4f\uff0e ﬁn", "hello fin"),
        ("Straße", "straße"),
        ("well-known", "wellknown"),
        ("a.\u0301", "á"),
        ("2 + 2 = 4", "2 + 2 = 4"),
        ("«¿Qué?»", "qué"),
        ("...", ""),
        ("", ""),
    ],
)
def test_basic_unicode_by_example(text: str, expected: str) -> None:
    assert basic_unicode(text) == expected


@pytest.mark.parametrize("name", ["paper", "basic-unicode"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t\u02bcika", "t\u02bcika"),
        ("hawai\u02bbi", "hawai\u02bbi"),
        ("nga\ua78ca", "nga\ua78ca"),
        ("\u01c3x\u00f3\u00f5", "\u01c3x\u00f3\u00f5"),
        ("t'ika", "tika"),
        ("t\u2019ika", "tika"),
        ("!x\u00f3\u00f5", "x\u00f3\u00f5"),
        ("ሰላም፡ልዑል", "ሰላምልዑል"),
        ("བོད་ཡིག", "བོདཡིག"),
    ],
)
def test_letters_that_look_like_punctuation_stay_and_punctuation_used_as_letters_goes(
    name: str, text: str, expected: str
) -> None:
    assert NORMALISERS[name](text) == expected


@given(text=texts)
@many
def test_words_are_what_white_space_divides(text: str) -> None:
    assert words(text) == text.split()


@given(text=texts, spacing=st.sampled_from(["spaces", "no-spaces"]))
@many
def test_characters_lose_nothing_but_spaces(text: str, spacing: Spacing) -> None:
    split = characters(text, spacing=spacing)
    composed = unicodedata.normalize("NFC", text).split()
    assert "".join(split) == (" " if spacing == "spaces" else "").join(composed)
    assert all(part and (part == " " or not any(char.isspace() for char in part)) for part in split)


@given(text=texts)
@many
def test_characters_do_not_ask_how_a_text_was_typed(text: str) -> None:
    typed = {form: unicodedata.normalize(form, text) for form in ("NFC", "NFD")}
    assert characters(typed["NFC"], spacing="spaces") == characters(typed["NFD"], spacing="spaces")


@given(text=texts)
@many
def test_marks_stay_with_their_base(text: str) -> None:
    split = characters(text, spacing="spaces")
    for before, part in itertools.pairwise(split):
        if unicodedata.category(part[0]).startswith("M"):
            assert before == " "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("a  b\t", ["a", " ", "b"]),
        ("n\u0303u", ["ñ", "u"]),
        ("ɔ\u0301\u0323k", ["ɔ\u0323\u0301", "k"]),
        ("\u0301a", ["\u0301", "a"]),
        ("a \u0301b", ["a", " ", "\u0301", "b"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("ที่ นี่", ["ที่", "นี่"]),
        ("क्\u200dष", ["क्\u200dष"]),
        ("क्ष", ["क्", "ष"]),
        ("\u1112\u1161\u11ab글", ["한", "글"]),
        ("日本 語", ["日", "本", "語"]),
    ],
)
def test_characters_by_example(text: str, expected: list[str]) -> None:
    assert characters(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "spaces"),
        ("123 ...", "spaces"),
        ("ñuka wasi", "spaces"),
        ("한국어 문장", "spaces"),
        ("नमस्ते दुनिया", "spaces"),
        ("ሰላም ልዑል", "spaces"),
        ("สวัสดีครับ", "no-spaces"),
        ("ສະບາຍດີ", "no-spaces"),
        ("ភាសាខ្មែរ", "no-spaces"),
        ("မြန်မာ ဘာသာ", "no-spaces"),
        ("བོད་ཡིག", "no-spaces"),
        ("ᨣᩤᩴᨾᩮᩬᩥᨦ", "no-spaces"),
        ("ᦎᦷᦑᦺᦖᦺ", "no-spaces"),
        ("中文句子", "no-spaces"),
        ("ひらがな", "no-spaces"),
        ("コーヒー", "no-spaces"),
        ("ｺｰﾋｰ", "no-spaces"),
        ("人々", "no-spaces"),
        ("ภาษา Thai", "spaces"),
        ("ภาษาไทย ok", "no-spaces"),
        ("ab ไท", "spaces"),
    ],
)
def test_the_script_of_most_letters_decides_about_spaces(text: str, expected: Spacing) -> None:
    assert spacing_of(text) == expected


def test_a_hypothesis_can_be_split_as_its_reference_is() -> None:
    reference, hypothesis = "ภาษาไทย", "pha sa"
    spacing = spacing_of(reference)
    assert characters(hypothesis, spacing=spacing) == list("phasa")
    assert characters(hypothesis) == list("pha sa")
