"""Audio edits: what each keeps, what each destroys, and that the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.data.audio import RATE
from attnlens.data.edits import CHUNK, EDITS, chunk_shuffle, reverse, silence, spectrum_noise
from attnlens.errors import BadInput

Floats = NDArray[np.float32]

many = settings(derandomize=True, max_examples=40, deadline=None)
lengths = st.integers(2 * CHUNK + 1, 9 * CHUNK)
seeds = st.integers(0, 2**63)


def clip(length: int, *, seed: int = 1) -> Floats:
    """Noise under a slow envelope: as broad in frequency and as uneven in time as speech."""
    rng = np.random.default_rng(seed)
    envelope = 0.55 + 0.45 * np.sin(np.arange(length) / 2_000)
    return (0.1 * envelope * rng.standard_normal(length)).astype(np.float32)


def rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("name", list(EDITS))
@given(length=lengths, seed=seeds)
@many
def test_every_edit_keeps_the_length_and_leaves_its_input_alone(name: str, length: int, seed: int) -> None:
    samples = clip(length)
    before = samples.copy()
    edited = EDITS[name](samples, seed)
    assert edited.shape == samples.shape
    assert edited.dtype == np.float32
    assert edited.flags.writeable
    assert edited.flags.c_contiguous
    assert not np.shares_memory(edited, samples)
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("name", list(EDITS))
def test_the_same_seed_gives_the_same_clip(name: str) -> None:
    samples = clip(RATE)
    np.testing.assert_array_equal(EDITS[name](samples, 5), EDITS[name](samples, 5))


@pytest.mark.parametrize("name", ["chunk-shuffle", "spectrum-noise"])
@given(seed=st.integers(0, 10_000))
@many
def test_another_seed_gives_another_clip(name: str, seed: int) -> None:
    # 40 chunks: that two seeds draw one order by chance is out of the question.
    samples = clip(40 * CHUNK)
    assert not np.array_equal(EDITS[name](samples, seed), EDITS[name](samples, seed + 1))


@pytest.mark.parametrize("name", ["reverse", "silence"])
def test_edits_without_chance_ignore_the_seed(name: str) -> None:
    samples = clip(RATE)
    np.testing.assert_array_equal(EDITS[name](samples, 0), EDITS[name](samples, 1))


@given(length=lengths)
@many
def test_reverse_is_an_involution_and_turns_time_round(length: int) -> None:
    samples = clip(length)
    turned = reverse(samples, 0)
    np.testing.assert_array_equal(reverse(turned, 0), samples)
    np.testing.assert_array_equal(turned, [samples[-1 - index] for index in range(length)])
    np.testing.assert_allclose(np.abs(np.fft.rfft(turned)), np.abs(np.fft.rfft(samples)), atol=1e-3)


def test_chunks_are_200_ms() -> None:
    assert CHUNK == 0.2 * RATE


@given(length=st.integers(CHUNK + 1, 9 * CHUNK), seed=seeds)
@many
def test_chunk_shuffle_permutes_whole_chunks_and_is_never_the_identity(length: int, seed: int) -> None:
    samples = np.arange(length, dtype=np.float32)
    shuffled = chunk_shuffle(samples, seed)
    np.testing.assert_array_equal(np.sort(shuffled), samples)
    assert not np.array_equal(shuffled, samples)
    # Wherever the order breaks, one chunk ends and another begins.
    breaks = np.flatnonzero(np.diff(shuffled) != 1)
    assert all(shuffled[at + 1] % CHUNK == 0 for at in breaks)
    assert all((shuffled[at] + 1) % CHUNK == 0 or shuffled[at] == length - 1 for at in breaks)


def test_chunk_shuffle_moves_the_short_last_chunk_too() -> None:
    samples = np.arange(3 * CHUNK + 100, dtype=np.float32)
    ends = {float(chunk_shuffle(samples, seed)[-1]) for seed in range(40)}
    assert ends == {CHUNK - 1, 2 * CHUNK - 1, 3 * CHUNK - 1, 3 * CHUNK + 99}


def test_chunk_shuffle_reaches_every_order_but_one_about_equally_often() -> None:
    samples = np.arange(3 * CHUNK, dtype=np.float32)
    starts = np.arange(3) * CHUNK
    orders = [tuple((chunk_shuffle(samples, seed)[starts] // CHUNK).astype(int)) for seed in range(1_000)]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 5
    # Binomial(1000, 1/5): standard deviation 12.6.
    assert all(150 < count < 250 for count in counts.values())


@pytest.mark.parametrize("length", [1, 100, CHUNK])
def test_chunk_shuffle_refuses_what_it_would_leave_as_it_is(length: int) -> None:
    with pytest.raises(BadInput, match="too short to shuffle"):
        chunk_shuffle(clip(length), 0)


@given(length=st.integers(1, 5_000))
@many
def test_silence_is_zeros(length: int) -> None:
    assert not silence(clip(length), 0).any()


@given(length=st.integers(3, 40_000), seed=seeds)
@many
def test_spectrum_noise_keeps_magnitudes_loudness_and_mean(length: int, seed: int) -> None:
    samples = clip(length) + np.float32(0.01)
    noise = spectrum_noise(samples, seed)
    wanted, found = (np.abs(np.fft.rfft(part.astype(np.float64))) for part in (samples, noise))
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.sqrt(length))
    assert rms(noise) == pytest.approx(rms(samples), rel=1e-5)
    assert float(noise.mean()) == pytest.approx(float(samples.mean()), abs=1e-6)


@given(length=st.integers(RATE, 3 * RATE), seed=seeds)
@many
def test_spectrum_noise_has_nothing_of_the_waveform(length: int, seed: int) -> None:
    samples = clip(length)
    noise = spectrum_noise(samples, seed)
    # Independent waveforms of n samples correlate by about 1/sqrt(n), here at most 0.008: six of those.
    assert abs(np.corrcoef(samples, noise)[0, 1]) < 0.05
    # Not shifted either: no lag brings the waveform back.
    spectra = np.fft.rfft(samples), np.fft.rfft(noise)
    lagged = np.fft.irfft(spectra[0] * np.conj(spectra[1]), n=length) / (length * rms(samples) * rms(noise))
    assert np.abs(lagged).max() < 0.1


def test_spectrum_noise_levels_what_happens_in_time() -> None:
    samples = clip(2 * RATE)
    samples[RATE:] = 0
    noise = spectrum_noise(samples, 0)
    assert rms(noise[RATE:]) == pytest.approx(rms(noise[:RATE]), rel=0.1)


@pytest.mark.parametrize("length", [1, 2])
def test_spectrum_noise_refuses_what_has_no_phases(length: int) -> None:
    with pytest.raises(BadInput, match="too short to have phases"):
        spectrum_noise(clip(length), 0)
