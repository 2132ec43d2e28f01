"""Acoustic models: a checkpoint's name in, N-best lists out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.beam_lm import BeamLM
from attnlens.asr.ctc import CtcNet
from attnlens.asr.nbest import NBest
from attnlens.asr.prefix_beam import beam_search
from attnlens.asr.vocabulary import Vocabulary
from attnlens.asr.windows import Windows, samples_per_frame
from attnlens.data.audio import RATE, Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput
from attnlens.models.fingerprint import fingerprint
from attnlens.models.memory import asking

if TYPE_CHECKING:
    import torch

__all__ = ["AcousticModel", "CtcModel", "Tick"]

Tick = Callable[[int], None]
"""Told how many utterances are done."""


class AcousticModel(Protocol):
    """Anything that turns utterances into N-best lists: a CTC model, or Whisper."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        ...

    def nbest(self, utterances: Sequence[Utterance], *, n: int = 10, tick: Tick | None = None) -> list[NBest]:
        """Return a list for each utterance, in their order."""
        ...


class CtcModel:
    """A CTC model of transformers: frame log-probabilities, and the beam search over them.

    Parameters
    ----------
    net
        Model, extractor and vocabulary; :func:`attnlens.asr.load_acoustic.load_acoustic` makes it from a name.
    window, overlap
        Seconds. Audio that is longer than a window is read in windows that overlap.
    cache
        A folder where frame log-probabilities are kept, by the content of the clip and the weights of the model.
    """

    def __init__(
        self,
        net: CtcNet,
        *,
        name: str,
        window: float = 30.0,
        overlap: float = 4.0,
        cache: str | Path | None = None,
    ) -> None:
        self.net, self._name = net, name
        self.cache = None if cache is None else ArrayCache(cache)
        self._fingerprint = fingerprint(net.model)
        hop = samples_per_frame(
            lambda samples: net.frames(len(net.features(np.zeros(samples, np.float32), name="a probe")))
        )
        self.windows = Windows.of(size=window, overlap=overlap, hop=hop)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        return self._fingerprint

    @property
    def vocabulary(self) -> Vocabulary:
        """What its outputs write."""
        return self.net.vocabulary

    @property
    def seconds_per_frame(self) -> float:
        """How much time a frame stands for."""
        return self.windows.hop / RATE

    def log_probabilities(
        self, clips: Sequence[Audio], *, batch_size: int = 8, tick: Tick | None = None
    ) -> list[NDArray[np.float32]]:
        """Return log-probabilities [frames, vocabulary] of each clip; the batch changes them by rounding alone."""
        if batch_size < 1:
            raise BadInput("a batch holds at least one clip", given=f"batch_size={batch_size}", fix="pass 1 or more")
        tick = tick or (lambda _done: None)
        # Clips of like length side by side: little is computed on padding.
        order = np.argsort([one.seconds for one in clips], kind="stable").tolist() if clips else []
        found: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            found |= zip(numbers, self._batch([clips[number] for number in numbers]), strict=True)
            tick(len(found))
        return [found[number] for number in range(len(clips))]

    def nbest(
        self,
        utterances: Sequence[Utterance],
        *,
        n: int = 10,
        beam: int | None = None,
        lm: BeamLM | None = None,
        lm_weight: float = 0.5,
        unit_bonus: float = 0.0,
        batch_size: int = 8,
        tick: Tick | None = None,
        frames: Sequence[NDArray[np.float32]] | None = None,
    ) -> list[NBest]:
        """Return the N-best list of each utterance; see :func:`attnlens.asr.prefix_beam.beam_search`.

        ``frames`` are what :meth:`log_probabilities` gave for these clips, when they are searched more than once.
        """
        if frames is None:
            frames = self.log_probabilities([one.audio for one in utterances], batch_size=batch_size)
        lists = []
        for number, (one, heard) in enumerate(zip(utterances, frames, strict=True), start=1):
            found = beam_search(
                heard,
                self.vocabulary,
                n=n,
                beam=beam,
                lm=lm,
                lm_weight=lm_weight,
                unit_bonus=unit_bonus,
                name=one.id,
            )
            lists.append(NBest(one.id, found))
            if tick is not None:
                tick(number)
        return lists

    def _batch(self, clips: Sequence[Audio]) -> list[NDArray[np.float32]]:
        if self.cache is None:
            return self._computed(clips)
        made: dict[int, NDArray[np.float32]] = {}

        def compute(number: int) -> NDArray[np.float32]:
            if number not in made:
                # The first clip that is missing brings the rest of the batch along; what is kept is thrown away.
                rest = range(number, len(clips))
                made.update(zip(rest, self._computed([clips[one] for one in rest]), strict=True))
            return made[number]

        return [
            self.cache.get_or_compute(self._key(clip), lambda number=number: compute(number))  # type: ignore[misc]
            for number, clip in enumerate(clips)
        ]

    def _key(self, clip: Audio) -> str:
        import transformers

        settings = [self._fingerprint, self.net.extractor.to_json_string(), str(self.net.model.dtype)]
        told = "|".join([*settings, str(self.windows), transformers.__version__])
        return f"ctc-frames.v1:{hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}:{clip.digest}"

    def _computed(self, clips: Sequence[Audio]) -> list[NDArray[np.float32]]:
        parts: list[NDArray[np.float32]] = []
        counts: list[int] = []
        for clip in clips:
            samples = clip.load()
            cuts = self.windows.cut(len(samples))
            counts.append(len(cuts))
            parts += [self.net.features(samples[first:last], name=clip.describe()) for first, last in cuts]
        heard = self._heard(parts, most=max(len(clips), 1))
        ends = np.cumsum(counts).tolist()
        return [self.windows.join(heard[end - count : end]) for end, count in zip(ends, counts, strict=True)]

    def _heard(self, parts: Sequence[NDArray[np.float32]], *, most: int) -> list[NDArray[np.float32]]:
        import torch

        heard: list[NDArray[np.float32]] = []
        for group in _groups(parts, most, self.net):
            what = f"{len(group)} windows of up to {max(map(len, group))} rows"
            with torch.inference_mode(), asking(what, fix="pass a smaller batch_size or window"):
                logits, counts = self.net.logits(self.net.padded(group))
                frames: torch.Tensor = torch.log_softmax(logits.float(), -1).cpu()
            heard += [row[:count].numpy().copy() for row, count in zip(frames, counts, strict=True)]
        return heard


def _groups(parts: Sequence[NDArray[np.float32]], most: int, net: CtcNet) -> list[list[Any]]:
    """Return runs of windows that go through the model together."""
    groups: list[list[Any]] = []
    for part in parts:
        last = groups[-1] if groups else []
        if last and len(last) < most and net.together([len(last[0]), len(part)]):
            last.append(part)
        else:
            groups.append([part])
    return groups
