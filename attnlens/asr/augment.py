"""The same words as another mouth, room and tempo would give them: changes of waveforms and of mel features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["changed_features", "changed_waveform"]

_TEMPO = (0.88, 1.14)
_PITCH = (0.9, 1.12)
_LEAST_FRAMES = 8


def changed_waveform(samples: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return samples [n] played faster or slower, with noise, and with short gaps.

    >>> changed_waveform(np.ones(16_000, np.float32), np.random.default_rng(0)).dtype.name
    'float32'
    """
    tempo = rng.uniform(*_TEMPO)
    count = max(1, round(len(samples) / tempo))
    made = np.interp(np.linspace(0, len(samples) - 1, count), np.arange(len(samples)), samples)
    made = made + rng.normal(0, 1, count) * float(np.std(samples)) * 10 ** rng.uniform(-3, -1.2)
    for _ in range(int(rng.integers(0, 3))):
        width = int(rng.uniform(0, 0.04) * count)
        start = int(rng.integers(0, count - width + 1))
        made[start : start + width] = 0
    return made.astype(np.float32)


def changed_features(frames: NDArray[np.float32], rng: np.random.Generator, *, mels: int) -> NDArray[np.float32]:
    """Return features [n, stacked * mels] with tempo, throat, level, tilt, noise and blanked parts changed.

    Parameters
    ----------
    frames
        Mel features, several frames of ``mels`` bands beside each other in a row where the extractor stacks them.
    mels
        Bands of one frame.

    >>> changed_features(np.zeros((40, 160), np.float32), np.random.default_rng(0), mels=80).shape[1]
    160
    """
    stacked = frames.shape[1] // mels
    flat: NDArray[np.floating] = frames.reshape(-1, mels)
    flat = _stretched(flat, rng.uniform(*_TEMPO), stacked)
    band = np.arange(mels, dtype=np.float32)
    flat = _at(flat.T, np.minimum(band * rng.uniform(*_PITCH), mels - 1)).T
    spread = float(flat.std()) or 1.0
    middle = flat.mean(axis=0)
    flat = flat + spread * (rng.normal(0, 0.15) + rng.uniform(-0.4, 0.4) * (band / mels - 0.5))
    flat = flat + spread * rng.uniform(0, 0.25) * rng.standard_normal(flat.shape)
    for _ in range(2):
        width = int(rng.integers(0, mels // 5 + 1))
        start = int(rng.integers(0, mels - width + 1))
        flat[:, start : start + width] = middle[start : start + width]
    for _ in range(int(rng.integers(0, 3))):
        width = int(rng.integers(0, min(8, len(flat) // 6) + 1))
        start = int(rng.integers(0, len(flat) - width + 1))
        flat[start : start + width] = middle
    return flat.reshape(-1, stacked * mels).astype(np.float32)


def _stretched(flat: NDArray[np.floating], tempo: float, stacked: int) -> NDArray[np.floating]:
    count = round(len(flat) / tempo / stacked) * stacked
    if count < _LEAST_FRAMES:
        return flat
    return _at(flat, np.linspace(0, len(flat) - 1, count))


def _at(rows: NDArray[np.floating], places: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return rows [places, width] between rows."""
    low = np.minimum(places.astype(np.int64), len(rows) - 2) if len(rows) > 1 else np.zeros(len(places), np.int64)
    share = (places - low)[:, None].astype(np.float32)
    return rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share
