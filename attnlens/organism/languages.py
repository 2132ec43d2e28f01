"""Made-up languages: an inventory of sounds, rules for syllables, and a lexicon whose words recur as words do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.organism.phones import FIRST_VOWEL, MNEMONICS, NASAL, STRESSED, VOWELS, phone_id

__all__ = ["Glottal", "Language", "Side", "Stress", "Word", "make_language", "side_of"]

Side = Literal["train", "dev"]
Stress = Literal["free", "first", "last", "last but one"]
STRESSES: tuple[Stress, ...] = ("free", "free", "free", "first", "last", "last but one")
"""What is drawn from: half of all languages have words that differ in it."""
Glottal = Literal["stop", "pause"]
GLOTTALS: tuple[Glottal, ...] = ("stop", "pause")
"""How a glottal stop inside a word is said: as one, or as a pause shorter than that between words."""
Word = tuple[int, ...]
DEV_SHARE = 10
"""One word form in so many belongs to dev languages, wherever it comes up."""
_TRIES = 10_000
_NASAL_LANGUAGES, _NASAL_WORDS = 0.4, 0.4
"""The share of languages that have nasal vowels where they can be said, and of their words that have one."""

_CONSONANTS = tuple(phone_id(name) for name in MNEMONICS if name not in VOWELS)
_VOWELS = tuple(phone_id(name) for name in MNEMONICS if name in VOWELS)


@dataclass(frozen=True)
class Language:
    """A lexicon of phone ids with the words' probabilities, and how words are said beyond their phones."""

    name: str
    words: tuple[Word, ...]
    shares: NDArray[np.float64]
    stress: Stress = "free"
    nasal: tuple[int, ...] = ()
    """Vowels that are nasal in some words."""
    glottal: Glottal = "stop"

    def phrase(self, rng: np.random.Generator, *, words: tuple[int, int]) -> tuple[Word, ...]:
        """Draw a phrase of ``words`` = (least, most) words."""
        count = int(rng.integers(words[0], words[1] + 1))
        return tuple(self.words[int(place)] for place in rng.choice(len(self.words), count, p=self.shares))

    def stressed(self, word: Word) -> int:
        """Return the place in a word of the stressed vowel, of the first sound where it has none; always the same.

        >>> Language("x", ((1, 29, 2, 30),), np.ones(1), "last").stressed((1, 29, 2, 30))
        3
        """
        vowels = [place for place, phone in enumerate(word) if phone >= FIRST_VOWEL] or [0]
        if self.stress == "free":
            return vowels[_digest(word) // DEV_SHARE % len(vowels)]
        return vowels[{"first": 0, "last": -1, "last but one": max(-2, -len(vowels))}[self.stress]]

    def marks(self, word: Word) -> tuple[int, ...]:
        """Return the marks of a word's phones, always the same: where its stress is, and a nasal vowel, if any.

        >>> Language("x", ((1, 29, 2, 30),), np.ones(1), "last").marks((1, 29, 2, 30))
        (0, 0, 0, 1)
        """
        made = [0] * len(word)
        made[self.stressed(word)] |= STRESSED
        able = [place for place, phone in enumerate(word) if phone in self.nasal]
        # Another digest than that of the stress: which vowel is nasal is a matter of its own.
        drawn = _digest(word[::-1])
        if able and drawn % 1000 < 1000 * _NASAL_WORDS:
            made[able[drawn // 1000 % len(able)]] |= NASAL
        return tuple(made)


def side_of(word: Word) -> Side:
    """Tell which side of the split a word form is on; train and dev languages share no word.

    >>> side_of((1, 29, 2)) == side_of((1, 29, 2))
    True
    """
    return "dev" if _digest(word) % DEV_SHARE == 0 else "train"


def _digest(word: Word) -> int:
    return int.from_bytes(hashlib.blake2b(bytes(word), digest_size=4).digest(), "big")


def make_language(
    name: str,
    rng: np.random.Generator,
    *,
    side: Side | None = None,
    consonants: tuple[int, int] = (7, 16),
    vowels: tuple[int, int] = (3, 6),
    length: tuple[int, int] = (2, 8),
    syllables: int = 4,
    lexicon: int = 60,
    phones: Sequence[int] | None = None,
    nasal: Sequence[int] = (),
) -> Language:
    """Make a language from a generator.

    Parameters
    ----------
    side
        Words of this side of the split alone; None for any, as for exercises without sound.
    consonants, vowels
        The least and the most of each in the inventory.
    length
        The least and the most phones of a word.
    syllables
        The most syllables of a word.
    lexicon
        Distinct words.
    phones
        A given inventory, for exercises: words are then any sequence of it.
    nasal
        Vowels that can be said as nasal ones.

    >>> one = make_language("x", np.random.default_rng(0), side="train")
    >>> len(one.words), all(side_of(word) == "train" for word in one.words)
    (60, True)
    """
    draw: Callable[[np.random.Generator], Word]
    if phones is not None:
        draw = _AnySequence(tuple(phones), length)
    else:
        draw = _Syllables(
            tuple(rng.permutation(_CONSONANTS)[: rng.integers(consonants[0], consonants[1] + 1)].tolist()),
            tuple(rng.permutation(_VOWELS)[: rng.integers(vowels[0], vowels[1] + 1)].tolist()),
            syllables,
            closed=float(rng.choice([0.0, 0.15, 0.4])),
            onsetless=float(rng.uniform(0.05, 0.3)),
            rng=rng,
        )
    found: dict[Word, None] = {}
    for _ in range(_TRIES):
        word = draw(rng)
        if length[0] <= len(word) <= length[1] and (side is None or side_of(word) == side):
            found[word] = None
        if len(found) == lexicon:
            break
    else:
        raise BadInput(
            f"no {lexicon} different words of {length[0]} to {length[1]} phones can be made",
            given=f"{len(found)} found",
            fix="lower lexicon, or allow longer words",
        )
    rank = np.arange(1, lexicon + 1)
    shares = 1 / (rank + 2.0) ** float(rng.uniform(0.6, 1.0))
    return Language(
        name,
        tuple(found),
        shares / shares.sum(),
        STRESSES[int(rng.integers(len(STRESSES)))],
        tuple(nasal) if rng.random() < _NASAL_LANGUAGES else (),
        GLOTTALS[int(rng.integers(len(GLOTTALS)))],
    )


class _AnySequence:
    def __init__(self, phones: tuple[int, ...], length: tuple[int, int]) -> None:
        self.phones, self.length = phones, length

    def __call__(self, rng: np.random.Generator) -> Word:
        count = int(rng.integers(self.length[0], self.length[1] + 1))
        return tuple(self.phones[int(place)] for place in rng.integers(0, len(self.phones), count))


class _Syllables:
    def __init__(
        self,
        consonants: tuple[int, ...],
        vowels: tuple[int, ...],
        syllables: int,
        *,
        closed: float,
        onsetless: float,
        rng: np.random.Generator,
    ) -> None:
        self.consonants, self.vowels, self.syllables = consonants, vowels, syllables
        self.closed, self.onsetless = closed, onsetless
        # Uneven shares: what text alone knows of a language is largely which letters are frequent.
        self.consonant_shares = rng.dirichlet(np.full(len(consonants), 2.0))
        self.vowel_shares = rng.dirichlet(np.full(len(vowels), 3.0))
        self.codas = consonants[: max(1, len(consonants) // 3)]

    def __call__(self, rng: np.random.Generator) -> Word:
        word: list[int] = []
        for place in range(int(rng.integers(1, self.syllables + 1))):
            if rng.random() >= (self.onsetless if place == 0 else self.onsetless / 4):
                word.append(int(rng.choice(self.consonants, p=self.consonant_shares)))
            word.append(int(rng.choice(self.vowels, p=self.vowel_shares)))
            if rng.random() < self.closed:
                word.append(int(rng.choice(self.codas)))
        # Twice the same sound in a row is one long sound to a synthesiser.
        return tuple(one for place, one in enumerate(word) if place == 0 or one != word[place - 1])
