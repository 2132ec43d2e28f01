"""Long audio in overlapping windows, and the frames of the windows put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, UnsupportedModel

__all__ = ["Windows", "samples_per_frame"]

_SPAN = 61_440
"""Samples: a multiple of every hop of 10 ms times 1 to 6, 8, 12 or 16."""


@dataclass(frozen=True)
class Windows:
    """How audio is cut: every window has ``size`` samples, neighbours share ``overlap``, a frame stands for ``hop``.

    Of the frames in an overlap the first half comes from the window before and the second from the one after: no frame
    that is kept lies within half an overlap of a cut.

    >>> windows = Windows.of(size=3.0, overlap=1.0, hop=320)
    >>> windows.cut(5 * 16_000)
    [(0, 48000), (32000, 80000)]
    >>> windows.cut(48_000)
    [(0, 48000)]
    """

    size: int
    overlap: int
    hop: int

    @classmethod
    def of(cls, *, size: float, overlap: float, hop: int, rate: int = 16_000) -> Windows:
        """Return windows of so many seconds, rounded to whole frames."""
        half = max(1, round(overlap * rate / 2 / hop))
        whole = round(size * rate / hop)
        if not overlap > 0 or whole <= 4 * half:
            raise BadInput(
                "windows must be more than twice as long as their overlap",
                given=f"window={size} s, overlap={overlap} s",
                present=f"frames of {1000 * hop / rate:.0f} ms",
                fix="lengthen the window or shorten the overlap",
            )
        return cls(whole * hop, 2 * half * hop, hop)

    def cut(self, samples: int) -> list[tuple[int, int]]:
        """Return the first sample of each window and the one after its last."""
        step = self.size - self.overlap
        starts = [0]
        while starts[-1] + self.size < samples:
            starts.append(starts[-1] + step)
        return [(start, min(start + self.size, samples)) for start in starts]

    def join(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Put the frames [frames, width] of consecutive windows together."""
        if len(parts) == 1:
            return parts[0]
        step, half = (self.size - self.overlap) // self.hop, self.overlap // self.hop // 2
        kept = []
        for number, part in enumerate(parts):
            first = half if number else 0
            last = len(part) if number == len(parts) - 1 else step + half
            if len(part) < last or last <= first:
                raise UnsupportedModel(
                    "the model makes too few frames of a window to put windows together",
                    given=f"{len(part)} frames of window {number}",
                    present=f"{last} are needed",
                    fix="pass a longer overlap",
                )
            kept.append(part[first:last])
        return np.concatenate(kept)


def samples_per_frame(frames: Callable[[int], int]) -> int:
    """Return how many samples a frame stands for, given how many frames come of so many samples.

    >>> samples_per_frame(lambda samples: (samples - 400) // 320 + 1)
    320
    """
    counts = [frames(_SPAN * times) for times in (1, 2, 3)]
    grown = counts[1] - counts[0]
    if grown < 1 or counts[2] - counts[1] != grown or _SPAN % grown:
        raise UnsupportedModel(
            "the model's frames are not evenly spaced: long audio cannot be put together",
            given=f"{counts} frames of {[_SPAN * times for times in (1, 2, 3)]} samples",
            fix="pass clips that are shorter than the window",
        )
    return _SPAN // grown
