"""Cut two systems' transcripts of the same speech into segments whose errors are independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.alignment import Chunk, Unit, align, normalised, splitter
from attnlens.errors import BadInput

__all__ = ["Segments", "error_segments"]

BUFFER = 2
"""Units that both systems must get right between two segments; the value of NIST's scoring."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Errors of two systems in every segment with an error, and the place of its utterance; all [segments]."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    utterance: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)


def error_segments(
    references: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    buffer: int = BUFFER,
) -> Segments:
    """Find the stretches where either system errs; ``buffer`` correct units of both, or an utterance's end, part them.

    All errors of an utterance lie in one of its segments, so the segments' errors add up to the utterance's.

    >>> cut = error_segments(["a b c d e f"], ["x b c d e f"], ["a b c d z"])
    >>> cut.first.tolist(), cut.second.tolist()
    ([1, 0], [0, 2])
    """
    if buffer < 1:
        raise BadInput("segments are parted by correct units", given=f"buffer={buffer}", fix="pass 1 or more; 2 usual")
    said, one, other = (normalised(texts, normaliser) for texts in (references, first, second))
    if not len(said) == len(one) == len(other):
        raise BadInput("the systems heard other utterances", given=f"{len(said)}, {len(one)}, {len(other)} texts")
    split = splitter(unit, said)
    found: list[tuple[int, int, int]] = []
    for place, (text, left, right) in enumerate(
        zip(said, align(said, one, split), align(said, other, split), strict=True)
    ):
        length = len(split(text))
        found += [(*pair, place) for pair in _segments(_cells(left, length), _cells(right, length), buffer)]
    columns = np.array(found, dtype=np.int64).reshape(-1, 3)
    return Segments(columns[:, 0], columns[:, 1], columns[:, 2])


def _cells(chunks: Sequence[Chunk], length: int) -> NDArray[np.int64]:
    """Return errors [2 length + 1]: at even places what was inserted before a unit, at odd ones the unit's own."""
    cells = np.zeros(2 * length + 1, dtype=np.int64)
    for chunk in chunks:
        if chunk.kind == "insert":
            cells[2 * chunk.start] += chunk.other
        elif chunk.kind != "equal":
            cells[2 * chunk.start + 1 : 2 * (chunk.start + chunk.length) + 1 : 2] += 1
    return cells


def _segments(first: NDArray[np.int64], second: NDArray[np.int64], buffer: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    correct = buffer
    for place, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        if not one and not other:
            correct += place % 2
            continue
        if correct >= buffer:
            found.append((one, other))
        else:
            found[-1] = (found[-1][0] + one, found[-1][1] + other)
        correct = 0
    return found
