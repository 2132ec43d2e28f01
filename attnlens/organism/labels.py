"""What is said at each position of a clip: sounds just before, at and after it, and the place in word and phrase."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnlens.models.qwen3_asr import windowed
from attnlens.organism.body import ORDINALS, WORDS
from attnlens.organism.phones import FIRST_VOWEL, SILENCE
from attnlens.organism.pool import Pool

__all__ = ["OFFSETS", "STEP", "frame_labels"]

STEP = 80
"""Milliseconds of a position; a window of a second holds 13, the last of them cut short."""
PER_WINDOW = 13
OFFSETS = (-20, 0, 20)
"""Milliseconds from a position's middle at which the sound is asked for."""
_NOWHERE = -100


def frame_labels(pool: Pool, number: int) -> NDArray[np.int64]:
    """Return labels [6, positions]: phones at the three offsets, a vowel's marks, the place in the word, its number.

    Where nothing is said the phone is silence. Places there, and marks of what is no vowel, are -100, which a loss
    leaves out.
    """
    phones, marks, starts, stops, words = pool.sounds(number)
    frames = int(pool.frame_start[number + 1] - pool.frame_start[number])
    count = windowed(frames)
    middle = np.asarray([place // PER_WINDOW * 1000 + place % PER_WINDOW * STEP for place in range(count)])
    first_of_word = np.searchsorted(words, words, side="left")
    ordinal = np.minimum(np.arange(len(phones)) - first_of_word, ORDINALS - 1)

    def at(times: NDArray[np.int64], values: NDArray[np.int64], nothing: int) -> NDArray[np.int64]:
        place = np.searchsorted(starts, times, side="right") - 1
        place, before = np.maximum(place, 0), place < 0
        # Between two words nobody says anything.
        return np.where(before | (times >= stops[place]), nothing, values[place])

    rows = [at(middle + offset, phones, SILENCE) for offset in OFFSETS]
    rows += [at(middle, np.where(phones >= FIRST_VOWEL, marks, _NOWHERE), _NOWHERE)]
    rows += [at(middle, ordinal, _NOWHERE), at(middle, np.minimum(words, WORDS - 1), _NOWHERE)]
    return np.stack(rows)
