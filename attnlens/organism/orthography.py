"""How an episode's language is written: letters drawn anew each time, digraphs included, or real spelling in cipher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnlens.errors import BadInput
from attnlens.organism.phones import SILENCE

__all__ = ["BASIC", "LETTERS", "MARKED", "Cipher", "Orthography", "Written", "make_cipher", "make_orthography"]

BASIC = "abcdefghijklmnopqrstuvwxyz"
MARKED = "'áàâäãåāçčéèêëẽēíìîïĩīñŋóòôöõōøšúùûüũūýỹž"
LETTERS = BASIC + MARKED
"""What an orthography may draw from. The tokenizer knows these, and spells other characters in bytes."""
_SECOND = "hjwyzg"


@dataclass(frozen=True)
class Written:
    """A text and the phone each character stands for, as long as the text; -1 where nobody says."""

    text: str
    phones: tuple[int, ...]


@dataclass(frozen=True)
class Orthography:
    """One grapheme for each phone."""

    graphemes: dict[int, str]

    def write(self, words: Sequence[Sequence[int]]) -> Written:
        """Spell words, with spaces between them.

        >>> Orthography({1: "k", 2: "sh"}).write([(1, 2), (1,)])
        Written(text='ksh k', phones=(1, 2, 2, 0, 1))
        """
        text: list[str] = []
        phones: list[int] = []
        for place, word in enumerate(words):
            if place:
                text.append(" ")
                phones.append(SILENCE)
            for phone in word:
                text.append(self.graphemes[phone])
                phones += [phone] * len(self.graphemes[phone])
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
    phones: Sequence[int], rng: np.random.Generator, *, digraphs: float = 0.15, marked: float = 0.15
) -> Orthography:
    """Draw graphemes for phones: all different; a share of them digraphs, a share of the letters beyond a to z.

    A digraph begins with a letter that is also used alone, or is not, as it happens: both occur in real spellings.

    >>> made = make_orthography(range(1, 30), np.random.default_rng(0))
    >>> len(set(made.graphemes.values()))
    29
    """
    if len(phones) > len(LETTERS):
        raise BadInput("there are more sounds than letters", given=len(phones), present=len(LETTERS))
    basic = iter(rng.permutation(list(BASIC)).tolist())
    other = iter(rng.permutation(list(MARKED)).tolist())
    graphemes: dict[int, str] = {}
    taken: set[str] = set()
    for phone in phones:
        if rng.random() < digraphs:
            pair = str(rng.choice(list(BASIC))) + str(rng.choice(list(_SECOND)))
            if pair not in taken:
                taken.add(pair)
                graphemes[phone] = pair
                continue
        first, second = (other, basic) if rng.random() < marked else (basic, other)
        letter = next(first, None) or next(second)
        taken.add(letter)
        graphemes[phone] = letter
    return Orthography(graphemes)


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
