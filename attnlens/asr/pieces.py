"""Pieces of words for n-gram models: learnt by merging what stands together most often, cut off longest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from attnlens.data.normalise import clusters
from attnlens.errors import BadInput

__all__ = ["MARK", "cut_word", "learn_pieces"]

MARK = "▁"
"""Begins the first piece of every word, so that pieces say where words begin."""


def learn_pieces(texts: Sequence[str], *, size: int) -> frozenset[str]:
    """Learn up to ``size`` pieces from texts: every letter, beginning a word or within, then merges of pairs.

    Of equally frequent pairs the first in the alphabet is merged, so that the same texts give the same pieces.

    >>> sorted(learn_pieces(["kata kata kato"], size=7))
    ['a', 'at', 'o', 't', '▁k', '▁kat', '▁kata']
    """
    words = Counter(word for text in texts for word in text.split())
    if any(MARK in word for word in words):
        raise BadInput(f"a text holds {MARK!r}, which marks the beginnings of words", fix="replace it in the texts")
    spelt = {word: _letters(word) for word in words}
    pieces = {letter for letters in spelt.values() for letter in letters}
    if size < len(pieces):
        raise BadInput("there are more letters than pieces", given=f"size={size}", present=f"{len(pieces)} letters")
    while len(pieces) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelt.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        pieces.add("".join(best))
        spelt = {word: _merged(parts, best) for word, parts in spelt.items()}
    return frozenset(pieces)


def cut_word(word: str, pieces: Collection[str]) -> list[str]:
    """Cut a word into pieces, the longest first from its beginning; a letter that is none of them stands by itself.

    >>> cut_word("katos", {"▁kat", "▁k", "a", "t", "o"})
    ['▁kat', 'o', 's']
    """
    letters, found = _letters(word), []
    while letters:
        many = next((n for n in range(len(letters), 1, -1) if "".join(letters[:n]) in pieces), 1)
        found.append("".join(letters[:many]))
        letters = letters[many:]
    return found


def _letters(word: str) -> list[str]:
    first, *rest = clusters(word)
    return [MARK + first, *rest]


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found
