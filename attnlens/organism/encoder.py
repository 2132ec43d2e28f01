"""The second stage: the audio encoder learns which sound is said where, from the times that the synthesiser gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.organism.body import ORDINALS, WORDS, make_size, write_parts
from attnlens.organism.hearing import encode_clips
from attnlens.organism.labels import OFFSETS, frame_labels
from attnlens.organism.lessons import side_by_side
from attnlens.organism.model import make_front_end, make_model
from attnlens.organism.phones import MARKS, PHONES
from attnlens.organism.pool import Pool, read_pool

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EncoderRecipe"]


class EncoderRecipe:
    """Train audio tower and the projector's first half on the sounds of positions, with places in word and phrase.

    Parameters
    ----------
    pool, dev_pool
        Folders of pools.
    places
        The weight of the losses on the place in the word and the word's number.
    augment
        Whether clips are changed as other throats and rooms would change them.
    """

    metric: ClassVar[str] = "phone"
    better: ClassVar[Literal["lower", "higher"]] = "higher"
    ahead: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        pool: str,
        dev_pool: str,
        size: dict[str, int] | None = None,
        batch_size: int = 64,
        places: float = 0.5,
        augment: Literal["on", "off"] = "on",
        dev_clips: int = 400,
    ) -> None:
        import torch

        self.size = make_size(size)
        self.pool, self.dev_pool = read_pool(pool), read_pool(dev_pool)
        model = make_model(make_front_end(self.size), seed=seed).model
        width = self.size.encoder_width
        heads = [torch.nn.Linear(width, len(PHONES)) for _ in OFFSETS]
        heads += [torch.nn.Linear(width, count) for count in (MARKS, ORDINALS, WORDS)]
        self.parts = torch.nn.ModuleDict(
            {
                "tower": model.audio_tower,
                "first": model.multi_modal_projector.linear_1,
                "heads": torch.nn.ModuleList(heads),
            }
        )
        self.batch_size, self.places, self.dev_clips = batch_size, places, dev_clips
        self.augment: Literal["on", "off"] = augment
        frames = np.diff(self.pool.frame_start)
        # Clips of like length side by side: little is computed on padding.
        self.order = np.argsort(frames, kind="stable")

    @property
    def module(self) -> nn.Module:
        """Tower, projection and heads."""
        return self.parts

    def batch(self, rng: np.random.Generator) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Draw clips around a drawn length."""
        near = min(len(self.order), 8 * self.batch_size)
        start = int(rng.integers(0, len(self.order) - near + 1))
        chosen = self.order[start + rng.integers(0, near, self.batch_size)]
        return self._clips(self.pool, chosen.tolist())

    def loss(self, batch: tuple[dict[str, NDArray[Any]], NDArray[np.int64]]) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropies over positions."""
        from torch.nn import functional

        logits, labels = self._logits(batch, augment=self.augment)
        phones = [
            functional.cross_entropy(one.float(), label) for one, label in zip(logits[:3], labels[:3], strict=True)
        ]
        places = [
            functional.cross_entropy(one.float(), label) for one, label in zip(logits[3:], labels[3:], strict=True)
        ]
        middle = len(OFFSETS) // 2
        right = float((logits[middle].argmax(-1) == labels[middle]).float().mean())
        return sum(phones[1:], phones[0]) + self.places * sum(places[1:], places[0]), {"phone": right}

    def evaluate(self) -> dict[str, float]:
        """Measure the share of positions whose sound is named rightly, in unseen voices, and per variant."""
        numbers = list(range(min(self.dev_clips, len(self.dev_pool))))
        shares = self.shares(self.dev_pool, numbers)
        voices = [self.dev_pool.voices[self.dev_pool.voice[number]].partition("+")[2] for number in numbers]
        means = {
            f"phone_{voice}": float(np.mean([share for share, one in zip(shares, voices, strict=True) if one == voice]))
            for voice in sorted(set(voices))
        }
        return {"phone": float(np.mean(shares)), **means}

    def shares(self, pool: Pool, numbers: list[int]) -> list[float]:
        """Return the share of each clip's positions whose sound is named rightly."""
        found: list[float] = []
        for start in range(0, len(numbers), self.batch_size):
            part = numbers[start : start + self.batch_size]
            logits, labels = self._logits(self._clips(pool, part), augment="off")
            middle = len(OFFSETS) // 2
            hits = (logits[middle].argmax(-1) == labels[middle]).float().cpu().numpy()
            ends = np.cumsum([pool.features(number).positions for number in part])
            found += [float(one.mean()) for one in np.split(hits, ends[:-1])]
        return found

    def export(self, folder: Path) -> None:
        """Hand tower and projection to the next stage."""
        write_parts(self.parts, self.size, folder)

    def _clips(self, pool: Pool, numbers: list[int]) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        clips = side_by_side([pool.features(number) for number in numbers])
        return clips, np.concatenate([frame_labels(pool, number) for number in numbers], axis=1)

    def _logits(
        self, batch: tuple[dict[str, NDArray[Any]], NDArray[np.int64]], *, augment: Literal["on", "off"]
    ) -> tuple[list[Tensor], Tensor]:
        import torch
        from torch.nn import functional

        parts: Any = self.parts
        device = parts["first"].weight.device
        mel = torch.as_tensor(batch[0]["input_features"], device=device)
        mask = torch.as_tensor(batch[0]["input_features_mask"], device=device)
        states = encode_clips(parts["tower"], mel, mask, augment=augment)
        hidden = functional.gelu(parts["first"](states))
        return [head(hidden) for head in parts["heads"]], torch.as_tensor(batch[1], device=device)
