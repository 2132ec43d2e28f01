"""How much of an answer was copied from the demonstrations, beside how much of the truth stands there anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnlens.asr.alignment import Unit, normalised, splitter
from attnlens.errors import BadInput

__all__ = ["CopyRate", "copy_rate"]


@dataclass(frozen=True, kw_only=True)
class CopyRate:
    """Share of the n-grams of outputs that stand in their demonstrations, and the same of the references.

    ``copied`` and ``ngrams`` count over all utterances; utterances too short for an n-gram have none. A rate is None
    where there is nothing to count. Copying more than the references could is what demonstrations did to the model.
    """

    n: int
    unit: Unit
    copied: int
    ngrams: int
    reference_copied: int
    reference_ngrams: int
    verbatim: int
    utterances: int

    @property
    def rate(self) -> float | None:
        """The share of output n-grams found in the demonstrations."""
        return self.copied / self.ngrams if self.ngrams else None

    @property
    def reference_rate(self) -> float | None:
        """The share of reference n-grams found there: what an honest answer would have copied."""
        return self.reference_copied / self.reference_ngrams if self.reference_ngrams else None

    def __str__(self) -> str:
        rates = ["none" if rate is None else f"{100 * rate:.1f} %" for rate in (self.rate, self.reference_rate)]
        return (
            f"{rates[0]} of {self.ngrams:,} {self.n}-grams of {self.unit} stand in the demonstrations (references: "
            f"{rates[1]} of {self.reference_ngrams:,}); {self.verbatim:,} of {self.utterances:,} answers are one"
        )


def copy_rate(
    outputs: Sequence[str],
    demonstrations: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    n: int = 3,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
) -> CopyRate:
    """Count copied n-grams; ``verbatim`` counts answers that are a demonstration, word for word.

    >>> print(copy_rate(["ka to mi su"], [["ka to mi", "le"]], ["ka to su"], n=2))
    66.7 % of 3 2-grams of words stand in the demonstrations (references: 50.0 % of 2); 0 of 1 answers are one
    """
    if n < 1:
        raise BadInput("an n-gram has a unit or more", given=f"n={n}")
    if not len(outputs) == len(demonstrations) == len(references):
        raise BadInput(
            "every output needs its demonstrations and its reference",
            given=f"{len(outputs)} outputs, {len(demonstrations)} sets of demonstrations, {len(references)} references",
        )
    written, said = normalised(outputs, normaliser), normalised(references, normaliser)
    split = splitter(unit, said)

    def grams(text: str) -> list[tuple[str, ...]]:
        tokens = split(text)
        return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]

    sums = [0, 0, 0, 0]
    verbatim = 0
    for output, shown, reference in zip(written, demonstrations, said, strict=True):
        texts = normalised(list(shown), normaliser)
        known = {gram for text in texts for gram in grams(text)}
        for place, text in ((0, output), (2, reference)):
            found = grams(text)
            sums[place] += sum(gram in known for gram in found)
            sums[place + 1] += len(found)
        verbatim += bool(output) and output in texts
    return CopyRate(
        n=n,
        unit=unit,
        copied=sums[0],
        ngrams=sums[1],
        reference_copied=sums[2],
        reference_ngrams=sums[3],
        verbatim=verbatim,
        utterances=len(outputs),
    )
