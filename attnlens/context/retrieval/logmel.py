"""Log-mel frames with numpy and scipy alone: the audio description that needs no model."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnlens.data.audio import RATE

if TYPE_CHECKING:
    from attnlens.data.audio import Audio

__all__ = ["LogMel"]

WINDOW = RATE * 25 // 1000
HOP = RATE * 10 // 1000
FFT = 512
FLOOR = 1e-10


class LogMel:
    """Log energies in mel bands, 25 ms windows every 10 ms, as :class:`AudioEncoder` asks for.

    40 bands, because with more the lowest fall between two bins of a 512-point transform and stay empty.

    >>> from attnlens.data.audio import Audio
    >>> LogMel().frames(Audio.from_array(np.sin(np.arange(1600, dtype="float32")))).shape
    (8, 40)
    """

    def __init__(self, bands: int = 40) -> None:
        self.bands = bands

    @property
    def identity(self) -> str:
        """Return the settings, which determine the frames."""
        return f"log-mel:{self.bands}:{WINDOW}:{HOP}:{FFT}"

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        """Return [frames, bands]; a clip shorter than a window is one frame, filled up with zeros."""
        from scipy.fft import rfft

        samples = audio.load()
        samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
        power = np.abs(rfft(windows * np.hanning(WINDOW).astype(np.float32), n=FFT, axis=1)) ** 2
        frames: NDArray[np.float32] = np.log(np.maximum(power @ _bank(self.bands), FLOOR)).astype(np.float32)
        return frames


@functools.cache
def _bank(bands: int) -> NDArray[np.float32]:
    """Return triangular filters [bins, bands], evenly spaced on the mel scale from 0 Hz to half the rate."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / RATE)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
