"""What an n-gram model counts: words, pieces of words or characters, spelled so that an ARPA file can hold them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, get_args

from attnlens.asr.pieces import MARK, cut_word
from attnlens.data.normalise import clusters
from attnlens.errors import BadInput, UnknownName

__all__ = ["BEGIN", "END", "SPACE", "UNKNOWN", "SymbolUnit", "joined", "symbols"]

SymbolUnit = Literal["words", "pieces", "characters"]
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPACE = "<space>"
"""How a space between words is written in a character model: ARPA files part symbols by white space."""
_RESERVED = {BEGIN, END, UNKNOWN, SPACE}


def symbols(text: str, unit: SymbolUnit, *, pieces: Collection[str] = ()) -> list[str]:
    """Cut a text into symbols; white space is one space in a character model and nothing in the others.

    ``pieces`` are those that a model of pieces knows.

    >>> symbols("ñu  ka", "characters")
    ['ñ', 'u', '<space>', 'k', 'a']
    """
    if unit not in get_args(SymbolUnit):
        raise UnknownName.among("unit of an n-gram model:", unit, get_args(SymbolUnit))
    found = text.split()
    bad = sorted(_RESERVED.intersection(found))
    if bad:
        raise BadInput(
            "a text holds a symbol that the model keeps for itself",
            given=f"{bad[0]!r} in {text[:60]!r}",
            fix="normalise the text: `basic-unicode` takes nothing of the kind out, so replace it",
        )
    if unit == "words":
        return found
    if unit == "pieces":
        return [piece for word in found for piece in cut_word(word, pieces)]
    return [SPACE if cluster == " " else cluster for cluster in clusters(" ".join(found))]


def joined(sequence: Sequence[str], unit: SymbolUnit) -> str:
    """Return the text of symbols.

    >>> joined(["ñ", "u", "<space>", "k"], "characters")
    'ñu k'
    """
    if unit == "words":
        return " ".join(sequence)
    if unit == "pieces":
        return "".join(sequence).replace(MARK, " ").strip()
    return "".join(" " if one == SPACE else one for one in sequence)
