"""What the outputs of a CTC model write: a piece of text per id, a blank, and ids that write nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from attnlens.errors import BadInput, UnsupportedModel, listing

__all__ = ["DELIMITER", "SPECIALS", "Vocabulary", "tidy"]

SPECIALS = ("<pad>", "<unk>")
"""The first ids of a vocabulary made here: the blank, and what stands for nothing else."""
DELIMITER = "|"
"""How the tokenizer's file writes the space."""
_WORD_START = "▁"
_BYTE_SPACE = "Ġ"


def tidy(text: str) -> str:
    """Return the text with single spaces between words and none around it.

    >>> tidy(" ka  to ")
    'ka to'
    """
    return " ".join(text.split())


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of text by id; the blank and other ids that write nothing hold "".

    >>> vocabulary = Vocabulary.of(["ka to", "ta"])
    >>> vocabulary.pieces
    ('', '', ' ', 'a', 'k', 'o', 't')
    >>> vocabulary.text(vocabulary.ids("to ka")), sorted(vocabulary.unknown("tú ka!"))
    ('to ka', ['!', 'ú'])
    """

    pieces: tuple[str, ...]
    blank: int

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.pieces):
            raise BadInput("the blank is no id of the vocabulary", given=self.blank, present=f"{len(self.pieces)} ids")
        if self.pieces[self.blank]:
            raise BadInput("the blank writes nothing", given=repr(self.pieces[self.blank]), fix="pass another id")

    def __len__(self) -> int:
        return len(self.pieces)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Vocabulary:
        """Make the vocabulary of the characters that texts are written with, after :data:`SPECIALS`."""
        found = sorted({character for text in texts for character in tidy(text)} | {" "})
        if found == [" "]:
            raise BadInput("there is no text to make a vocabulary of", fix="train on transcribed speech")
        if DELIMITER in found:
            raise BadInput(
                f"{DELIMITER!r} cannot be written: tokenizers of CTC models use it for the space",
                fix="remove it from the transcripts, for instance by a normaliser",
            )
        return cls(("",) * len(SPECIALS) + tuple(found), 0)

    @classmethod
    def of_tokenizer(cls, tokenizer: Any, *, blank: int, size: int) -> Vocabulary:
        """Read the pieces of a transformers tokenizer of characters or sentence pieces.

        Parameters
        ----------
        blank
            The id of the model's blank, its configuration's ``pad_token_id``.
        size
            How many outputs the model has.
        """
        delimiter = getattr(tokenizer, "word_delimiter_token", None)
        # The delimiter passes for special in some versions of transformers, but it is how the space is written.
        silent = {*tokenizer.all_special_ids, blank} - {tokenizer.get_vocab().get(delimiter)}
        known = {number: piece for piece, number in tokenizer.get_vocab().items() if number not in silent}
        if any(piece.startswith(_BYTE_SPACE) for piece in known.values()):
            raise UnsupportedModel(
                "the model writes bytes, which may be parts of a character",
                given=type(tokenizer).__name__,
                fix="use a CTC model of characters or sentence pieces",
            )
        outside = sorted(number for number in known if number >= size)
        if outside:
            raise BadInput(
                "the tokenizer belongs to another model",
                given=f"{len(outside)} pieces beyond the model's {size} outputs",
                fix="for a model with adapters, name the language",
            )
        space = _WORD_START if delimiter is None else str(delimiter)
        lower = bool(getattr(tokenizer, "do_lower_case", False))
        pieces = (known.get(number, "").replace(space, " ") for number in range(size))
        return cls(tuple(piece.lower() if lower else piece for piece in pieces), blank)

    @cached_property
    def _by_piece(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces) if piece}

    @property
    def writes_characters(self) -> bool:
        """Whether every piece is one character, so that a text is one sequence of ids."""
        return all(len(piece) == 1 for piece in self._by_piece)

    def unknown(self, text: str) -> set[str]:
        """Return the characters of a text that no piece writes."""
        return set(tidy(text)) - {character for piece in self._by_piece for character in piece}

    def ids(self, text: str) -> list[int]:
        """Return the ids that write a text; a character outside the vocabulary is refused."""
        if not self.writes_characters:
            raise BadInput("a text is many sequences of sub-word pieces", fix="score token sequences instead")
        outside = self.unknown(text)
        if outside:
            raise BadInput(
                "the acoustic model cannot write this text",
                given=repr(text),
                present=f"outside its vocabulary: {listing(map(repr, sorted(outside)))}",
                fix="pass text in its characters, or train on text that has these",
            )
        return [self._by_piece[character] for character in tidy(text)]

    def text(self, ids: Sequence[int]) -> str:
        """Return what a sequence of ids writes, repeats already collapsed."""
        return tidy("".join(self.pieces[number] for number in ids))
