"""The sounds the organism is taught: broad classes over what espeak-ng calls phonemes in its many voices."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = [
    "CONSONANTS",
    "FIRST_VOWEL",
    "MARKS",
    "MNEMONICS",
    "NASAL",
    "NASAL_MNEMONICS",
    "PAUSE_MNEMONIC",
    "PHONES",
    "SILENCE",
    "STRESSED",
    "VOWELS",
    "classes",
    "marks",
    "nasal_phones",
    "phone_id",
]

CONSONANTS = (
    "p",
    "t",
    "k",
    "q",
    "ʔ",
    "b",
    "d",
    "ɡ",
    "m",
    "n",
    "ɲ",
    "ŋ",
    "f",
    "s",
    "ʃ",
    "x",
    "h",
    "v",
    "z",
    "ʒ",
    "r",
    "l",
    "ʎ",
    "j",
    "w",
    "ts",
    "tʃ",
    "dʒ",
)
VOWELS = ("a", "e", "i", "o", "u", "ə", "ɨ", "y", "ø")
PHONES = ("", *CONSONANTS, *VOWELS)
"""Names by id; id 0 is silence and the space between words."""
SILENCE = 0
STRESSED, NASAL = 1, 2
"""What a vowel may be beside its class, as bits: many spellings write it, and many do not."""
MARKS = (STRESSED | NASAL) + 1
FIRST_VOWEL = 1 + len(CONSONANTS)
"""Ids from here on are vowels."""

_SAME = frozenset(
    {"p", "t", "k", "q", "b", "d", "m", "n", "f", "s", "x", "h", "v", "z", "l", "j", "w", "ts", "a", "e", "i", "o", "u"}
)
_OTHER = {
    "ʔ": "?",
    "ɡ": "g",
    "ɲ": "n^",
    "ŋ": "N",
    "ʃ": "S",
    "ʒ": "Z",
    "r": "R",
    "ʎ": "l^",
    "tʃ": "tS",
    "dʒ": "dZ",
    "ə": "@",
}
MNEMONICS = {name: _OTHER.get(name, name) for name in PHONES if name in _SAME or name in _OTHER}
"""How to ask espeak-ng for a sound, for those that most of its voices have."""
PAUSE_MNEMONIC = "_!"
"""A silence of 60 ms inside a word, which several voices say in the place of a glottal stop."""

# Neighbours in sound share a class: a voice's table decides which it says, and languages rarely tell them apart.
_SHARED = {
    "b": "β",
    "d": "ð ɖ",
    "ɡ": "g ɣ ɟ",
    "t": "ʈ c",
    "n": "ɳ",
    "x": "χ ç K",
    "h": "ɦ ħ",
    "s": "θ ɬ",
    "ʃ": "ʂ ɕ",
    "ʒ": "ʐ ʑ",
    "v": "ʋ",
    "f": "ɸ",
    "r": "ɾ ɹ ʀ ʁ ɽ",
    "l": "ɫ ɭ",
    "dʒ": "dʑ dʐ",
    "tʃ": "tɕ tS tʂ",
    "ts": "t͡s dz",
    "ʔ": "?",
    "a": "ɑ ɐ æ A ɒ ä",
    "e": "ɛ ɜ ε",
    "i": "ɪ",
    "o": "ɔ",
    "u": "ʊ ʉ",
    "ə": "ʌ ɵ ɤ",
    "ɨ": "ɯ",
    "y": "ʏ",
    "ø": "œ",
}
_IDS = {name: number for number, name in enumerate(PHONES) if name}
_IDS |= {symbol: _IDS[name] for name, symbols in _SHARED.items() for symbol in symbols.split()}
_LONGEST = max(len(symbol) for symbol in _IDS)


def phone_id(name: str) -> int:
    """Return the id of a class by its name.

    >>> phone_id("tʃ") == PHONES.index("tʃ")
    True
    """
    return PHONES.index(name)


def _nasal(mnemonics: str) -> dict[int, str]:
    return {phone_id(one[0].lower()): one for one in mnemonics.split()}


NASAL_MNEMONICS = {
    "pt-br": _nasal("e~ i~ o~ u~"),
    "af": _nasal("A~ e~ o~"),
    "ht": _nasal("A~ E~ O~"),
    "de": _nasal("A~ O~"),
    "nl": _nasal("A~ O~"),
    **dict.fromkeys(("pl", "hr", "cs", "sk", "sl", "sr", "bs", "bg", "mk"), _nasal("E~ O~")),
}
"""How to ask espeak-ng for a nasal vowel, in the voices of the training side that have any."""


def classes(ipa: str) -> tuple[int, ...]:
    """Return the classes of one phoneme as espeak-ng writes it: two for a diphthong, none for a pause or a mere mark.

    >>> [PHONES[one] for one in classes("ei")], [PHONES[one] for one in classes("ts")], classes("")
    (['e', 'i'], ['ts'], ())
    """
    found: list[int] = []
    rest = ipa
    while rest:
        for width in range(min(_LONGEST, len(rest)), 0, -1):
            if rest[:width] in _IDS:
                found.append(_IDS[rest[:width]])
                rest = rest[width:]
                break
        else:
            # Nasal vowels and the like: the letter without its marks.
            bare = unicodedata.normalize("NFD", rest[0])[0]
            if bare != rest[0] and bare in _IDS:
                found.append(_IDS[bare])
            rest = rest[1:]
    return tuple(found)


def marks(ipa: str) -> int:
    """Return the marks of one phoneme as espeak-ng writes it, :data:`STRESSED` and :data:`NASAL` together.

    >>> marks("\u02c8ɐ̃ʊ"), marks("\u02c8a"), marks("a")
    (3, 1, 0)
    """
    return STRESSED * ("ˈ" in ipa) + NASAL * ("\u0303" in unicodedata.normalize("NFD", ipa))


def nasal_phones(words: Sequence[Sequence[int]], marks: Sequence[Sequence[int]]) -> set[int]:
    """Return the phones that bear :data:`NASAL` somewhere in words, of which ``marks`` has the marks.

    >>> nasal_phones([(3, 29), (31, 3)], [(0, 1), (3, 0)])
    {31}
    """
    return {
        phone
        for word, bits in zip(words, marks, strict=True)
        for phone, mark in zip(word, bits, strict=True)
        if mark & NASAL
    }
