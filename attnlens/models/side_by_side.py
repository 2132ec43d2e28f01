"""Prompts that are read already, read on together: one cache, padded on the left, so that all go on from one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnlens.context.encode import Encoded
from attnlens.errors import BadInput
from attnlens.models.library import Reading, twin
from attnlens.models.memory import asking

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["SideBySide", "stackable"]


def stackable(reading: Reading) -> bool:
    """Return whether a reading's cache can stand beside others: every layer holds all positions."""
    return all(type(layer).__name__ == "DynamicLayer" for layer in reading.cache.layers)


@dataclass(frozen=True)
class SideBySide:
    """Readings whose caches are padded on the left to the longest, the padding hidden; one alone is not padded.

    Position ``p`` of a prompt stands at ``p + shift`` here: every prompt's last position, from which all are read on,
    at ``longest``. That moves the last digits of what is computed, as any batch does.

    >>> from attnlens.models.library import Library
    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens = load("tiny:qwen3-asr")
    >>> library, prompts = Library(lens), [probe(shots=1), probe(shots=2)]
    >>> both = SideBySide.of([library.read(lens.encode(prompt, "kuna")) for prompt in prompts])
    >>> both.shifts[0] > both.shifts[1] == 0
    True
    >>> lens.trace(prompts, outputs=["kuna", "kuna"], readings=both).sizes["item"]
    2
    """

    readings: tuple[Reading, ...]
    cache: Any

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> SideBySide:
        """Copy the caches into one; refused where layers keep less than all positions."""
        import torch

        if not readings:
            raise BadInput("there is nothing to read on", given="no readings", fix="pass at least one")
        cache = twin(readings[0].cache)
        if len(readings) == 1:
            return cls(tuple(readings), cache)
        if not all(stackable(one) for one in readings):
            raise BadInput(
                "layers that keep a window of keys cannot stand side by side",
                given=", ".join(sorted({type(layer).__name__ for layer in cache.layers})),
                fix="read on one by one",
            )
        longest = max(one.start for one in readings)
        with asking(f"joining {len(readings)} prompts of up to {longest} positions", fix="lower decoding.batch"):
            for place, layer in enumerate(cache.layers):
                for name in ("keys", "values"):
                    parts: list[Tensor] = [getattr(one.cache.layers[place], name) for one in readings]
                    padded = [torch.nn.functional.pad(part, (0, 0, longest - part.shape[-2], 0)) for part in parts]
                    setattr(layer, name, torch.cat(padded))
        return cls(tuple(readings), cache)

    @property
    def lens(self) -> SpeechLM:
        """The model that read them."""
        return self.readings[0].lens

    @property
    def prompts(self) -> list[Encoded]:
        """What is read, answers included."""
        return [one.encoded for one in self.readings]

    @property
    def longest(self) -> int:
        """How many positions of the longest prompt are read."""
        return max(one.start for one in self.readings)

    @property
    def shifts(self) -> list[int]:
        """How far each prompt stands from where it would stand alone."""
        return [self.longest - one.start for one in self.readings]

    def mask(self) -> Tensor:
        """Return which cached positions are a prompt's own, int64 [prompts, longest]."""
        import torch

        device = self.lens.device
        shifts = torch.tensor(self.shifts, device=device)
        return (torch.arange(self.longest, device=device)[None] >= shifts[:, None]).to(torch.long)

    def logits(self, *, keep: Tensor, dtype: torch.dtype) -> Tensor:
        """Read all on to their ends and return logits [prompts, kept, vocabulary] of shifted positions [kept].

        Shorter answers are padded on the right; what stands there means nothing.
        """
        import torch

        back = self.lens.back
        rests = [_rest(one) for one in self.readings]
        rows = max(embeds.shape[1] for embeds, _, _ in rests)
        pad = torch.nn.functional.pad
        embeds = torch.cat([pad(embeds, (0, 0, 0, rows - embeds.shape[1])) for embeds, _, _ in rests])
        own = torch.cat([pad(mask, (0, rows - mask.shape[1])) for _, mask, _ in rests])
        at = torch.cat([pad(positions, (0, rows - positions.shape[-1])) for _, _, positions in rests], dim=-2)
        what = f"reading {rows} positions after {self.longest}, {len(rests)} prompts at once"
        with asking(what, fix="lower decoding.batch or the shots"), torch.no_grad():
            hidden = back.model.base_model(
                inputs_embeds=embeds,
                attention_mask=torch.cat([self.mask(), own], dim=1),
                position_ids=at,
                past_key_values=twin(self.cache),
                use_cache=True,
            ).last_hidden_state
            return (back.unembedding(hidden[:, (keep - self.longest).to(hidden.device)]) * back.logit_scale).to(dtype)


def _rest(reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, mask and positions of what a reading leaves to be read."""
    inputs, start = reading.inputs, reading.start
    return inputs["inputs_embeds"][:, start:], inputs["attention_mask"][:, start:], inputs["position_ids"][..., start:]
