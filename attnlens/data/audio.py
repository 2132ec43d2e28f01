"""Audio as every later room hears it: 16 kHz, mono, float32, read only when asked for."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.data.decode import Encoded, UndecodableAudio, check_rate, opened, read
from attnlens.data.edits import EDITS
from attnlens.errors import BadInput

__all__ = ["RATE", "TOLERANCE", "Audio", "AudioBytes", "AudioEdit", "Samples", "digest_of"]

RATE = 16_000
"""Samples per second after decoding; every speech model attnlens wraps resamples from here if it wants another rate."""
TOLERANCE = 0.05
"""Seconds by which ``end`` may lie beyond the end of a recording: segment times are often rounded up."""


@dataclass(frozen=True)
class Samples:
    """An array that can sit inside hashable plain data: equal when its content, dtype and shape are equal.

    ``array`` is [samples] or [samples, channels]: floats are taken as they are; int8, int16, int32 and (around 128)
    uint8 are scaled to [-1, 1). Wider integers are refused, since they mostly hold narrower samples.

    >>> Samples(np.zeros(4, np.int16)) == Samples(np.zeros(4, np.int16)), Samples(np.zeros(4)) == Samples(np.ones(4))
    (True, False)
    """

    array: NDArray[Any] = field(compare=False, repr=False)
    rate: int = RATE
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        frozen = np.array(self.array)
        shape = f"{frozen.dtype} {list(frozen.shape)}"
        if frozen.dtype.kind != "f" and frozen.dtype.name not in ("int8", "int16", "int32", "uint8"):
            fix = "convert to a float dtype in [-1, 1], or to int16"
            raise BadInput("these are not audio samples", given=shape, fix=fix)
        if frozen.ndim not in (1, 2) or (frozen.ndim == 2 and frozen.shape[1] > frozen.shape[0] > 0):  # noqa: PLR2004
            fix = "pass [samples] or [samples, channels] (array.T of what torchaudio returns)"
            raise BadInput("audio samples have one or two axes, time first", given=shape, fix=fix)
        if frozen.size == 0:
            raise BadInput("the array holds no samples", given=shape, fix="leave the clip out")
        check_rate(self.rate, "the array")
        frozen.setflags(write=False)
        object.__setattr__(self, "array", frozen)
        object.__setattr__(self, "digest", _hash(shape.encode() + frozen.tobytes()))


@dataclass(frozen=True)
class AudioBytes:
    """The content of an audio file, as data sets hand it over; equal when its content is equal."""

    data: bytes = field(compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", bytes(self.data))
        object.__setattr__(self, "digest", _hash(self.data))


@dataclass(frozen=True)
class AudioEdit:
    """A named, seeded change of a clip, applied after decoding; names are those of ``attnlens.data.edits.EDITS``."""

    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise BadInput("a seed is not negative", given=f"seed={self.seed}", fix="pass 0 or more")


@dataclass(frozen=True)
class Audio:
    """One clip: where it is, which part of it, and what was done to it. Decoded by :meth:`load`, not before.

    Plain data: hashable, printable, comparable, cheap to keep by the million. ``start`` and ``end`` are seconds into
    the source; None is its start or end. Impossible numbers are refused here, a bad or truncated file when it is first
    read.

    >>> tone = Audio.from_array(np.sin(np.arange(8000) / 10), rate=8000)
    >>> tone.load().shape, tone.load().dtype.name
    ((16000,), 'float32')
    >>> reverse = tone.edited("reverse")
    >>> bool(np.array_equal(reverse.load(), tone.load()[::-1]))
    True
    """

    source: Path | AudioBytes | Samples
    start: float | None = None
    end: float | None = None
    edits: tuple[AudioEdit, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", _checked_source(self.source))
        start, end = self.start or 0.0, math.inf if self.end is None else self.end
        if not 0 <= start < end or math.isinf(start):
            given, fix = f"start={self.start}, end={self.end}", "pass seconds with 0 <= start < end, or None"
            raise BadInput(f"{_source_name(self.source)} is cut at impossible times", given=given, fix=fix)

    @classmethod
    def from_array(cls, array: NDArray[Any], *, rate: int = RATE) -> Audio:
        """Wrap samples [samples] or [samples, channels] that are already in memory."""
        return cls(Samples(array, rate))

    @classmethod
    def from_bytes(cls, data: bytes) -> Audio:
        """Wrap the content of an audio file, in any format that :meth:`load` reads; nothing is decoded.

        >>> Audio.from_bytes(b"RIFF....").describe()
        'bytes ccb865a8dc85'
        """
        return cls(AudioBytes(data))

    def edited(self, name: str, *, seed: int = 0) -> Audio:
        """Return this clip with one more named edit; nothing is decoded."""
        EDITS.require(name)
        return replace(self, edits=(*self.edits, AudioEdit(name, seed)))

    def load(self) -> NDArray[np.float32]:
        """Decode to what a model hears: float32 [samples] at 16 kHz, the mean of all channels, cut, then edited.

        WAV, FLAC, OGG (Vorbis and Opus), MP3 and what else libsndfile knows, whatever the file is called; only in these
        four is a cut-off end sure to be seen. The cut is exact to the sample of the source and reads only what it
        needs, except for MP3, which is decoded from its beginning: turn long MP3 recordings into FLAC before cutting
        many clips out of them. The array is new and writable.
        """
        mono, rate = self._mono()
        if not np.isfinite(mono).all():
            first = int(np.flatnonzero(~np.isfinite(mono))[0])
            given, fix = f"{mono[first]} {first / rate:.2f} s into the clip", "make it anew or leave the clip out"
            message = f"{self.describe()} holds samples that are not numbers"
            raise UndecodableAudio(message, problem="nan-audio", given=given, fix=fix)
        if rate != RATE:
            import soxr

            mono = soxr.resample(mono, rate, RATE, quality="HQ")
        if len(mono) == 0:
            message = f"{self.describe()} is shorter than one sample at {RATE} Hz"
            raise UndecodableAudio(message, problem="empty-audio", fix="leave the clip out")
        samples = np.ascontiguousarray(mono, dtype=np.float32)
        for edit in self.edits:
            length, samples = len(samples), EDITS[edit.name](samples, edit.seed)
            if samples.shape != (length,) or samples.dtype != np.float32:
                given, fix = f"{samples.dtype} {list(samples.shape)}", f"return {length} float32 samples, as came in"
                raise BadInput(f"the audio edit {edit.name!r} does not keep length and dtype", given=given, fix=fix)
        return samples

    @functools.cached_property
    def seconds(self) -> float:
        """Duration of the clip, from the header: nothing is decoded. Remembered by this object."""
        if isinstance(self.source, Samples):
            rate, frames = self.source.rate, len(self.source.array)
        else:
            with opened(_encoded(self.source), name=_source_name(self.source)) as (sound, frames):
                rate = sound.samplerate
        first, last = self._cut(frames, rate)
        return (last - first) / rate

    @functools.cached_property
    def digest(self) -> str:
        """Hash of what the model hears: :func:`digest_of` of :meth:`load`. Remembered.

        Files are believed not to change while an object lives.
        """
        return digest_of(self.load())

    def describe(self) -> str:
        """Name the clip for a person: the source, the part, the edits.

        >>> Audio(Path("corpus/clip.flac"), start=1.2, end=3.45).edited("reverse").describe()
        'clip.flac [1.20-3.45 s] reverse'
        """
        parts = [_source_name(self.source)]
        if self.start or self.end is not None:
            end = "end" if self.end is None else f"{self.end:.2f} s"
            parts.append(f"[{self.start or 0:.2f}-{end}]")
        parts += [f"{edit.name}@{edit.seed}" if edit.seed else edit.name for edit in self.edits]
        return " ".join(parts)

    def _mono(self) -> tuple[NDArray[np.float32], int]:
        if isinstance(self.source, Samples):
            rate = self.source.rate
            first, last = self._cut(len(self.source.array), rate)
            part = _as_float(self.source.array[first:last])
        else:
            with opened(_encoded(self.source), name=_source_name(self.source)) as (sound, frames):
                rate = sound.samplerate
                part = read(sound, *self._cut(frames, rate), name=_source_name(self.source))
        return part if part.ndim == 1 else part[:, 0] if part.shape[1] == 1 else part.mean(axis=1), rate

    def _cut(self, frames: int, rate: int) -> tuple[int, int]:
        """Return the first frame of the clip and the one after its last."""
        length, start, end = frames / rate, self.start or 0.0, self.end
        first, last = round(start * rate), frames if end is None else min(round(end * rate), frames)
        given, fix = f"start={self.start}, end={self.end}", "correct the times, or leave the clip out"
        if start >= length or (end is not None and end > length + TOLERANCE):
            message = f"{self.describe()} reaches beyond the end of its recording"
            present = f"a recording of {length:.3f} s"
            raise UndecodableAudio(message, problem="bad-cut", given=given, present=present, fix=fix)
        if first >= last:
            message, given = f"{self.describe()} is shorter than one sample", f"{given} at {rate} Hz"
            raise UndecodableAudio(message, problem="empty-audio", given=given, fix=fix)
        return first, last


def digest_of(samples: NDArray[np.float32]) -> str:
    """Hash decoded samples [samples], rounded to 16 bits, so that a WAV and its FLAC agree.

    Samples beyond full scale count as full scale.

    >>> digest_of(np.float32([0.5, 2.0])) == digest_of(np.float32([0.5, 1.0]))
    True
    """
    pcm = np.rint(np.clip(samples * np.float32(2**15), -(2**15), 2**15 - 1)).astype("<i2")
    return _hash(pcm.tobytes())


def _checked_source(source: object) -> Path | AudioBytes | Samples:
    if isinstance(source, str | Path):
        return Path(source)
    if isinstance(source, AudioBytes | Samples):
        return source
    fix = "pass a path, or use Audio.from_array or Audio.from_bytes"
    raise BadInput("this is no source of audio", given=type(source).__name__, fix=fix)


def _encoded(source: Path | AudioBytes) -> Encoded:
    return source if isinstance(source, Path) else source.data


def _source_name(source: Path | AudioBytes | Samples) -> str:
    if isinstance(source, Path):
        return source.name
    return f"{'bytes' if isinstance(source, AudioBytes) else 'samples'} {source.digest[:12]}"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _as_float(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused as such
            return array.astype(np.float32)
    middle = 128 if array.dtype.kind == "u" else 0
    full_scale = float(2 ** (8 * array.dtype.itemsize - 1))
    return np.asarray((array.astype(np.float64) - middle) / full_scale, dtype=np.float32)
