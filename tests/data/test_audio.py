"""Decoding: every format heard alike, cuts exact to the sample, and no file read short in silence."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.data import audio as audio_module
from attnlens.data import decode as decode_module
from attnlens.data.audio import RATE, TOLERANCE, Audio, AudioBytes, AudioEdit, Samples
from attnlens.data.edits import EDITS, Edit
from attnlens.errors import BadInput, UnknownName
from attnlens.registry import Registry

Floats = NDArray[np.float32]

LOSSLESS = [("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16")]
LOSSY = [("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("mp3", "MP3", "MPEG_LAYER_III")]


def speech(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> Floats:
    """A sweep in bursts with some noise: loud and quiet parts, never periodic, so that misplaced samples show."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 40 * t) * t) * (np.sin(2 * np.pi * 1.3 * t) > 0)
    return (sweep + 0.02 * rng.standard_normal(len(t))).astype(np.float32)


def written(path: Path, samples: NDArray[Any], rate: int = RATE, **how: Any) -> Path:
    soundfile.write(path, samples, rate, **how)
    return path


def pcm_wav(data: bytes, *, claimed: int, rate: int = RATE) -> bytes:
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    return b"".join(
        [
            b"RIFF",
            struct.pack("<I", (claimed + 36) % 2**32),
            b"WAVEfmt ",
            form,
            b"data",
            struct.pack("<I", claimed),
            data,
        ]
    )


