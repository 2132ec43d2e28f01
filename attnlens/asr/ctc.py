"""A CTC model of transformers with its extractor and vocabulary: clips in, logits with true lengths out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.vocabulary import Vocabulary
from attnlens.data.audio import RATE
from attnlens.errors import BadInput, SelfCheckFailed, UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CtcNet", "Padded"]

Padded = dict[str, Any]
"""What a model takes, as tensors, and ``lengths`` in rows of its input."""


class CtcNet:
    """What inference and training share: features of one clip, a padded batch, logits and how many of them are real.

    Clips are extracted one at a time: padded together, the same clip gets another number of frames in some extractors.
    """

    def __init__(self, model: Any, extractor: Any, vocabulary: Vocabulary) -> None:
        rate = getattr(extractor, "sampling_rate", RATE)
        if rate != RATE:
            raise UnsupportedModel("the model hears another sampling rate", given=rate, present=f"audio at {RATE} Hz")
        self.model, self.extractor, self.vocabulary = model, extractor, vocabulary
        self.input_name = "input_values" if "input_values" in extractor.model_input_names else "input_features"
        self.masked = bool(getattr(extractor, "return_attention_mask", True)) or self.input_name == "input_features"
        self._count = _length_rule(model)

    @property
    def mels(self) -> int:
        """Mel bands of a frame; 0 for a model of waveforms."""
        if self.input_name == "input_values":
            return 0
        return int(getattr(self.extractor, "num_mel_bins", self.extractor.feature_size))

    def features(self, samples: NDArray[np.float32], *, name: str = "the clip") -> NDArray[np.float32]:
        """Return what the model reads of one clip: [samples] or [rows, width]."""
        try:
            made = self.extractor([samples], sampling_rate=RATE, return_tensors="np", padding="longest")
        except (ValueError, RuntimeError, IndexError) as error:
            raise self._too_short(samples, name) from error
        values = np.asarray(made[self.input_name][0], dtype=np.float32)
        mask = made.get("attention_mask")
        rows = len(values) if mask is None or self.input_name == "input_values" else int(np.asarray(mask[0]).sum())
        values = values[:rows]
        if not len(values) or not np.isfinite(values).all() or self.frames(len(values)) < 1:
            raise self._too_short(samples, name)
        return values

    def frames(self, rows: int) -> int:
        """Return how many outputs come of so many input rows."""
        return self._count(rows)

    def padded(self, clips: Sequence[NDArray[np.float32]]) -> Padded:
        """Put clips side by side, as the model's arguments on its device."""
        import torch

        lengths = [len(clip) for clip in clips]
        made = np.full((len(clips), max(lengths), *clips[0].shape[1:]), self._filler(), dtype=np.float32)
        mask = np.zeros((len(clips), max(lengths)), dtype=np.int64)
        for row, clip in enumerate(clips):
            made[row, : len(clip)] = clip
            mask[row, : len(clip)] = 1
        device, dtype = self.model.device, self.model.dtype
        tensors: Padded = {self.input_name: torch.as_tensor(made, device=device, dtype=dtype), "lengths": lengths}
        if self.masked:
            tensors["attention_mask"] = torch.as_tensor(mask, device=device)
        return tensors

    def together(self, lengths: Sequence[int]) -> bool:
        """Tell whether clips of such lengths may share a batch without changing each other's numbers."""
        return self.masked or len(set(lengths)) == 1

    def logits(self, padded: Padded) -> tuple[Tensor, list[int]]:
        """Return logits [clips, frames, vocabulary] and the frames of each clip."""
        given = {name: value for name, value in padded.items() if name != "lengths"}
        logits: Tensor = self.model(**given).logits
        counts = [self.frames(rows) for rows in padded["lengths"]]
        if max(counts) != logits.shape[1] or logits.shape[2] != len(self.vocabulary):
            raise SelfCheckFailed(
                "the model's output has another shape than its own length rule says",
                given=f"{list(logits.shape)}",
                present=f"{max(counts)} frames, {len(self.vocabulary)} pieces",
                fix="report the model's name",
            )
        return logits, counts

    def _filler(self) -> float:
        return float(getattr(self.extractor, "padding_value", 0.0))

    def _too_short(self, samples: NDArray[np.float32], name: str) -> BadInput:
        return BadInput(
            f"{name} is too short for the acoustic model",
            given=f"{len(samples) / RATE:.3f} s",
            fix="leave the clip out, or join it to its neighbour",
        )


def _length_rule(model: Any) -> Any:
    import torch

    for module in model.modules():
        rule = getattr(module, "_get_feat_extract_output_lengths", None)
        rule = rule or getattr(module, "_get_subsampling_output_length", None)
        if rule is not None:
            return lambda rows: int(torch.as_tensor(rule(torch.tensor([rows]))).reshape(-1)[0])
    raise UnsupportedModel(
        "the model does not say how many outputs it makes of its input",
        given=type(model).__name__,
        fix="use a CTC model of transformers such as Wav2Vec2ForCTC, Wav2Vec2BertForCTC, ParakeetForCTC",
    )
