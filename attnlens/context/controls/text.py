"""Controls of the demonstrations' texts: is it wording, spelling, or just text of that shape?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from attnlens.context.controls.base import WITH_TEXT, Control, Draw
from attnlens.context.prompt import Demonstration, Prompt
from attnlens.data.normalise import clusters

__all__ = [
    "CHARACTER_SHUFFLE",
    "WORD_SHUFFLE",
    "character_shuffle",
    "shuffle_characters",
    "shuffle_words",
    "word_shuffle",
]


def word_shuffle(prompt: Prompt, draw: Draw) -> Prompt:
    """Shuffle the words inside every text, to ask whether word order in the demonstrations matters.

    Keeps: the words of each text with their number, the white space between them, and all audios.
    Destroys: the order of words, and with it the time alignment to the audio. Every text with two different words
    changes; others cannot, and ``Prompt.applied`` counts them. Refused when no text can change, as in scripts without
    spaces (use ``character-shuffle`` there).
    """
    return _each_text(prompt, draw, shuffle_words)


def character_shuffle(prompt: Prompt, draw: Draw) -> Prompt:
    """Shuffle the characters of every text, to ask whether spelling in the demonstrations matters.

    Keeps: the characters of each text (a base with its marks is one), the places of white space, hence the lengths of
    words, and all audios.
    Destroys: words, and which letters stand together; the number of tokens usually grows. Every text with two different
    characters changes; others cannot, and ``Prompt.applied`` counts them. Refused when no text can change.
    """
    return _each_text(prompt, draw, shuffle_characters)


def shuffle_words(text: str, rng: np.random.Generator) -> str:
    """Return the text with its words in another order, white space in place; unchanged without two different words.

    >>> shuffle_words("ima  kashka", np.random.default_rng(0))
    'kashka  ima'
    """
    return _shuffled(re.findall(r"\s+|\S+", text), rng)


def shuffle_characters(text: str, rng: np.random.Generator) -> str:
    """Return the text with its characters in another order, white space in place; unchanged without two different ones.

    >>> shuffle_characters("a b", np.random.default_rng(0))
    'b a'
    """
    return _shuffled(clusters(text), rng)


def _shuffled(pieces: list[str], rng: np.random.Generator) -> str:
    movable = [place for place, piece in enumerate(pieces) if not piece.isspace()]
    before = [pieces[place] for place in movable]
    after = before
    # At most every second shuffle of pieces that are not all equal gives the old sequence back, so this ends soon.
    while after == before and len(set(before)) > 1:
        after = [before[source] for source in rng.permutation(len(before))]
    shuffled = list(pieces)
    for place, piece in zip(movable, after, strict=True):
        shuffled[place] = piece
    return "".join(shuffled)


def _each_text(prompt: Prompt, draw: Draw, shuffle: Callable[[str, np.random.Generator], str]) -> Prompt:
    # Drawn per demonstration, not in sequence: a text is shuffled alike at any number of shots and in any order.
    def changed(demonstration: Demonstration) -> Demonstration:
        return replace(demonstration, text=shuffle(demonstration.text or "", draw.rng(demonstration.id)))

    return replace(prompt, demonstrations=tuple(changed(demonstration) for demonstration in prompt.demonstrations))


WORD_SHUFFLE = Control(word_shuffle, conditions=WITH_TEXT, unchanged="recorded")
CHARACTER_SHUFFLE = Control(character_shuffle, conditions=WITH_TEXT, unchanged="recorded")