def flac_claiming(samples: Floats, total: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC")
    content = bytearray(buffer.getvalue())
    # STREAMINFO begins at byte 8; its last 36 bits before the checksum are the number of samples.
    content[21] = content[21] & 0xF0 | total >> 32
    content[22:26] = struct.pack(">I", total % 2**32)
    return bytes(content)


def untagged_mp3(samples: Floats, rate: int, **how: Any) -> bytes:
    """An MP3 as a program writes it to a pipe: without the first frame, which holds the length."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="MP3", **how)
    content = buffer.getvalue()
    tag = max(content[:500].find(b"Xing"), content[:500].find(b"Info"))
    assert tag > 0
    return content[content.index(content[:2], tag) :]


# What is heard


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_wav_encoding_is_heard(tmp_path: Path, subtype: str) -> None:
    samples = speech()
    heard = Audio(written(tmp_path / "a.wav", samples, subtype=subtype)).load()
    coarse = {"PCM_U8": 1 / 128, "ULAW": 0.02}.get(subtype, 1 / 2**15)
    assert heard.dtype == np.float32
    assert heard.shape == samples.shape
    np.testing.assert_allclose(heard, samples, atol=coarse)


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSY)
@pytest.mark.parametrize("given_as", ["path", "bytes"])
def test_lossy_formats_are_heard(tmp_path: Path, suffix: str, container: str, subtype: str, given_as: str) -> None:
    samples = speech()
    path = written(tmp_path / f"a.{suffix}", samples, format=container, subtype=subtype)
    heard = (Audio(path) if given_as == "path" else Audio.from_bytes(path.read_bytes())).load()
    assert heard.shape == samples.shape
    assert np.corrcoef(heard, samples)[0, 1] > 0.97


def test_stereo_at_96_khz_becomes_its_mean_at_16_khz(tmp_path: Path) -> None:
    left, right = speech(1.0, 96_000), speech(1.0, 96_000, seed=1)
    path = written(tmp_path / "a.wav", np.stack([left, right], axis=1), 96_000, subtype="FLOAT")
    expected = soxr.resample((left + right) / 2, 96_000, RATE, quality="HQ")
    heard = Audio(path).load()
    assert heard.shape == (RATE,)
    np.testing.assert_allclose(heard, expected, atol=1e-6)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    samples = speech()
    flac = written(tmp_path / "a.flac", samples)
    misnamed = flac.rename(tmp_path / "a.wav")
    np.testing.assert_allclose(Audio(misnamed).load(), samples, atol=1 / 2**15)


def test_a_path_may_be_given_as_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", speech())
    assert Audio(str(path)) == Audio(path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-(2**15), 0, 2**14], np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1.0, 0.0, 0.5]),
        (np.array([-128, 0, 64], np.int8), [-1.0, 0.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        (np.array([-1.5, 0, 0.5], np.float64), [-1.5, 0.0, 0.5]),
        (np.array([[0.5, 1.0], [0.0, 0.0], [0.25, 0.75]], np.float32), [0.75, 0.0, 0.5]),
    ],
)
def test_arrays_in_memory_are_scaled_and_mixed(array: NDArray[Any], expected: list[float]) -> None:
    assert Audio.from_array(array).load().tolist() == expected


def test_an_array_in_memory_is_not_shared() -> None:
    array = speech()
    clip = Audio.from_array(array)
    before = array.copy()
    array[:] = 0
    clip.load()[:] = 7
    np.testing.assert_array_equal(clip.load(), before)
    assert clip.load().flags.writeable


def test_edits_are_applied_in_order_after_the_cut() -> None:
    clip = Audio.from_array(np.arange(16_000, dtype=np.float32), rate=RATE)
    edited = Audio(clip.source, start=0.25, end=0.75).edited("reverse").edited("chunk-shuffle", seed=4)
    assert edited.edits == (AudioEdit("reverse"), AudioEdit("chunk-shuffle", 4))
    cut = np.arange(4_000, 12_000, dtype=np.float32)[::-1]
    np.testing.assert_array_equal(edited.load(), EDITS["chunk-shuffle"](cut, 4))


def test_an_edit_that_changes_the_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(samples: Floats, seed: int, /) -> Floats:
        return samples[::2]

    edits: Registry[Edit] = Registry("audio edit", group="attnlens.test_edits", builtin={})
    edits.register("half", half, summary="every other sample")
    monkeypatch.setattr(audio_module, "EDITS", edits)
    with pytest.raises(BadInput, match="does not keep length"):
        Audio.from_array(speech()).edited("half").load()


def test_unknown_edits_and_negative_seeds_are_refused_before_decoding() -> None:
    with pytest.raises(UnknownName, match="reverse"):
        Audio(Path("nowhere.wav")).edited("revers")
    with pytest.raises(BadInput, match="seed"):
        Audio(Path("nowhere.wav")).edited("reverse", seed=-1)


# Cuts


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSLESS + LOSSY)
def test_cuts_are_exact_to_the_sample(tmp_path: Path, suffix: str, container: str, subtype: str) -> None:
    path = written(tmp_path / f"a.{suffix}", speech(12.0), format=container, subtype=subtype)
    whole = Audio(path).load()
    for start, end in [(0.0, 0.1), (1.00006, 2.5), (7.31, 7.35), (9.0, None), (None, 0.5), (11.5, 12.0)]:
        first = round((start or 0) * RATE)
        last = len(whole) if end is None else round(end * RATE)
        np.testing.assert_array_equal(Audio(path, start, end).load(), whole[first:last])


def test_a_variable_rate_mp3_is_cut_exactly(tmp_path: Path) -> None:
    # Frames of such a file lean on the bits of earlier ones: entered in the middle it decodes wrongly for a while.
    path = written(tmp_path / "a.mp3", speech(20.0), format="MP3", bitrate_mode="VARIABLE", compression_level=0.95)
    whole = Audio(path).load()
    for start in np.arange(0.5, 19.0, 1.7):
        first = round(float(start) * RATE)
        np.testing.assert_array_equal(Audio(path, float(start), float(start) + 0.5).load(), whole[first : first + 8000])


def test_a_cut_is_made_at_the_rate_of_the_source(tmp_path: Path) -> None:
    samples = speech(2.0, 44_100)
    path = written(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    expected = soxr.resample(samples[round(0.333 * 44_100) : round(1.234 * 44_100)], 44_100, RATE, quality="HQ")
    np.testing.assert_array_equal(Audio(path, 0.333, 1.234).load(), expected)


def test_a_cut_reads_only_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.flac", speech(10.0))
    read: list[int] = []
    original = soundfile.SoundFile.read

    def counted(self: Any, frames: int = -1, *args: Any, **kwargs: Any) -> Any:
        read.append(frames)
        return original(self, frames, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    Audio(path, 8.0, 8.25).load()
    assert read == [4_000]


def test_long_files_are_read_in_blocks_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stereo = np.stack([speech(3.0), speech(3.0, seed=1)], axis=1)
    path = written(tmp_path / "a.flac", stereo)
    whole = Audio(path, 0.1, 2.9).load()
    monkeypatch.setattr(decode_module, "_BLOCK", 10_001)
    np.testing.assert_array_equal(Audio(path, 0.1, 2.9).load(), whole)


@given(
    frames=st.integers(1, 3_000),
    rate=st.sampled_from([8_000, 11_025, 16_000, 44_100, 48_000]),
    edges=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_any_cut_of_an_array_is_the_slice_and_its_duration_agrees(
    frames: int, rate: int, edges: tuple[float, float]
) -> None:
    array = np.random.default_rng(frames).standard_normal(frames).astype(np.float32)
    start, end = (edge * frames / rate for edge in sorted(edges))
    first, last = round(start * rate), round(end * rate)
    try:
        clip = Audio(Samples(array, rate), start, end)
        heard = clip.load()
    except BadInput:
        # Refused only where there is not one sample to hear.
        assert round((last - first) * RATE / rate) == 0
        return
    expected = array[first:last] if rate == RATE else soxr.resample(array[first:last], rate, RATE, quality="HQ")
    np.testing.assert_array_equal(heard, expected)
    assert abs(clip.seconds * RATE - len(heard)) <= 1


@pytest.mark.parametrize(
    ("start", "end"),
    [(-0.1, 1.0), (1.0, 1.0), (1.5, 1.0), (float("nan"), 1.0), (0.0, float("nan")), (float("inf"), None), (0.0, -1.0)],
)
def test_impossible_times_are_refused_at_once(start: float, end: float | None) -> None:
    with pytest.raises(BadInput, match="impossible times"):
        Audio(Path("nowhere.wav"), start, end)


def test_times_beyond_the_end_are_refused_with_the_length(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", speech(2.0))
    for start, end in [(2.0, None), (2.01, 2.02), (5.0, 6.0), (0.0, 2.0 + 1.1 * TOLERANCE)]:
        for read in (Audio.load, lambda clip: clip.seconds):
            with pytest.raises(BadInput, match=r"beyond the end[\s\S]*2\.000 s"):
                read(Audio(path, start, end))
    rounded_up = Audio(path, 1.0, 2.0 + 0.9 * TOLERANCE)
    assert len(rounded_up.load()) == RATE
    assert rounded_up.seconds == 1.0


def test_a_cut_of_less_than_a_sample_is_refused() -> None:
    with pytest.raises(BadInput, match="shorter than one sample"):
        Audio(Samples(speech()), 0.5, 0.50001).load()
    with pytest.raises(BadInput, match="shorter than one sample at 16000 Hz"):
        Audio.from_array(np.ones(2, np.float32), rate=96_000).load()


# Duration, digest, description


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_the_duration_agrees_with_what_is_heard(
    tmp_path: Path, suffix: str, container: str, subtype: str, rate: int
) -> None:
    path = written(tmp_path / f"a.{suffix}", speech(1.237, rate), rate, format=container, subtype=subtype)
    for clip in (Audio(path), Audio(path, 0.1, 1.0)):
        assert abs(clip.seconds - len(clip.load()) / RATE) <= 2 / RATE


def test_the_duration_is_known_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [written(tmp_path / f"a.{suffix}", speech(), format=kind) for suffix, kind, _ in LOSSLESS + LOSSY]
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert [Audio(path).seconds for path in paths] == [pytest.approx(2.0)] * len(paths)


def test_equal_sound_has_one_digest(tmp_path: Path) -> None:
    samples = np.round(speech() * 2**15).astype(np.int16)
    wav, flac = written(tmp_path / "a.wav", samples), written(tmp_path / "a.flac", samples)
    digests = {
        Audio(wav).digest,
        Audio(flac).digest,
        Audio.from_bytes(flac.read_bytes()).digest,
        Audio.from_array(samples).digest,
        Audio(wav, 0.0, 2.0).digest,
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 16


def test_other_sound_has_another_digest() -> None:
    clip = Audio.from_array(speech())
    others = [Audio.from_array(speech(seed=1)), Audio(clip.source, 0.5), clip.edited("reverse"), clip.edited("silence")]
    others.append(Audio.from_array(np.append(speech(), np.float32(0))))
    assert len({clip.digest, *(other.digest for other in others)}) == 6
    assert clip.edited("reverse").edited("reverse").digest == clip.digest


def test_samples_beyond_full_scale_do_not_wrap_around() -> None:
    loud = Audio.from_array(np.array([1.0, 1.5, -2.0], np.float32))
    full = Audio.from_array(np.array([2**15 - 1, 2**15 - 1, -(2**15)], np.int16))
    assert loud.digest == full.digest


def test_a_clip_is_plain_data(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", speech())
    fresh, used = Audio(path, 0.5), Audio(path, 0.5)
    assert used.seconds
    assert used.digest
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert repr(used) == repr(fresh)
    assert pickle.loads(pickle.dumps(used)) == fresh
    assert used != Audio(path, 0.6)
    # What is remembered belongs to the object it was computed for, not to what is derived from it.
    assert used.edited("silence").digest != used.digest
    with pytest.raises(AttributeError):
        used.start = 0.0  # type: ignore[misc]


def test_what_is_remembered_is_not_computed_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", speech())
    clip = Audio(path)
    before = clip.seconds, clip.digest
    path.unlink()
    assert (clip.seconds, clip.digest) == before


def test_sources_in_memory_are_equal_when_their_content_is() -> None:
    content = pcm_wav(b"\1\0" * 10, claimed=20)
    assert Audio.from_bytes(content) == Audio.from_bytes(bytes(bytearray(content)))
    assert len({Audio.from_bytes(content), Audio.from_bytes(content), Audio.from_bytes(content + b"\0")}) == 2
    zeros = np.zeros(8, np.int16)
    assert Samples(zeros) == Samples(zeros.copy())
    # The same bytes, but other samples.
    assert (
        len({Samples(zeros), Samples(np.zeros(4, np.int32)), Samples(zeros.reshape(4, 2)), Samples(zeros, 8_000)}) == 4
    )


def test_describe_names_source_part_and_edits() -> None:
    path = Path("corpus/clip.flac")
    assert Audio(path).describe() == "clip.flac"
    assert Audio(path, 1.2, 3.45).edited("reverse").describe() == "clip.flac [1.20-3.45 s] reverse"
    assert Audio(path, 1.2).describe() == "clip.flac [1.20-end]"
    assert Audio(path, end=2).edited("chunk-shuffle", seed=3).describe() == "clip.flac [0.00-2.00 s] chunk-shuffle@3"
    samples, content = Samples(speech()), AudioBytes(b"abc")
    assert Audio(samples).describe() == f"samples {samples.digest[:12]}"
    assert Audio(content).describe() == f"bytes {content.digest[:12]}"


# What is refused


def refused(clip: Audio, match: str) -> None:
    with pytest.raises(BadInput, match=match) as caught:
        clip.load()
    assert caught.value.fix


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    refused(Audio(tmp_path / "no.wav"), r"cannot be opened[\s\S]*No such file")
    refused(Audio(tmp_path), r"cannot be opened[\s\S]*directory")
    with pytest.raises(BadInput, match="cannot be opened"):
        _ = Audio(tmp_path / "no.wav").seconds


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("zero-bytes.wav", b"", "cannot be decoded"),
        ("text.wav", "ñuka wasi\n".encode() * 100, "cannot be decoded"),
        ("text.mp3", b"ID3\3\0\0", "cannot be decoded"),
        ("header-only.wav", pcm_wav(b"", claimed=0), "holds no samples"),
        ("size-never-filled-in.wav", pcm_wav(b"\1\0" * 800, claimed=0), "holds no samples"),
        ("two-gigabytes.wav", pcm_wav(b"", claimed=2**31), r"promises 2147483648 bytes, the file holds 0"),
        ("half.wav", pcm_wav(b"\1\0" * 800, claimed=3_200), r"promises 3200 bytes, the file holds 1600"),
        ("no-rate.wav", pcm_wav(b"\1\0" * 800, claimed=1_600, rate=0), "cannot be decoded"),
        ("one-hertz.wav", pcm_wav(b"\1\0" * 800, claimed=1_600, rate=1), "impossible sampling rate"),
        ("headerless.raw", b"\1\0" * 800, "rate nor format"),
        ("pipe.flac", flac_claiming(speech(), 0), "does not say how long"),
    ],
)
def test_files_that_are_not_audio_or_not_whole_are_refused(
    tmp_path: Path, name: str, content: bytes, match: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refused(Audio(path), match)
    with pytest.raises(BadInput, match=match):
        _ = Audio(path).seconds
    if path.suffix != ".raw":
        refused(Audio.from_bytes(content), match)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_false_promise_of_gigabytes_allocates_nothing_like_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    pcm = b"\1\0" * RATE
    path.write_bytes(pcm_wav(pcm, claimed=2**31) if kind == "wav" else flac_claiming(speech(), 2**36 - 1))
    tracemalloc.start()
    refused(Audio(path), "cannot be decoded")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_a_wav_written_to_a_pipe_is_read_to_its_end() -> None:
    # All ones in the size field is how such files say that they do not know it.
    assert len(Audio.from_bytes(pcm_wav(b"\1\0" * 800, claimed=2**32 - 1)).load()) == 800


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_and_not_read_short(
    tmp_path: Path, suffix: str, container: str, subtype: str, kept: float
) -> None:
    path = written(tmp_path / f"a.{suffix}", speech(5.0), format=container, subtype=subtype)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(Audio(path), "cannot be decoded")
    refused(Audio.from_bytes(path.read_bytes()), "cannot be decoded")


def test_an_ogg_cut_between_two_pages_is_refused(tmp_path: Path) -> None:
    content = written(tmp_path / "a.ogg", speech(5.0)).read_bytes()
    last_page = content.rindex(b"OggS")
    for length in (last_page, last_page + 3, last_page + 20, len(content) - 1):
        refused(Audio.from_bytes(content[:length]), "last page")
    assert len(Audio.from_bytes(content).load()) == 5 * RATE


def test_samples_that_are_not_numbers_are_refused_with_their_time(tmp_path: Path) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        samples = speech()
        samples[8_000] = bad
        refused(Audio(written(tmp_path / "a.wav", samples, subtype="FLOAT")), r"not numbers[\s\S]*0\.50 s")
        refused(Audio.from_array(samples), "not numbers")
        assert len(Audio(Samples(samples), 0.6).load()) == round(1.4 * RATE)
    refused(Audio.from_array(np.array([1e300, 0.0])), "not numbers")


@pytest.mark.parametrize(
    ("array", "rate", "match"),
    [
        (np.zeros(0, np.float32), RATE, "no samples"),
        (np.zeros((0, 2), np.float32), RATE, "no samples"),
        (np.zeros((2, 100), np.float32), RATE, "time first"),
        (np.zeros((2, 2, 2), np.float32), RATE, "time first"),
        (np.float32(1.0), RATE, "time first"),
        (np.zeros(4, np.int64), RATE, "not audio samples"),
        (np.zeros(4, bool), RATE, "not audio samples"),
        (np.zeros(4, complex), RATE, "not audio samples"),
        (np.array(["a"]), RATE, "not audio samples"),
        (np.zeros(4, np.float32), 0, "rate"),
        (np.zeros(4, np.float32), -8_000, "rate"),
        (np.zeros(4, np.float32), 16, "rate"),
    ],
)
def test_arrays_that_are_not_audio_are_refused_at_once(array: NDArray[Any], rate: int, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        Audio.from_array(array, rate=rate)


def test_other_sources_are_refused() -> None:
    with pytest.raises(BadInput, match="no source of audio"):
        Audio(speech())  # type: ignore[arg-type]


# MP3, whose length nobody states


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_constant_rate_mp3_without_a_length_tag_is_read_whole(rate: int) -> None:
    samples = speech(3.0, rate)
    content = untagged_mp3(samples, rate, bitrate_mode="CONSTANT", compression_level=0.3)
    clip = Audio.from_bytes(content)
    heard = clip.load()
    assert abs(clip.seconds - len(heard) / RATE) <= 2 / RATE
    # Padded to whole frames, and the decoder's delay is no longer taken off.
    assert 3.0 <= clip.seconds < 3.0 + 4 * 1152 / rate
    for length in (len(content) // 2 + 7, len(content) - 1):
        refused(Audio.from_bytes(content[:length]), "cut off")


def test_a_variable_rate_mp3_without_a_length_tag_is_refused() -> None:
    quiet_then_loud = np.concatenate([speech(5.0) * np.float32(1e-3), speech(5.0)])
    content = untagged_mp3(quiet_then_loud, RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        assert sound.frames < 10 * RATE  # what would be heard without the check
    refused(Audio.from_bytes(content), "length tag is missing")


def test_mp3_tags_around_the_frames_do_no_harm(tmp_path: Path) -> None:
    content = written(tmp_path / "a.mp3", speech()).read_bytes()
    front = b"ID3\3\0\0" + bytes([0, 0, 1, 2]) + b"\xff\xfb\x90\x64" * 32 + b"\0\0"
    for padded in (front + content, content + b"TAG" + b"x" * 125, front + content + b"\0" * 50):
        np.testing.assert_array_equal(Audio.from_bytes(padded).load(), Audio.from_bytes(content).load())


def test_a_damaged_or_doubled_mp3_is_refused(tmp_path: Path) -> None:
    content = written(tmp_path / "a.mp3", speech()).read_bytes()
    middle = len(content) // 2
    refused(Audio.from_bytes(content[:middle] + b"?" * 999 + content[middle + 999 :]), "damaged near byte")
    refused(Audio.from_bytes(content + content), "would read 32000 of")


@pytest.mark.parametrize(("suffix", "container", "subtype"), LOSSLESS + LOSSY)
def test_random_damage_is_refused_or_harmless(tmp_path: Path, suffix: str, container: str, subtype: str) -> None:
    content = written(tmp_path / f"a.{suffix}", speech(0.5), format=container, subtype=subtype).read_bytes()
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(content)
        at = int(rng.integers(0, rng.choice([64, len(content)])))
        if rng.random() < 0.3:
            del damaged[at:]
        else:
            damaged[at : at + 4] = rng.bytes(4)
        try:
            clip = Audio.from_bytes(bytes(damaged))
            assert abs(clip.seconds - len(clip.load()) / RATE) <= 2 / RATE
        except BadInput:
            refusals += 1
    assert refusals > 30


def test_importing_does_not_load_the_decoders() -> None:
    script = (
        "import sys, attnlens.data.audio; print(sorted({'soundfile', 'soxr', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
