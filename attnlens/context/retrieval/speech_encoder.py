"""Hidden states of any speech encoder that transformers can load, with the padding cut off."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.checkpoints import fingerprint, loaded, located, unreadable
from attnlens.data.audio import RATE
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.data.audio import Audio

__all__ = ["SpeechEncoder"]

SHORTEST = RATE * 25 // 1000
"""Samples that make one frame in all of these models."""


class SpeechEncoder:
    """Whisper's encoder, wav2vec 2.0, HuBERT, WavLM, w2v-BERT and their kind, from a name or a folder.

    Clips are encoded one at a time. Several of these models normalise over time and are never told where padding
    begins, so that in a batch a clip's states would change with its neighbours. Where the feature extractor itself
    pads (Whisper, to 30 s), only the frames of the clip are returned.

    Parameters
    ----------
    name
        A folder or a hub name; encoder-decoder models contribute their encoder.
    layer
        None for the last hidden state, else an index into the hidden states, 0 being the input to the first layer.
    """

    def __init__(self, name: str, *, layer: int | None = None, device: str = "cpu") -> None:
        from transformers import AutoFeatureExtractor, AutoModel

        source, on_disk = located(name)
        # Used for masking in pre-training only, and absent from some checkpoints.
        model = loaded(AutoModel.from_pretrained, name, optional=("masked_spec_embed",))
        self.name, self.layer, self.device = name, layer, device
        load_extractor: Any = AutoFeatureExtractor.from_pretrained
        try:
            self.extractor: Any = load_extractor(source, local_files_only=on_disk)
        except (OSError, ValueError) as error:
            raise unreadable(name, error) from error
        self.encoder: Any = (model.get_encoder() if model.config.is_encoder_decoder else model).to(device)
        if self.extractor.sampling_rate != RATE:
            raise BadInput(
                f"the speech encoder {name!r} listens at another rate",
                given=f"{self.extractor.sampling_rate} Hz",
                present=f"audio at {RATE} Hz",
                fix=f"choose an encoder for {RATE} Hz",
            )

    @cached_property
    def identity(self) -> str:
        """Return the layer and hashes of the feature extractor and of the weights."""
        settings = hashlib.blake2b(self.extractor.to_json_string().encode(), digest_size=8).hexdigest()
        return f"speech:{self.layer}:{settings}:{fingerprint(self.encoder)}"

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        """Return the states [frames, dimensions] of the clip, without those of padding."""
        import torch

        samples = audio.load()
        if len(samples) < SHORTEST:
            raise BadInput(
                f"a clip is too short for the speech encoder {self.name!r}",
                given=f"{1000 * len(samples) / RATE:.0f} ms: {audio.describe()}",
                present=f"at least {1000 * SHORTEST // RATE} ms, one frame",
                fix="leave the clip out",
            )
        window = getattr(self.extractor, "n_samples", None)
        if window is not None and len(samples) > window:
            raise BadInput(
                f"a clip is longer than the speech encoder {self.name!r} hears",
                given=f"{len(samples) / RATE:.1f} s: {audio.describe()}",
                present=f"{window / RATE:.0f} s",
                fix="cut the clip (start=, end=), or choose an encoder without a fixed window",
            )
        inputs = self.extractor(samples, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
        mask = inputs.pop("attention_mask", None)
        heard = {key: tensor.to(self.device) for key, tensor in inputs.items()}
        if mask is not None and not mask.all():
            heard["attention_mask"] = mask.to(self.device)
        with torch.inference_mode():
            output = self.encoder(**heard, output_hidden_states=self.layer is not None)
        states = output.last_hidden_state if self.layer is None else self._chosen(output.hidden_states)
        kept = states.shape[1] if mask is None else self._length(mask, states.shape[1])
        frames: NDArray[np.float32] = states[0, :kept].float().cpu().numpy()
        return frames

    def _chosen(self, states: Any) -> Any:
        if self.layer not in range(-len(states), len(states)):
            raise BadInput(
                f"the speech encoder {self.name!r} has no such layer",
                given=f"layer={self.layer}",
                present=f"0 (the input of the first layer) to {len(states) - 1}",
                fix="pass one of those, or None for the last hidden state",
            )
        return states[self.layer]

    def _length(self, mask: Any, n_states: int) -> int:
        """Return how many of the states come from the clip, given the mask [1, features] over the input features."""
        n_features, width = int(mask.sum()), mask.shape[1]
        if n_features == width:
            return n_states
        known = getattr(self.encoder, "_get_feat_extract_output_lengths", None)
        # Encoders that do not tell have a constant stride; a frame that is partly clip counts as clip.
        length = known(mask.sum()) if known is not None else -(-n_features * n_states // width)
        return max(1, min(int(length), n_states))
