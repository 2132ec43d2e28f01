"""Recordings that stand in many prompts are heard once: what is made of a clip depends on that clip alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.context.encode import Features, FrontEnd, encode, hear
from attnlens.data.audio import Audio
from attnlens.models.backend import BaseBackEnd

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["reusing_clips"]

MOST_BYTES = 256 * 2**20


class _Kept:
    """What was made of clips, by what they are; what was used longest ago is dropped first."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self.found: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def heard(self, audio: Audio, front: FrontEnd) -> Features:
        """Return the features of a clip."""
        return self._get(_name(audio), lambda: _sized(hear(audio, front)))

    def embedded(self, back: BaseBackEnd, arrays: dict[str, Tensor]) -> Tensor:
        """Return the embeddings of a clip's features."""

        def make() -> tuple[Tensor, int]:
            made = type(back).embed_clip(back, arrays).detach()
            return made, made.nbytes

        return self._get(_key(arrays), make)

    def _get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        if key in self.found:
            self.found.move_to_end(key)
            return self.found[key][0]
        self.found[key] = made, size = make()
        self.bytes += size
        while self.bytes > self.most_bytes and len(self.found) > 1:
            self.bytes -= self.found.popitem(last=False)[1][1]
        return made


@contextmanager
def reusing_clips(lens: SpeechLM, *, most_bytes: int = MOST_BYTES) -> Iterator[None]:
    """Decode, extract and encode each recording once while inside, however many prompts it stands in.

    Exact: clips are heard one at a time anyway, and what is kept for the next time are the very numbers. Embeddings of
    families whose encoder runs with every forward pass (Whisper) are left as they are. Training inside would train on
    stale embeddings; don't.

    Parameters
    ----------
    most_bytes
        How much is kept; what was used longest ago goes first.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens = load("tiny:qwen3-asr")
    >>> plain = lens.inputs(lens.encode(probe()))["inputs_embeds"]
    >>> with reusing_clips(lens):
    ...     again = [lens.inputs(lens.encode(probe()))["inputs_embeds"] for _ in range(2)]
    >>> all(bool((one == plain).all()) for one in again)
    True
    """
    back: Any = lens.back
    if "embed_clip" in vars(back):
        yield  # inside another of these
        return
    kept = lens.__dict__.setdefault("_kept_clips", _Kept(most_bytes))
    kept.most_bytes = most_bytes
    back.embed_clip = lambda arrays: kept.embedded(back, arrays)
    ears = type(back).encode is BaseBackEnd.encode and getattr(back.front, "encode", None) is None
    if ears:
        back.encode = lambda prompt, output: encode(
            prompt, back.front, output=output, ears=lambda audio: kept.heard(audio, back.front)
        )
    try:
        yield
    finally:
        del back.embed_clip
        if ears:
            del back.encode


def _name(audio: Audio) -> Hashable:
    """Return the clip with its file's state: a recording that was replaced is another one."""
    if not isinstance(audio.source, Path):
        return audio
    there = audio.source.stat()
    return audio, there.st_mtime_ns, there.st_size


def _sized(features: Features) -> tuple[Features, int]:
    return features, sum(array.nbytes for array in features.arrays.values())


def _key(arrays: dict[str, Tensor]) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(arrays.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return content.digest()
