"""Opening what libsndfile reads, and refusing what it would read short: truncated, damaged or endless files."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

__all__ = ["AudioProblem", "Encoded", "UndecodableAudio", "check_rate", "opened", "read"]

Encoded: TypeAlias = Path | bytes
"""An audio file, or the content of one."""

AudioProblem = Literal["undecodable-audio", "empty-audio", "nan-audio", "bad-cut", "missing-file"]
"""Why a clip cannot be heard: names of :data:`attnlens.data.utterance.PROBLEMS`."""

_LOWEST_RATE = 1_000  # below there is no speech, and a damaged header of 1 Hz would make a clip 16,000 times as long
_BLOCK = 2**22  # values per read: what is allocated follows what a file holds, never what its header claims


class UndecodableAudio(BadInput):
    """A clip that cannot be heard; ``problem`` says why in one word, for programs that treat kinds differently.

    >>> from attnlens.data.audio import Audio
    >>> try:
    ...     Audio(Path("no/such.wav")).load()
    ... except UndecodableAudio as error:
    ...     print(error.problem)
    missing-file
    """

    def __init__(
        self,
        message: str,
        *,
        problem: AudioProblem = "undecodable-audio",
        given: object | None = None,
        present: object | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message, given=given, present=present, fix=fix)
        self.problem: AudioProblem = problem

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"problem": self.problem})


def check_rate(rate: int, name: str) -> None:
    """Refuse a sampling rate that no recording of speech has."""
    if rate < _LOWEST_RATE:
        present, fix = f"at least {_LOWEST_RATE} samples per second", "correct the rate, or make the recording anew"
        raise UndecodableAudio(f"{name} has an impossible sampling rate", given=f"{rate} Hz", present=present, fix=fix)


@contextmanager
def opened(source: Encoded, *, name: str) -> Iterator[tuple[Any, int]]:
    """Open an encoded source; gives the soundfile object and the number of frames that are really there to be read."""
    import soundfile

    if isinstance(source, Path) and source.suffix.lower() == ".raw":
        raise _undecodable(name, "raw samples say neither rate nor format", fix="convert it to WAV or FLAC")
    try:
        # Two handles: libsndfile keeps its own position in what it reads.
        file = source if isinstance(source, Path) else _stream(source)
        with _stream(source) as raw, soundfile.SoundFile(file) as sound:
            yield sound, _frames(sound, raw, name)
    except OSError as error:
        fix, why = "check the path; paths in a manifest start at the manifest's folder", error.strerror or error
        given = source if isinstance(source, Path) else name
        raise UndecodableAudio(
            f"the audio file {name} cannot be opened", problem="missing-file", given=given, present=why, fix=fix
        ) from error
    except soundfile.SoundFileError as error:
        raise _undecodable(name, str(error).rpartition(": ")[2].rstrip(".")) from error


def read(sound: Any, first: int, last: int, *, name: str) -> NDArray[np.float32]:
    """Read frames [first, last) as [frames, channels], refusing what ends early."""
    # soundfile seeks after every read, and an MP3 decoder that is sent somewhere starts there without the bits that
    # earlier frames hold for it (errors of up to 0.4 of full scale): so one read, from the beginning.
    mp3 = sound.format == "MP3"
    at, block = (0, last) if mp3 else (first, max(1, _BLOCK // sound.channels))
    if at:
        sound.seek(at)
    parts: list[NDArray[np.float32]] = []
    while at < last:
        parts.append(sound.read(min(block, last - at), dtype="float32", always_2d=True))
        if len(parts[-1]) == 0 or (mp3 and len(parts[-1]) < last):
            got = at + len(parts[-1])
            raise _undecodable(name, f"it ends after {got} of {sound.frames} samples: truncated or damaged")
        at += len(parts[-1])
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole[first:].copy() if mp3 else whole


def _stream(source: Encoded) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else _Bytes(source)


class _Bytes(io.BytesIO):
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        # libsndfile tries impossible seeks in broken content; what its callback raises is printed, never caught.
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _undecodable(name: str, why: str, *, fix: str = "copy the file again or convert it anew") -> UndecodableAudio:
    return UndecodableAudio(f"{name} cannot be decoded", present=why, fix=fix)


def _frames(sound: Any, raw: BinaryIO, name: str) -> int:
    """Return the frames that a file holds, refusing one whose container shows that libsndfile would read it short."""
    check_rate(sound.samplerate, name)
    if sound.format == "MP3":
        return _mp3_frames(raw.read(), sound.frames, name)
    if sound.format in ("WAV", "WAVEX"):
        _check_wav(raw, name)
    elif sound.format == "OGG":
        _check_ogg(raw, name)
    if sound.frames == 2**63 - 1:  # libsndfile's word for "the header does not say"
        fix = "write it anew to a file, not to a pipe, so that its header gets a length"
        raise _undecodable(name, "its header does not say how long it is: a cut-off end would go unseen", fix=fix)
    if sound.frames == 0:
        fix = "make the recording anew or leave the clip out"
        raise UndecodableAudio(f"{name} holds no samples", problem="empty-audio", fix=fix)
    return int(sound.frames)


def _check_wav(raw: BinaryIO, name: str) -> None:
    size = raw.seek(0, io.SEEK_END)
    raw.seek(12)
    while len(head := raw.read(8)) == 8:  # noqa: PLR2004 - a chunk's name and size
        claimed, here = int.from_bytes(head[4:], "little"), raw.tell()
        if head[:4] == b"data":
            # All ones is what programs write when they cannot go back to fill in the size.
            if claimed != 2**32 - 1 and here + claimed > size:
                raise _undecodable(name, f"its header promises {claimed} bytes, the file holds {size - here}")
            return
        raw.seek(here + claimed + claimed % 2)


def _check_ogg(raw: BinaryIO, name: str) -> None:
    header, largest_page = 27, 65_307
    raw.seek(max(0, raw.seek(0, io.SEEK_END) - largest_page))
    page = b"OggS" + raw.read().rpartition(b"OggS")[2]
    if len(page) < header or not page[5] & 4 or len(page) < header + page[26] + sum(page[header : header + page[26]]):
        raise _undecodable(name, "its last page is cut off or not marked as the end of the stream")


_MP3_KBPS = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MP3_SAME_IN_ALL_FRAMES = 0xFFFE0C00  # sync word, version, layer and rate
_MP3_SLACK = 10 * 1152  # encoder delay, padding and the frame that carries the length are taken off the stated length


@functools.lru_cache(maxsize=4096)
def _mp3_frame(header: int) -> tuple[int, int]:
    """Return a frame's bytes and samples from its four header bytes; zeros when it is no layer III header."""
    version, layer, kbps, hz = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or kbps in (0, 15) or hz == 3:  # noqa: PLR2004 - ISO 11172-3
        return 0, 0
    first_version = version == 3  # noqa: PLR2004
    samples = 1152 if first_version else 576
    rate = (44_100, 48_000, 32_000)[hz] >> (0 if first_version else 1 if version == 2 else 2)  # noqa: PLR2004
    return samples // 8 * _MP3_KBPS[first_version][kbps - 1] * 1000 // rate + (header >> 9 & 1), samples


