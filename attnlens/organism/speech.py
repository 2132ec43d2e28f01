"""From words to a clip with the times of its sounds, in a given voice: what pools and corpora are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attnlens.data.audio import RATE
from attnlens.organism.espeak import Espeak, Spoken
from attnlens.organism.languages import Glottal, Word
from attnlens.organism.phones import (
    FIRST_VOWEL,
    MNEMONICS,
    NASAL,
    NASAL_MNEMONICS,
    PAUSE_MNEMONIC,
    PHONES,
    STRESSED,
    classes,
    marks,
    phone_id,
)

__all__ = ["Said", "say_text", "say_words"]

_SPEEDS = (85, 126)
"""Words per minute: slow, so that a sound fills a position of 80 ms or more."""
_GLOTTAL, _SHORTEST_PAUSE = phone_id("ʔ"), 30
_GAPS = (3, 9)
"""Pauses between words, in espeak-ng's units of 10 ms: as in dictation, so that the spaces of a text can be heard."""


@dataclass(frozen=True)
class Said:
    """A clip, float32 [samples] at 16 kHz, and its sounds: phones, marks, starts, stops (ms), word numbers."""

    samples: NDArray[np.float32]
    phones: tuple[int, ...]
    marks: tuple[int, ...]
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    words: tuple[int, ...]


def say_words(
    words: Sequence[Word],
    marked: Sequence[Sequence[int]],
    voice: str,
    rng: np.random.Generator,
    *,
    engine: Espeak,
    glottal: Glottal = "stop",
) -> Said | None:
    """Say words of phone ids with their marks; None where the voice's table makes other sounds of them.

    Parameters
    ----------
    marked
        The marks of each word's phones.
    glottal
        How a glottal stop between other sounds of its word is said.
    """
    nasal = NASAL_MNEMONICS.get(voice.partition("+")[0], {})
    spelled = []
    for word, bits in zip(words, marked, strict=True):
        sounds = []
        for place, (phone, mark) in enumerate(zip(word, bits, strict=True)):
            if mark & NASAL and phone not in nasal:
                return None
            name = nasal[phone] if mark & NASAL else MNEMONICS[PHONES[phone]]
            # At the edge of a word a pause would be the pause between words.
            if phone == _GLOTTAL and glottal == "pause" and 0 < place < len(word) - 1:
                name = PAUSE_MNEMONIC
            sounds.append("'" * bool(mark & STRESSED) + name)
        spelled.append("[[" + "|".join(sounds) + "]]")
    said = _said(_spoken(" ".join(spelled), voice, rng, engine), rng, pauses=glottal)
    if said is None or said.phones != tuple(phone for word in words for phone in word):
        return None
    if [mark & NASAL for mark in said.marks] != [mark & NASAL for bits in marked for mark in bits]:
        return None
    numbers = tuple(number for number, word in enumerate(words) for _ in word)
    return replace(said, words=numbers)


def say_text(text: str, voice: str, rng: np.random.Generator, *, engine: Espeak) -> Said | None:
    """Say a text by the voice's own rules of spelling; None where nothing is heard."""
    return _said(_spoken(text, voice, rng, engine), rng)


def _spoken(text: str, voice: str, rng: np.random.Generator, engine: Espeak) -> Spoken:
    speed, pitch, width, gap = (int(rng.integers(*bounds)) for bounds in (_SPEEDS, (20, 80), (20, 70), _GAPS))
    return engine.say(text, voice=voice, speed=speed, pitch=pitch, pitch_range=width, gap=gap)


def _said(spoken: Spoken, rng: np.random.Generator, *, pauses: Glottal = "stop") -> Said | None:
    """Cut speech to its sounds; with ``pauses`` "pause" one inside a word is a sound too, the glottal stop."""
    sounds = [(time, classes(ipa), marks(ipa)) for time, ipa in spoken.phonemes]
    last = max((place for place, (_, found, _) in enumerate(sounds) if found), default=-1)
    if last < 0:
        return None
    if pauses == "pause":
        for place, (time, ipa) in enumerate(spoken.phonemes[:last]):
            until = sounds[place + 1][0]
            # A word that begins where a pause ends is another word.
            between = any(time < start <= until + 2 for start in spoken.words)
            if not ipa and until - time >= _SHORTEST_PAUSE and not between:
                sounds[place] = (time, (_GLOTTAL,), 0)
    end = sounds[last + 1][0] if last + 1 < len(sounds) else len(spoken.samples) * 1000 // spoken.rate
    phones: list[int] = []
    marked: list[int] = []
    starts: list[int] = []
    stops: list[int] = []
    for place, (time, found, mark) in enumerate(sounds[: last + 1]):
        until = sounds[place + 1][0] if place < last else end
        for number, phone in enumerate(found):
            # A diphthong is two sounds, each half as long: the library gives the whole.
            phones.append(phone)
            # Of a diphthong the first is the vowel that is marked.
            marked.append(mark if number == 0 and phone >= FIRST_VOWEL else 0)
            starts.append(time + (until - time) * number // len(found))
            stops.append(time + (until - time) * (number + 1) // len(found))
    first = max(0, starts[0] - int(rng.integers(20, 70)))
    tail = end + int(rng.integers(10, 60))
    words = [max(0, int(np.searchsorted(spoken.words, time + 1)) - 1) for time in starts]
    return Said(
        _recorded(spoken, first, tail, rng),
        tuple(phones),
        tuple(marked),
        tuple(start - first for start in starts),
        tuple(stop - first for stop in stops),
        tuple(word - words[0] for word in words),
    )


def _recorded(spoken: Spoken, first: int, tail: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut to the sounds, at 16 kHz, with a level and a floor of noise that vary as recordings do."""
    from scipy.signal import resample_poly

    cut = spoken.samples[first * spoken.rate // 1000 : tail * spoken.rate // 1000].astype(np.float32) / 2**15
    step = int(np.gcd(RATE, spoken.rate))
    samples = resample_poly(cut, RATE // step, spoken.rate // step)
    level = 0.7 * 10 ** rng.uniform(-0.5, 0.1) / max(1e-3, float(np.abs(samples).max()))
    noise = rng.normal(0, 10 ** rng.uniform(-4.5, -2.7), len(samples))
    return np.clip(samples * level + noise, -1, 1).astype(np.float32)
