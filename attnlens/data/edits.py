"""Seeded changes of a clip that should destroy what a model could use of it: the audio half of the prompt controls.

Each is a pure function ``(samples, seed) -> samples`` over float32 samples [samples] at 16 kHz, and keeps the number
of samples, so that a control never changes the length of a prompt. Randomness comes from the seed alone: two clips of
equal length get the same permutation or the same phases under one seed, so pass each clip of a prompt its own seed.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.registry import Registry

__all__ = ["CHUNK", "EDITS", "Edit", "chunk_shuffle", "reverse", "silence", "spectrum_noise"]

CHUNK = 3_200
"""Samples in a chunk: 200 ms at the 16 kHz of decoded audio, about a syllable."""


class Edit(Protocol):
    """What an audio edit is: samples [samples] and a seed in, as many new samples out, the input left alone."""

    def __call__(self, samples: NDArray[np.float32], seed: int, /) -> NDArray[np.float32]:
        """Return the changed clip."""


def reverse(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Play the clip backwards, to take away the order of sounds and leave the voice.

    Keeps: length, the multiset of samples, loudness, the magnitude spectrum. Destroys: phone order, onsets and decays.
    Twice gives the clip back. The seed plays no part.

    >>> reverse(np.float32([1, 2, 3]), 0).tolist()
    [3.0, 2.0, 1.0]
    """
    return np.ascontiguousarray(samples[::-1])


def chunk_shuffle(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Cut the clip into chunks of 200 ms and permute them, to take away words and leave syllables and the voice.

    Keeps: length, the multiset of samples, the sound within each chunk. Destroys: the order of chunks; never the
    identity, though single chunks may stay in place. The last chunk is usually shorter and moves with the others.
    Clicks arise at the joints.

    >>> clip = np.arange(8_000, dtype=np.float32)
    >>> chunk_shuffle(clip, 0)[[0, 3_200, 6_400]].tolist()
    [6400.0, 1600.0, 4800.0]
    """
    chunks = [samples[at : at + CHUNK] for at in range(0, len(samples), CHUNK)]
    if len(chunks) < 2:  # noqa: PLR2004 - one chunk has no other order
        raise BadInput(
            "the clip is too short to shuffle: the control would leave it as it is",
            given=f"{len(samples)} samples ({len(samples) / CHUNK * 0.2:.2f} s)",
            present="chunk-shuffle permutes chunks of 200 ms",
            fix="leave out clips of up to 0.2 s, or use another control",
        )
    rng = np.random.default_rng(seed)
    unmoved = np.arange(len(chunks))
    order = unmoved
    while np.array_equal(order, unmoved):
        order = rng.permutation(len(chunks))
    return np.concatenate([chunks[index] for index in order])


def silence(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Replace the clip by digital silence, to leave nothing of it but its place in the prompt.

    Keeps: length. Destroys: everything else. The seed plays no part.

    >>> silence(np.float32([1, -1]), 0).tolist()
    [0.0, 0.0]
    """
    return np.zeros_like(samples)


def spectrum_noise(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Replace the clip by noise with its long-term spectrum, to leave timbre and loudness and take the speech away.

    Keeps: length, the magnitude of every frequency over the whole clip and with it RMS and mean (the bins at zero and
    at half the rate stay as they are, so that the result is real). Destroys: the phases, drawn uniformly, and so every
    event in time. A clip of few frequencies, such as a pure tone, is only shifted by this: speech has thousands. Peaks
    are not limited and may exceed 1.

    >>> noise = spectrum_noise(np.float32([1, 0, 0, 0]), 0)
    >>> np.abs(np.fft.rfft(noise)).round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    if len(samples) < 3:  # noqa: PLR2004 - below this every bin is real and no phase is free
        raise BadInput(
            "the clip is too short to have phases: the control would leave it as it is",
            given=f"{len(samples)} samples",
            fix="leave the clip out, or use another control",
        )
    spectrum = np.fft.rfft(samples.astype(np.float64))
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectrum))
    phases[0] = 0
    if len(samples) % 2 == 0:
        phases[-1] = 0
    noise: NDArray[np.float32] = np.fft.irfft(spectrum * np.exp(1j * phases), n=len(samples)).astype(np.float32)
    return noise


EDITS: Registry[Edit] = Registry(
    "audio edit",
    group="attnlens.audio_edits",
    builtin={
        "reverse": ("attnlens.data.edits:reverse", "the clip played backwards"),
        "chunk-shuffle": ("attnlens.data.edits:chunk_shuffle", "chunks of 200 ms in another order"),
        "silence": ("attnlens.data.edits:silence", "zeros of the same length"),
        "spectrum-noise": ("attnlens.data.edits:spectrum_noise", "noise with the clip's magnitude spectrum"),
    },
)
