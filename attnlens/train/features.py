"""Features of recordings, kept: a clip stands in many episodes, and is decoded and extracted once."""

from __future__ import annotations

from collections import OrderedDict

from attnlens.context.encode import Features, FrontEnd
from attnlens.data.audio import Audio
from attnlens.errors import SelfCheckFailed

__all__ = ["KeptFeatures"]

MOST_BYTES = 2**30


class KeptFeatures:
    """Give a clip's features, from memory where it was heard before; what was used longest ago goes first.

    >>> from attnlens.testing import clip, front_end
    >>> ears, one = KeptFeatures(front_end("qwen3-asr")), clip()
    >>> ears(one) is ears(one)
    True
    """

    def __init__(self, front: FrontEnd, *, most_bytes: int = MOST_BYTES) -> None:
        self.front = front
        self.most_bytes, self.bytes = most_bytes, 0
        self.found: OrderedDict[int, tuple[Audio, Features]] = OrderedDict()

    def __call__(self, audio: Audio) -> Features:
        """Return the features of a clip."""
        key = id(audio)
        if key in self.found:
            self.found.move_to_end(key)
            return self.found[key][1]
        samples = audio.load()
        made = self.front.features(samples)
        if made.positions != self.front.audio_positions(len(samples)):
            raise SelfCheckFailed(
                f"the length rule and the feature extractor disagree about {audio.describe()}",
                fix="report this: spans computed for this model would be wrong",
            )
        # The clip is kept beside: its id must not become another's.
        self.found[key] = audio, made
        self.bytes += _size(made)
        while self.bytes > self.most_bytes and len(self.found) > 1:
            self.bytes -= _size(self.found.popitem(last=False)[1][1])
        return made


def _size(features: Features) -> int:
    return sum(array.nbytes for array in features.arrays.values())
