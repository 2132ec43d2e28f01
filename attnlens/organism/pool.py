"""A pool of spoken utterances for training: log-mel frames and sounds of many clips in a few arrays on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.errors import BadInput
from attnlens.models.qwen3_asr import windowed
from attnlens.organism.languages import Word

__all__ = ["WINDOW", "Entry", "Pool", "read_pool", "write_pool"]

WINDOW = 100
"""Frames of a window; features are padded to whole ones."""
_INTEGERS = ("frame_start", "phone_start", "phones", "marks", "starts", "stops", "words", "language", "voice")


@dataclass(frozen=True)
class Entry:
    """One utterance on its way into a pool: frames float16 [frames, mels]; ``text`` is "" for a made-up language."""

    mel: NDArray[np.float16]
    phones: tuple[int, ...]
    marks: tuple[int, ...]
    starts: tuple[int, ...]
    stops: tuple[int, ...]
    words: tuple[int, ...]
    language: str
    voice: str
    text: str


@dataclass(frozen=True, eq=False)
class Pool:
    """Utterances by number, each of one language in one voice.

    ``mel`` [frames, mels] and ``phones``, ``marks``, ``starts`` and ``stops`` (ms), ``words`` [phones] hold all clips
    end to end; those of utterance i are at ``frame_start[i] : frame_start[i + 1]``, and likewise.
    """

    mel: NDArray[np.float16]
    frame_start: NDArray[np.int64]
    phone_start: NDArray[np.int64]
    phones: NDArray[np.int64]
    marks: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    words: NDArray[np.int64]
    language: NDArray[np.int64]
    voice: NDArray[np.int64]
    texts: tuple[str, ...]
    languages: tuple[str, ...]
    voices: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.language)

    @cached_property
    def by_language(self) -> tuple[NDArray[np.int64], ...]:
        """The numbers of each language's utterances, the shortest first."""
        order = np.argsort(np.diff(self.frame_start), kind="stable")
        return tuple(order[self.language[order] == number] for number in range(len(self.languages)))

    def sounds(self, number: int) -> tuple[NDArray[np.int64], ...]:
        """Return phone ids, marks, starts and stops in ms and word numbers, each [phones], of one utterance."""
        part = slice(self.phone_start[number], self.phone_start[number + 1])
        return self.phones[part], self.marks[part], self.starts[part], self.stops[part], self.words[part]

    def spelling(self, number: int) -> tuple[Word, ...]:
        """Return an utterance of a made-up language as words of phone ids."""
        return self._by_word(number, self.phones)

    def marking(self, number: int) -> tuple[tuple[int, ...], ...]:
        """Return the marks of an utterance, alike in shape to its spelling."""
        return self._by_word(number, self.marks)

    def _by_word(self, number: int, values: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
        part = slice(self.phone_start[number], self.phone_start[number + 1])
        words = self.words[part]
        return tuple(tuple(values[part][words == word].tolist()) for word in range(int(words[-1]) + 1))

    def frames(self, number: int) -> NDArray[np.float16]:
        """Return the log-mel frames [frames, mels] of one utterance."""
        return self.mel[self.frame_start[number] : self.frame_start[number + 1]]

    def features(self, number: int) -> Features:
        """Return what the extractor would give for the clip, but for the rounding to half precision."""
        frames = self.frames(number)
        count = len(frames)
        padded = np.zeros((1, frames.shape[1], -(-count // WINDOW) * WINDOW), dtype=np.float32)
        padded[0, :, :count] = frames.T
        mask = np.zeros((1, padded.shape[2]), dtype=np.int64)
        mask[0, :count] = 1
        return Features({"input_features": padded, "input_features_mask": mask}, windowed(count))


def write_pool(entries: Iterable[Entry], folder: Path) -> Pool:
    """Write a pool's arrays into a new folder and return it."""
    made = list(entries)
    if not made:
        raise BadInput("a pool holds at least one utterance", given="none", fix="ask for more languages or voices")
    languages = tuple(dict.fromkeys(one.language for one in made))
    voices = tuple(dict.fromkeys(one.voice for one in made))
    arrays: dict[str, Any] = {
        "frame_start": np.cumsum([0, *(len(one.mel) for one in made)]),
        "phone_start": np.cumsum([0, *(len(one.phones) for one in made)]),
        "phones": np.concatenate([one.phones for one in made]),
        "marks": np.concatenate([one.marks for one in made]),
        "starts": np.concatenate([one.starts for one in made]),
        "stops": np.concatenate([one.stops for one in made]),
        "words": np.concatenate([one.words for one in made]),
        "language": np.asarray([languages.index(one.language) for one in made]),
        "voice": np.asarray([voices.index(one.voice) for one in made]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "mel.npy", np.concatenate([one.mel for one in made]))
    np.savez_compressed(folder / "sounds.npz", **arrays)
    names = {"texts": [one.text for one in made], "languages": languages, "voices": voices}
    # Written last: a folder without it is a pool that was never finished.
    (folder / "names.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    return read_pool(folder)


def read_pool(folder: Path | str) -> Pool:
    """Open a pool; the frames stay on disk until they are read."""
    folder = Path(folder)
    if not (folder / "names.json").is_file():
        raise BadInput(
            f"there is no pool in {folder}", fix="make it: python experiments/organism/synthesise.py, or make organism"
        )
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    with np.load(folder / "sounds.npz") as sounds:
        lacking = [name for name in _INTEGERS if name not in sounds]
        if lacking:
            raise BadInput(
                f"the pool in {folder} is of an older form",
                present=f"no {', '.join(lacking)}",
                fix="remove the folder and synthesise it again",
            )
        arrays: dict[str, Any] = {name: sounds[name].astype(np.int64) for name in _INTEGERS}
    mel = np.load(folder / "mel.npy", mmap_mode="r")
    texts, known, voices = (tuple(names[name]) for name in ("texts", "languages", "voices"))
    return Pool(mel=mel, **arrays, texts=texts, languages=known, voices=voices)
