"""How an episode's language is written: letters drawn anew each time, digraphs included, or real spelling in cipher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from attnlens.errors import BadInput
from attnlens.organism.phones import FIRST_VOWEL, NASAL, SILENCE, STRESSED

__all__ = ["BASIC", "LETTERS", "MARKED", "Cipher", "Orthography", "Written", "make_cipher", "make_orthography"]

BASIC = "abcdefghijklmnopqrstuvwxyz"
MARKED = "'áàâäãåāçčéèêëẽēíìîïĩīñŋóòôöõōøšúùûüũūýỹž"
LETTERS = BASIC + MARKED
"""What an orthography may draw from. The tokenizer knows these, and spells other characters in bytes."""
_SECOND = "hjwyzg"
Unwritten = Literal["nowhere", "last sound"]
UNWRITTEN: tuple[Unwritten, ...] = ("nowhere", "last sound")


@dataclass(frozen=True)
class Written:
    """A text and the phone each character stands for, as long as the text; -1 where nobody says."""

    text: str
    phones: tuple[int, ...]


@dataclass(frozen=True)
class Orthography:
    """One grapheme for each phone, and others where it is nasal or bears the stress, if the spelling writes that."""

    graphemes: dict[int, str]
    stressed: dict[int, str] = field(default_factory=dict)
    unwritten: Unwritten = "nowhere"
    """Where stress is not written although it is elsewhere."""
    nasal: dict[int, str] = field(default_factory=dict)
    """Goes before stress: a nasal vowel is written alike with it and without."""

    def write(self, words: Sequence[Sequence[int]], marks: Sequence[Sequence[int]]) -> Written:
        """Spell words of phones and their marks, with spaces between them.

        >>> Orthography({1: "k", 2: "sh"}).write([(1, 2), (1,)], [(0, 0), (0,)])
        Written(text='ksh k', phones=(1, 2, 2, 0, 1))
        >>> accented = Orthography({1: "k", 29: "a"}, {29: "á"}, "last sound")
        >>> accented.write([(29, 1, 29), (29, 1, 29)], [(1, 0, 0), (0, 0, 1)]).text
        'áka aka'
        """
        text: list[str] = []
        phones: list[int] = []
        for place, (word, marked) in enumerate(zip(words, marks, strict=True)):
            if place:
                text.append(" ")
                phones.append(SILENCE)
            written = len(word) - (self.unwritten == "last sound")
            for number, (phone, mark) in enumerate(zip(word, marked, strict=True)):
                nasal = self.nasal.get(phone) if mark & NASAL else None
                stressed = self.stressed.get(phone) if mark & STRESSED and number < written else None
                grapheme = nasal or stressed or self.graphemes[phone]
                text.append(grapheme)
                phones += [phone] * len(grapheme)
        return Written("".join(text), tuple(phones))


@dataclass(frozen=True)
class Cipher:
    """Another letter for each letter of a real spelling; what is no letter stays."""

    letters: dict[str, str]

    def write(self, text: str) -> Written:
        """Spell a text in cipher.

        >>> Cipher({"a": "x", "b": "a"}).write("ab a").text
        'xa x'
        """
        return Written("".join(self.letters.get(one, one) for one in text), (-1,) * len(text))


def make_orthography(
    phones: Sequence[int],
    rng: np.random.Generator,
    *,
    digraphs: float = 0.15,
    marked: float = 0.15,
    stress: Literal["written", "unwritten"] = "unwritten",
    nasal: Sequence[int] = (),
) -> Orthography:
    """Draw graphemes for phones: all different; a share of them digraphs, a share of the letters beyond a to z.

    Where stress is written, each stressed vowel has a letter of its own, everywhere or but at the end of a word; each
    vowel of ``nasal`` has another one for where it is nasal.
    A digraph begins with a letter that is also used alone, or is not, as it happens: both occur in real spellings.

    >>> made = make_orthography(range(1, 30), np.random.default_rng(0))
    >>> len(set(made.graphemes.values()))
    29
    """
    special = [phone for phone in phones if phone >= FIRST_VOWEL] if stress == "written" else []
    needed = len(phones) + len(special) + len(nasal)
    if needed > len(LETTERS):
        raise BadInput("there are more sounds than letters", given=needed, present=len(LETTERS))
    basic = iter(rng.permutation(list(BASIC)).tolist())
    other = iter(rng.permutation(list(MARKED)).tolist())

    def single() -> str:
        first, second = (other, basic) if rng.random() < marked else (basic, other)
        return next(first, None) or next(second)

    graphemes: dict[int, str] = {}
    taken: set[str] = set()
    for phone in phones:
        if rng.random() < digraphs:
            pair = str(rng.choice(list(BASIC))) + str(rng.choice(list(_SECOND)))
            if pair not in taken:
                taken.add(pair)
                graphemes[phone] = pair
                continue
        graphemes[phone] = single()
    stressed = {phone: single() for phone in special}
    unwritten = UNWRITTEN[int(rng.integers(len(UNWRITTEN)))] if special else "nowhere"
    return Orthography(graphemes, stressed, unwritten, {phone: single() for phone in nasal})


def make_cipher(texts: Sequence[str], rng: np.random.Generator, *, marked: float = 0.1) -> Cipher:
    """Draw another letter for every letter of these texts, each its own.

    >>> cipher = make_cipher(["kato", "ñandu"], np.random.default_rng(0))
    >>> len(set(cipher.letters.values())) == len(cipher.letters) == 8
    True
    """
    used = sorted({one for text in texts for one in text if one.isalpha() or one == "'"})
    if len(used) > len(LETTERS):
        raise BadInput("there are more letters than the organism knows", given=len(used), present=len(LETTERS))
    many = int(min(len(MARKED), max(len(used) - len(BASIC), rng.binomial(len(used), marked))))
    drawn = [*rng.permutation(list(MARKED))[:many], *rng.permutation(list(BASIC))[: len(used) - many]]
    return Cipher(dict(zip(used, rng.permutation(drawn).tolist(), strict=True)))
