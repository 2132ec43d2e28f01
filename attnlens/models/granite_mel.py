"""Granite Speech's log-mel features without torchaudio."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GraniteExtractor"]


@dataclass(frozen=True)
class GraniteExtractor:
    """The numbers of the checkpoint's preprocessor file, and what they mean.

    A power spectrogram with a periodic Hann window, centred and reflected at the ends; triangular filters on the HTK
    mel scale without area normalisation; a floor 8 below the maximum of the log10; two frames side by side.
    """

    n_fft: int = 512
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    sampling_rate: int = 16_000
    projector_window_size: int = 15
    projector_downsample_rate: int = 5

    @functools.cached_property
    def filters(self) -> NDArray[np.float32]:
        """Return the mel filters, [frequencies, mels]."""
        from transformers.audio_utils import mel_filter_bank

        bank = mel_filter_bank(
            num_frequency_bins=self.n_fft // 2 + 1,
            num_mel_filters=self.n_mels,
            min_frequency=0.0,
            max_frequency=self.sampling_rate / 2,
            sampling_rate=self.sampling_rate,
            norm=None,
            mel_scale="htk",
        )
        return np.asarray(bank, dtype=np.float32)

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return stacked pairs of frames, [pairs, 2 * mels], of one clip [samples]."""
        import torch

        window = torch.hann_window(self.win_length)
        spectrum = torch.stft(
            torch.from_numpy(np.ascontiguousarray(samples)),
            self.n_fft,
            self.hop_length,
            self.win_length,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        mel = spectrum.abs().square().T @ torch.from_numpy(self.filters)
        log = mel.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.max() - 8.0) / 4 + 1
        log = log[: len(log) // 2 * 2]
        return np.asarray(log.reshape(-1, 2 * self.n_mels).numpy(), dtype=np.float32)
