"""Recordings that stand in many prompts are encoded once: what the audio encoder made of a clip depends on it alone."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attnlens.models.backend import BaseBackEnd

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["reusing_clips"]

MOST_BYTES = 256 * 2**20


class _Kept:
    """Embeddings by the content of the features they were made of, the least recently used dropped first."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self.found: OrderedDict[bytes, Tensor] = OrderedDict()

    def get(self, back: BaseBackEnd, arrays: dict[str, Tensor]) -> Tensor:
        key = _key(arrays)
        if key in self.found:
            self.found.move_to_end(key)
            return self.found[key]
        made = type(back).embed_clip(back, arrays).detach()
        self.found[key] = made
        self.bytes += made.nbytes
        while self.bytes > self.most_bytes and len(self.found) > 1:
            self.bytes -= self.found.popitem(last=False)[1].nbytes
        return made


@contextmanager
def reusing_clips(lens: SpeechLM, *, most_bytes: int = MOST_BYTES) -> Iterator[None]:
    """Encode each recording once while inside, however many prompts it stands in, and keep it for the next time.

    Exact: clips are encoded one at a time anyway, and what is kept are the very numbers. Families whose encoder runs
    with every forward pass (Whisper) are left as they are. Training inside would train on stale embeddings; don't.

    Parameters
    ----------
    most_bytes
        How much is kept on the device; what was used longest ago goes first.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens = load("tiny:qwen3-asr")
    >>> encoded = lens.encode(probe())
    >>> plain = lens.inputs(encoded)["inputs_embeds"]
    >>> with reusing_clips(lens):
    ...     again = [lens.inputs(encoded)["inputs_embeds"] for _ in range(2)]
    >>> all(bool((one == plain).all()) for one in again)
    True
    """
    back: Any = lens.back
    if "embed_clip" in vars(back):
        yield  # inside another of these
        return
    kept = lens.__dict__.setdefault("_kept_clips", _Kept(most_bytes))
    kept.most_bytes = most_bytes
    back.embed_clip = lambda arrays: kept.get(back, arrays)
    try:
        yield
    finally:
        del back.embed_clip


def _key(arrays: dict[str, Tensor]) -> bytes:
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(arrays.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return content.digest()
