"""espeak-ng by ctypes: speech with the times of its phonemes. Needed to build corpora, never to use the organism."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

__all__ = ["Espeak", "Spoken"]

_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7
_SYNCHRONOUS, _PHONEMES_AS_IPA = 2, 1 | 2
_UTF8, _PHONEME_INPUT = 1, 0x100
_WORD, _PHONEME, _END = 1, 7, 0


@dataclass(frozen=True)
class Spoken:
    """Speech as espeak-ng makes it: int16 samples [n] at ``rate``, the phonemes' (milliseconds, IPA), words' starts."""

    samples: NDArray[np.int16]
    rate: int
    phonemes: tuple[tuple[int, str], ...]
    words: tuple[int, ...]


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """A synthesiser whose speech depends on what it has said so far, and not on what another one said.

    The library keeps the phase of its waves, its flutter and more in global variables that nothing resets, so that the
    same word twice is not the same samples. Each object therefore loads a copy of its own. What is left: variants with
    ``breath`` (f2, f5 and others) read memory that the library never sets, and differ between runs in the last bits.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise BadInput(
                "speech cannot be synthesised without espeak-ng",
                present="no package espeakng-loader",
                fix="pip install 'attnlens[organism]'",
            ) from None
        with tempfile.TemporaryDirectory() as folder:
            # Loaded under a name of its own, a library has variables of its own.
            self._library: Any = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
        self._library.espeak_Info.restype = ctypes.c_char_p
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEMES_AS_IPA))
        self._chunks: list[NDArray[np.int16]] = []
        self._phonemes: list[tuple[int, str]] = []
        self._words: list[int] = []
        # The library keeps a bare pointer to this; without a reference here it would be collected.
        self._callback = _CALLBACK(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """Free what the library holds."""
        self._library.espeak_Terminate()

    @property
    def version(self) -> str:
        """The library's own version."""
        return self._library.espeak_Info(None).decode()

    def say(self, text: str, *, voice: str, speed: int, pitch: int = 50, pitch_range: int = 50, gap: int = 0) -> Spoken:
        """Speak a text; phoneme mnemonics go in double brackets, as in ``[[m'a|m'a]]``; ``gap`` is the pause between
        words, in units of 10 ms at the default speed.

        A voice is a language and a variant, such as ``qu+m3``. An unknown language is refused; of an unknown variant
        the library says nothing.
        """
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise BadInput(f"espeak-ng has no voice {voice!r}", fix="pass one that `espeak-ng --voices` lists")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, pitch_range), (_WORD_GAP, gap)):
            library.espeak_SetParameter(parameter, value, 0)
        for heard in (self._chunks, self._phonemes, self._words):
            heard.clear()
        encoded = text.encode()
        flags = _UTF8 | _PHONEME_INPUT
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, flags, None, None)
        library.espeak_Synchronize()
        samples = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)
        return Spoken(samples, self.rate, tuple(self._phonemes), tuple(self._words))

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END:
            event = events[index]
            if event.type == _PHONEME:
                self._phonemes.append((event.audio_position, event.id.string.decode("utf-8", "ignore")))
            elif event.type == _WORD:
                self._words.append(event.audio_position)
            index += 1
        return 0
