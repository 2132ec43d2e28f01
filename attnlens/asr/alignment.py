"""Which word of the reference became which of the hypothesis: the least edits, through jiwer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from attnlens.data.normalise import NORMALISERS, characters, spacing_of, words
from attnlens.errors import BadInput, UnknownName

__all__ = ["Chunk", "Split", "Unit", "align", "normalised", "splitter"]

Unit = Literal["words", "characters"]
Split = Callable[[str], list[str]]


@dataclass(frozen=True)
class Chunk:
    """A run of equal edits: where it begins in the reference, its length there and in the hypothesis."""

    kind: Literal["equal", "substitute", "delete", "insert"]
    start: int
    length: int
    other: int


def splitter(unit: Unit, references: Sequence[str]) -> Split:
    """Return what cuts a text into units; whether characters include spaces is decided once, from all references.

    >>> splitter("characters", ["ka to"])("ka")
    ['k', 'a']
    """
    if unit not in get_args(Unit):
        raise UnknownName.among("unit", unit, get_args(Unit))
    if unit == "words":
        return words
    spacing = spacing_of("".join(references))
    return lambda text: characters(text, spacing=spacing)


def normalised(texts: Sequence[str], normaliser: str) -> list[str]:
    """Return the texts as they are compared; a single text is refused, for its letters would pass as texts."""
    if isinstance(texts, str):
        raise BadInput("references and hypotheses are lists of texts", given="a text", fix="pass [text]")
    same = NORMALISERS[normaliser]
    return [same(text) for text in texts]


def align(references: Sequence[str], hypotheses: Sequence[str], split: Split) -> list[list[Chunk]]:
    """Return one alignment per pair, of least edits; where several are, the one that jiwer takes.

    >>> [chunk.kind for chunk in align(["ka to mi"], ["ka do"], str.split)[0]]
    ['equal', 'substitute', 'delete']
    """
    import jiwer

    if not references:
        return []

    def tokens(texts: Sequence[str]) -> list[list[str]]:
        return [split(text) for text in texts]

    made = jiwer.process_words(
        list(references),
        list(hypotheses),
        reference_transform=tokens,  # type: ignore[arg-type]
        hypothesis_transform=tokens,  # type: ignore[arg-type]
    )
    return [
        [
            Chunk(
                chunk.type,  # type: ignore[arg-type]
                chunk.ref_start_idx,
                chunk.ref_end_idx - chunk.ref_start_idx,
                chunk.hyp_end_idx - chunk.hyp_start_idx,
            )
            for chunk in chunks
        ]
        for chunks in made.alignments
    ]
