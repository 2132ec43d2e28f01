"""Whisper: recordings one after the other in a window of 30 s for the encoder, their texts as the decoder's prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import DoesNotFit, Encoded, Features
from attnlens.context.pieces import Markup
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Label, Source, Span, SpanMap
from attnlens.data.audio import RATE, Audio
from attnlens.errors import BadInput
from attnlens.models.backend import BaseBackEnd
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd, frames_by_mask
from attnlens.models.tiny import TEXT, byte_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FAMILY", "WhisperBackEnd", "WhisperFrontEnd"]

ENGLISH_ONLY = 51864
"""The vocabulary size by which the English-only models are told apart; they read no language and no task."""
ALL_AUDIO: tuple[Source, ...] = ("demo_audio", "target_audio")


class WhisperFrontEnd(BaseFrontEnd):
    """Lays demonstrations and target end to end in the encoder's window, as far as they fit.

    What does not fit is refused; with ``overflow = "cut"`` it is cut off, as Whisper's own extractor would do, and
    counted in ``Encoded.frames_lost``: it is the target, at the end, that loses its frames first.

    The decoder reads start, language, task and the demonstrations' texts in order. Whisper takes no instructions, so a
    prompt's template is not used. The language token is that of the target where Whisper has one, and is left out
    where it has none: naming another language would be a choice nobody made.
    """

    family: ClassVar[str] = "whisper"
    markup: ClassVar[Markup] = Markup(audio=("", "", ""), begin="<|startoftranscript|>")
    overflow: Literal["refuse", "cut"] = "refuse"

    @property
    def context_length(self) -> int | None:
        """Positions of the decoder."""
        return int(self.config.max_target_positions)

    @property
    def samples_per_frame(self) -> int:
        """Samples from one encoder position to the next: the extractor's hop, halved by a convolution."""
        return int(2 * self.extractor.hop_length)

    def tokenise(self, text: str, *, kind: Literal["markup", "content"]) -> list[int]:
        """Return ids; a text begins with a space, as all that Whisper has learnt to write."""
        spaced = text if kind == "markup" or text.startswith(" ") else f" {text}"
        return super().tokenise(spaced, kind=kind)

    def audio_positions(self, samples: int) -> int:
        """Return how many encoder positions begin within a clip; alone it must fit into the window."""
        self.refuse_longer(samples, self.extractor.n_samples)
        return -(-samples // self.samples_per_frame)

    def features(self, samples: NDArray[np.float32]) -> Features:
        """Return log-mel features [1, mels, 3000] of samples padded to the window; ``positions`` are those heard."""
        mel, _ = frames_by_mask(self.extractor, samples, padding="max_length")
        return Features({"input_features": mel}, self.audio_positions(len(samples)))

    def encode(self, prompt: Prompt, *, output: str | None = None) -> Encoded:
        """Return the decoder's ids with a label on each, and labels of the encoder's positions beside them."""
        lengths: list[tuple[Label, int]] = []
        ids: list[int] = []
        for text, kind, label in self._texts(prompt, output):
            new = self.tokenise(text, kind=kind)
            ids += new
            lengths.append((label, len(new)))
        clips = [(label, audio, audio.load()) for label, audio in _clips(prompt)]
        samples = np.concatenate([one for _, _, one in clips])
        room = int(self.extractor.n_samples)
        if len(samples) > room and self.overflow == "refuse":
            raise DoesNotFit(
                f"the recordings of the prompt for {prompt.target.id!r} are longer together than Whisper's window",
                given=f"{len(samples) / RATE:.2f} s in {len(clips)} clips",
                present=f"{room / RATE:.0f} s; Whisper would cut the rest off",
                fix="lower the shots, or choose shorter demonstrations",
            )
        heard = [(label, len(one), audio.seconds) for label, audio, one in clips]
        due = self._frames(heard, room=len(samples))
        kept = self._frames(heard, room=room)
        lost = tuple(_held(due, sources) - _held(kept, sources) for sources in (ALL_AUDIO, ALL_AUDIO[1:]))
        return Encoded(
            prompt,
            np.asarray(ids, dtype=np.int64),
            SpanMap.of(lengths),
            (self.features(samples[:room]),),
            encoder_spans=kept,
            frames_lost=(lost[0], lost[1]),
        )

    def _texts(self, prompt: Prompt, output: str | None) -> Iterator[tuple[str, Literal["markup", "content"], Label]]:
        yield self.markup.begin, "markup", Label("other")
        if self.config.vocab_size != ENGLISH_ONLY:
            language = f"<|{prompt.target.language}|>"
            if language in self.tokenizer.get_vocab():
                yield language, "markup", Label("task")
            yield "<|transcribe|>", "markup", Label("task")
        yield "<|notimestamps|>", "markup", Label("task")
        for index, demo in enumerate(prompt.demonstrations):
            if demo.text is not None:
                yield demo.text, "content", Label("demo", "text", index)
        if output is not None:
            yield output, "content", Label("output")

    def _frames(self, heard: Sequence[tuple[Label, int, float]], *, room: int) -> SpanMap:
        """Label the encoder's positions: each belongs to the clip in which it begins, silence to nobody."""
        spans: list[Span] = []
        ends = np.cumsum([samples for _, samples, _ in heard])
        place = 0
        for (label, _, seconds), end in zip(heard, ends, strict=True):
            stop = -(-min(int(end), room) // self.samples_per_frame)
            if stop == place and int(end) <= room:
                raise BadInput(f"a clip is shorter than one position of {self.family}", given=f"{seconds} s of {label}")
            if stop > place:
                spans.append(Span(label, place, stop, seconds))
            place = stop
        if place < self.config.max_source_positions:
            spans.append(Span(Label("other"), place, self.config.max_source_positions))
        return SpanMap(tuple(spans))

    def _audio_token_id(self) -> int:
        return -1  # No position of the decoder holds audio.


def _held(spans: SpanMap, sources: Sequence[Source]) -> int:
    return sum(len(spans.positions(source)) for source in sources)


def _clips(prompt: Prompt) -> Iterator[tuple[Label, Audio]]:
    if prompt.target.audio is None:
        raise BadInput(
            "Whisper reads no prompt without a target recording",
            given=f"the condition {prompt.condition!r}",
            fix="choose a condition with target audio, or another model",
        )
    for index, demo in enumerate(prompt.demonstrations):
        if demo.audio is not None:
            yield Label("demo", "audio", index), demo.audio
    yield Label("target", "audio"), prompt.target.audio


class WhisperBackEnd(BaseBackEnd):
    """An encoder that runs with every forward pass, and a decoder that looks at it layer by layer."""

    model_class: ClassVar[str] = "WhisperForConditionalGeneration"
    decoder_path: ClassVar[str] = "model.decoder"
    encoder_path: ClassVar[str] = "model.encoder"
    projector_paths: ClassVar[tuple[str, ...]] = ()
    unembedding_name: ClassVar[str] = "proj_out"
    projection_name: ClassVar[str] = "out_proj"
    mlp_name: ClassVar[str] = "fc2"

    @property
    def n_heads(self) -> int:
        """Heads of the decoder's layers."""
        return int(self.model.config.decoder_attention_heads)

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm between the last layer and the unembedding."""
        return self.decoder.layer_norm

    @property
    def cross_attention(self) -> Sequence[nn.Module]:
        """Attention from the decoder to the encoder."""
        return [layer.encoder_attn for layer in self.decoder.layers]

    @property
    def encoder_attention(self) -> Sequence[nn.Module]:
        """Attention inside the encoder."""
        return [layer.self_attn for layer in self.model.model.encoder.layers]

    def inputs(self, encoded: Sequence[Encoded]) -> dict[str, Tensor]:
        """Return the windows [prompts, mels, 3000] and the decoder's ids, mask and positions, padded on the left."""
        import torch

        windows = np.concatenate([one.features[0].arrays["input_features"] for one in encoded])
        longest = max(len(one.ids) for one in encoded)
        ids = np.full((len(encoded), longest), self.front.tokenizer.pad_token_id)
        mask = np.zeros_like(ids)
        for index, one in enumerate(encoded):
            ids[index, longest - len(one.ids) :] = one.ids
            mask[index, longest - len(one.ids) :] = 1
        device = self.model.device
        return {
            "input_features": torch.as_tensor(windows, device=device, dtype=self.model.dtype),
            "decoder_input_ids": torch.as_tensor(ids, device=device),
            "decoder_attention_mask": torch.as_tensor(mask, device=device),
            "decoder_position_ids": torch.as_tensor((mask.cumsum(-1) - 1).clip(0), device=device),
        }

    def extended(self, inputs: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
        """Return the inputs of one prompt with token ids [tokens] after them."""
        import torch

        last = inputs["decoder_position_ids"][:, -1:]
        added = {
            "decoder_input_ids": ids[None],
            "decoder_attention_mask": torch.ones_like(ids)[None],
            "decoder_position_ids": last + 1 + torch.arange(len(ids)).to(last),
        }
        return {
            name: torch.cat([value, added[name]], dim=1) if name in added else value for name, value in inputs.items()
        }

    def new_tokens(self, inputs: dict[str, Tensor], made: Tensor) -> list[int]:
        """Return what follows the decoder's prefix."""
        return made[0, inputs["decoder_input_ids"].shape[1] :].tolist()

    def read(self, inputs: dict[str, Any]) -> Any:
        """Run one forward pass that returns ``last_hidden_state`` and ``past_key_values``."""
        return self.model.base_model(**inputs, use_cache=True)

    def after(self, ids: Tensor, *, mask: Tensor | dict[str, Tensor], positions: Tensor, cache: Any) -> dict[str, Any]:
        """Return what :meth:`read` takes for token ids [tokens] that follow a cached prompt."""
        # The encoder's keys and values lie in the cache; its states only have to be there, not to be anything.
        heard = self.decoder.embed_tokens.weight.new_empty(1, 0, self.model.config.d_model)
        return {
            "encoder_outputs": (heard,),
            "decoder_input_ids": ids[None],
            "decoder_attention_mask": mask,
            "decoder_position_ids": positions,
            "past_key_values": cache,
        }

    def unembed(self, hidden: Tensor) -> Tensor:
        """Return the logits [..., vocabulary] of hidden states [..., hidden]."""
        return self.unembedding(hidden)


def tiny() -> tuple[Any, Any, Any]:
    """Return tokenizer, extractor and configuration of a tiny random model."""
    from transformers import WhisperConfig, WhisperFeatureExtractor

    tokenizer = byte_tokenizer(["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"])
    config = WhisperConfig(
        vocab_size=TEXT["vocab_size"],
        num_mel_bins=80,
        d_model=TEXT["hidden_size"],
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_layers=TEXT["num_hidden_layers"],
        decoder_attention_heads=TEXT["num_attention_heads"],
        decoder_ffn_dim=TEXT["intermediate_size"],
        pad_token_id=TEXT["pad_token_id"],
        bos_token_id=TEXT["bos_token_id"],
        eos_token_id=TEXT["eos_token_id"],
        decoder_start_token_id=tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return tokenizer, WhisperFeatureExtractor(feature_size=80), config


FAMILY = Family(name="whisper", model_types=("whisper",), front_end=WhisperFrontEnd, back_end=WhisperBackEnd, tiny=tiny)