def _mp3_frames(data: bytes, stated: int, name: str) -> int:
    """Count an MP3's samples frame by frame, since without a length tag libsndfile guesses from the first bit rate.

    The guess is a little too long for constant rates and up to several times too short for variable ones, and what
    lies beyond it cannot be read.
    """

    def header(at: int) -> int:
        return int.from_bytes(data[at : at + 4], "big")

    at = 0
    while data[at : at + 3] == b"ID3":
        at += 10 + sum(byte << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=False))
    while (at := data.find(b"\xff", at)) >= 0:
        size = _mp3_frame(header(at))[0]
        if size and (at + size == len(data) or _mp3_frame(header(at + size))[0]):
            break
        at += 1
    if at < 0:
        raise _undecodable(name, "no MPEG layer III frames were found in it")
    tagged = any(tag in data[at : at + size] for tag in (b"Xing", b"Info"))
    held, common = 0, header(at) & _MP3_SAME_IN_ALL_FRAMES
    while header(at) & _MP3_SAME_IN_ALL_FRAMES == common and (frame := _mp3_frame(header(at)))[0]:
        at, held = at + frame[0], held + frame[1]
    rest = data[at:].lstrip(b"\0")
    if at > len(data) or (rest and not rest.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3"))):
        raise _undecodable(name, f"an MPEG frame is cut off or damaged near byte {min(at, len(data))} of {len(data)}")
    if tagged and stated > held:
        raise _undecodable(name, f"its header promises {stated} samples, the file holds {held}: truncated")
    if held > stated + (_MP3_SLACK if tagged else 0):
        present = f"libsndfile would read {stated} of {held} samples: the length tag is missing or wrong"
        raise _undecodable(name, present, fix="convert it to FLAC, for example with ffmpeg")
    return min(stated, held)
