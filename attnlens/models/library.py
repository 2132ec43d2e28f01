"""Prompts that begin alike are read once: cached keys and values of their beginnings, cut at fixed places."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.models.backend import BaseBackEnd
from attnlens.models.interventions import edits_for
from attnlens.models.memory import asking
from attnlens.models.prefix import PLAIN_LAYERS

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["Library", "Reading", "twin"]

MOST_BYTES = 256 * 2**20
FEWEST = 4
"""Beginnings that are kept whatever they take: those of one target's prompts are read one after another."""
INPUTS = {"inputs_embeds", "attention_mask", "position_ids"}


@dataclass(frozen=True)
class Reading:
    """A prompt that is read up to its last position: what comes after it starts from ``cache``.

    ``start`` is the position that is read next, the one that predicts the answer's first token; ``inputs`` are those of
    prompt and answer together.
    """

    lens: SpeechLM
    encoded: Encoded
    inputs: dict[str, Tensor]
    start: int
    cache: Any


class Library:
    """Keep what was read of the last prompts, and go on from the longest beginning that a new one shares.

    A prompt is read in parts that end where so many demonstrations end, so that a part has the same numbers whatever
    was read before it, and a result does not depend on what the library happened to hold.

    Parameters
    ----------
    cuts
        After how many demonstrations a part ends: the shots of the prompts to come.
    reserve
        How many tokens an answer may have that is written after a reading. Where a family's cache has a border, what
        could cross it is not read here.
    most_bytes
        How much is kept on the device; what was used longest ago goes first.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens = load("tiny:qwen3-asr")
    >>> library = Library(lens, cuts=[1, 2])
    >>> short, long = (library.read(lens.encode(probe(shots=shots), "kuna")) for shots in (1, 2))
    >>> library.read_positions < short.start + long.start
    True
    """

    def __init__(
        self, lens: SpeechLM, *, cuts: Collection[int] = (), reserve: int = 0, most_bytes: int = MOST_BYTES
    ) -> None:
        self.lens = lens
        self.cuts = frozenset(cuts)
        self.reserve = reserve
        self.most_bytes = most_bytes
        self.read_positions = 0
        """How many positions went through the model."""
        self._kept: OrderedDict[bytes, Any] = OrderedDict()
        self._bytes = 0

    @cached_property
    def possible(self) -> bool:
        """Whether this family reads embeddings through a decoder whose cache is plain keys and values."""
        back = type(self.lens.back)
        return back.inputs is BaseBackEnd.inputs and back.logits is BaseBackEnd.logits

    def read(self, encoded: Encoded) -> Reading | None:
        """Read a prompt with its answer up to the prompt's last position, or return None where that cannot be shared.

        Under an intervention nothing is shared: what is cut may lie in the part that others would go on from.
        """
        if not self.possible or edits_for(self.lens, encoded):
            return None
        inputs = self.lens.inputs(encoded)
        if set(inputs) != INPUTS:
            return None
        start = int(encoded.spans.positions("output")[0]) - 1
        border = self.lens.cache_border
        if border is not None and max(len(encoded.ids), start + 1 + self.reserve) > border:
            return None
        ends = self._ends(encoded, start)
        keys = self._names(encoded, ends)
        known = next((place for place in reversed(range(len(ends))) if keys[place] in self._kept), None)
        begin, cache = (0, None) if known is None else (ends[known], self._kept[keys[known]])
        for key in keys[: 0 if known is None else known + 1]:
            if key in self._kept:
                self._kept.move_to_end(key)
        for place in range(0 if known is None else known + 1, len(ends)):
            cache = self._read_on(inputs, begin, ends[place], cache)
            if not all(type(layer).__name__ in PLAIN_LAYERS for layer in cache.layers):
                self.possible = False
                return None
            self._keep(keys[place], cache)
            begin = ends[place]
        return Reading(self.lens, encoded, inputs, start, cache)

    def _read_on(self, inputs: dict[str, Tensor], begin: int, end: int, cache: Any) -> Any:
        import torch

        part = _part(inputs, begin, end)
        self.read_positions += end - begin
        fix = "lower the shots, or pass dtype='bfloat16' to load"
        with asking(f"reading {end - begin} positions after {begin}", fix=fix), torch.no_grad():
            past = {} if cache is None else {"past_key_values": twin(cache)}
            return self.lens.back.model.base_model(**part, **past, use_cache=True).past_key_values

    def _ends(self, encoded: Encoded, start: int) -> list[int]:
        """Return where parts end: behind as many demonstrations as a cut says, and before the last position."""
        last: dict[int, int] = {}
        for span in encoded.spans:
            if span.label.demo is not None:
                last[span.label.demo] = span.stop
        inner = {stop for demo, stop in last.items() if demo + 1 in self.cuts and 0 < stop < start}
        return [*sorted(inner), start] if start else []

    def _names(self, encoded: Encoded, ends: list[int]) -> list[bytes]:
        """Return what each beginning is known by: its tokens and the recordings in it."""
        content = hashlib.blake2b(digest_size=16)
        audio = np.flatnonzero(encoded.ids == self.lens.front.audio_token_id)
        names, begin, clip, filled = [], 0, 0, 0
        for end in ends:
            content.update(np.ascontiguousarray(encoded.ids[begin:end]).tobytes())
            upto = int(np.searchsorted(audio, end))
            while clip < len(encoded.features) and filled < upto:
                for name, array in sorted(encoded.features[clip].arrays.items()):
                    content.update(f"{name} {array.shape} {array.dtype}".encode())
                    content.update(np.ascontiguousarray(array).tobytes())
                filled += encoded.features[clip].positions
                clip += 1
            names.append(content.copy().digest())
            begin = end
        return names

    def _keep(self, key: bytes, cache: Any) -> None:
        self._kept[key] = cache
        self._bytes += _size(cache)
        while self._bytes > self.most_bytes and len(self._kept) > FEWEST:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def _part(inputs: dict[str, Tensor], begin: int, end: int) -> dict[str, Tensor]:
    """Return the inputs of some positions of one prompt that follow cached ones."""
    return {
        "inputs_embeds": inputs["inputs_embeds"][:, begin:end],
        "attention_mask": inputs["attention_mask"][:, :end],
        "position_ids": inputs["position_ids"][..., begin:end],
    }


def twin(cache: Any) -> Any:
    """Return a cache that grows by itself: layers join new keys to their tensors and never write into them."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def _size(cache: Any) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.keys is not None)
