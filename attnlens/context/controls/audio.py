"""Controls of the demonstrations' sound: speech, speech-like sound, or just something in the place of audio?

The target's audio is never touched here. Nothing is decoded: each control adds an edit that decoding carries out.
"""

from __future__ import annotations

from dataclasses import replace

from attnlens.context.controls.base import WITH_AUDIO, Control, Draw
from attnlens.context.prompt import Demonstration, Prompt

__all__ = [
    "AUDIO_CHUNK_SHUFFLED",
    "AUDIO_NOISE",
    "AUDIO_REVERSED",
    "AUDIO_SILENCED",
    "audio_chunk_shuffled",
    "audio_noise",
    "audio_reversed",
    "audio_silenced",
]


def audio_reversed(prompt: Prompt, draw: Draw) -> Prompt:
    """Play every demonstration's audio backwards, to ask whether its speech content matters.

    Keeps: the samples of each clip, hence length, loudness, long-term spectrum and voice quality; all texts.
    Destroys: the order of sounds, in the large and inside each sound.
    """
    return _edited(prompt, "reverse", None)


def audio_chunk_shuffled(prompt: Prompt, draw: Draw) -> Prompt:
    """Shuffle every audio in chunks of 200 ms, to ask whether its sequence matters beyond its sounds.

    Keeps: the samples of each clip, and sounds and syllables shorter than a chunk; all texts.
    Destroys: words, and the order that the text could be aligned with. Each clip has its own draw.
    """
    return _edited(prompt, "chunk-shuffle", draw)


def audio_silenced(prompt: Prompt, draw: Draw) -> Prompt:
    """Silence every demonstration's audio, to ask what mere audio positions do.

    Keeps: the length of each clip, hence every position; all texts.
    Destroys: all sound.
    """
    return _edited(prompt, "silence", None)


def audio_noise(prompt: Prompt, draw: Draw) -> Prompt:
    """Replace every audio by noise with its spectrum, to ask whether more than timbre and level matters.

    Keeps: the length and the long-term magnitude spectrum of each clip; all texts.
    Destroys: everything in time: sounds, words, pauses. Each clip has its own draw.
    """
    return _edited(prompt, "spectrum-noise", draw)


def _edited(prompt: Prompt, edit: str, draw: Draw | None) -> Prompt:
    # An edit without chance keeps seed 0, so that equal clips stay equal data and are decoded and encoded once.
    def changed(demonstration: Demonstration) -> Demonstration:
        seed = 0 if draw is None else draw.seed_of(demonstration.id)
        audio = demonstration.audio
        return replace(demonstration, audio=None if audio is None else audio.edited(edit, seed=seed))

    return replace(prompt, demonstrations=tuple(changed(demonstration) for demonstration in prompt.demonstrations))


AUDIO_REVERSED = Control(audio_reversed, conditions=WITH_AUDIO)
AUDIO_CHUNK_SHUFFLED = Control(audio_chunk_shuffled, conditions=WITH_AUDIO)
AUDIO_SILENCED = Control(audio_silenced, conditions=WITH_AUDIO)
AUDIO_NOISE = Control(audio_noise, conditions=WITH_AUDIO)
