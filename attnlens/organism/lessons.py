"""A lesson: one episode in one orthography, with what the loss and the auxiliary losses need at each position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Ears, Features, FrontEnd
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import SelfCheckFailed
from attnlens.organism.orthography import Written
from attnlens.organism.phones import SILENCE
from attnlens.train.episodes import EpisodeBuilder, Task
from attnlens.train.example import Example, encode_example

__all__ = [
    "COVERED",
    "END",
    "NEW",
    "NOTHING",
    "UNHEARD",
    "UNPAIRED",
    "Batch",
    "Lesson",
    "collate",
    "make_lesson",
    "side_by_side",
    "stand_in",
]

NOTHING, COVERED, NEW, END, UNHEARD, UNPAIRED = range(6)
"""Kinds of positions: untrained; predicting a letter that earlier pairs have shown, or not yet; predicting the end of a
text; predicting text without its audio, or with it after texts that were shown without theirs."""


Sign = tuple[str, int]


@dataclass(frozen=True)
class Lesson:
    """An example with a kind for each position [n], and the phone that is to be written next and was written last.

    Phones are -1 where there is none or nobody says.
    """

    example: Example
    kinds: NDArray[np.int64]
    next_phone: NDArray[np.int64]
    own_phone: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Lessons side by side, padded on the right: arrays [lessons, positions], and the clips' arrays in order."""

    ids: NDArray[np.int64]
    targets: NDArray[np.int64]
    kinds: NDArray[np.int64]
    next_phone: NDArray[np.int64]
    own_phone: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Positions of each lesson without its padding."""
    clips: dict[str, NDArray[Any]]
    characters: int
    """Characters of the answers."""


def stand_in(number: int) -> Audio:
    """Return audio that stands for a clip by its number: what is said is known elsewhere."""
    return Audio.from_array(np.asarray([number], dtype=np.float32))


def make_lesson(
    written: Sequence[Written],
    clips: Sequence[Features],
    *,
    builder: EpisodeBuilder,
    front: FrontEnd,
    end_token: int,
    rng: np.random.Generator,
    trained: Literal["all-texts", "answer"] = "all-texts",
) -> Lesson:
    """Draw one episode from utterances of one language in one orthography.

    Parameters
    ----------
    written, clips
        The utterances' texts and features, alike in number.
    trained
        Every transcript of the prompt, or the answer alone as in use.
    """
    utterances = [Utterance(str(number), stand_in(number), one.text, "xx") for number, one in enumerate(written)]
    prompt = builder.build(Task("xx", utterances), rng)
    ears: Ears = lambda audio: clips[_number(audio)]  # noqa: E731
    example = encode_example(
        prompt,
        front,
        end_token=end_token,
        trained=("demo_text", "output") if trained == "all-texts" else ("output",),
        ears=ears,
    )
    n = len(example.targets)
    lesson = Lesson(example, np.zeros(n, np.int64), np.full(n, -1), np.full(n, -1))
    spans, shown = example.encoded.spans, set[Sign]()
    paired = prompt.condition in ("micl", "asr") and prompt.pair_order == "audio-first"
    for index, demo in enumerate(prompt.demonstrations):
        if demo.text is None:
            continue
        text = written[int(demo.text_id)]
        if trained == "all-texts":
            _mark(lesson, spans.positions("demo_text", demo=index), text, shown if paired else None)
        if demo.audio is not None:
            shown |= set(_signs(text))
    heard = prompt.target.audio is not None
    _mark(
        lesson,
        spans.positions("output"),
        written[int(prompt.target.id)],
        shown if heard else None,
        unshown=UNPAIRED if prompt.condition == "icl" else NEW,
    )
    return lesson


def _signs(text: Written) -> list[Sign]:
    """Return what has to be known to write each character: which phone it stands for, -1 where nobody says."""
    return list(zip(text.text, text.phones, strict=True))


def _number(audio: Audio) -> int:
    return int(audio.load()[0])


def _mark(
    lesson: Lesson, positions: NDArray[np.int64], text: Written, shown: set[Sign] | None, *, unshown: int = NEW
) -> None:
    """Fill in what predicts the characters of a text; ``shown`` None for a text that is not heard."""
    length = len(text.text)
    if len(positions) not in (length, length + 1):
        raise SelfCheckFailed(
            "the tokenizer does not give one token a character", given=text.text, present=f"{len(positions)} tokens"
        )
    # Before its first word a text may have a space of the template's.
    at = positions[len(positions) - length :] - 1
    end = int(positions[-1])
    if shown is None:
        lesson.kinds[at] = UNHEARD
        lesson.kinds[end] = UNHEARD
        return
    lesson.kinds[at] = [COVERED if one in shown or one[0] == " " else unshown for one in _signs(text)]
    lesson.kinds[end] = END
    phones = np.asarray(text.phones, dtype=np.int64)
    lesson.next_phone[at] = phones
    lesson.own_phone[at[1:]] = phones[:-1]
    if phones[-1] >= 0:
        lesson.next_phone[end], lesson.own_phone[end] = SILENCE, phones[-1]


def collate(lessons: Sequence[Lesson]) -> Batch:
    """Pad lessons on the right, where a causal model does not see it, and lay their clips side by side."""
    width = max(len(one.kinds) for one in lessons)

    def padded(arrays: Sequence[NDArray[np.int64]], value: int) -> NDArray[np.int64]:
        return np.stack([np.pad(one, (0, width - len(one)), constant_values=value) for one in arrays])

    return Batch(
        ids=padded([one.example.encoded.ids for one in lessons], 0),
        targets=padded([one.example.targets for one in lessons], -100),
        kinds=padded([one.kinds for one in lessons], NOTHING),
        next_phone=padded([one.next_phone for one in lessons], -1),
        own_phone=padded([one.own_phone for one in lessons], -1),
        lengths=np.asarray([len(one.kinds) for one in lessons]),
        clips=side_by_side([clip for one in lessons for clip in one.example.encoded.features]),
        characters=sum(len(one.example.encoded.prompt.target.text) for one in lessons),
    )


def side_by_side(clips: Sequence[Features]) -> dict[str, NDArray[Any]]:
    """Stack arrays of [1, ..., length] padded at the end, or lay arrays of [positions] end to end."""
    made: dict[str, NDArray[Any]] = {}
    for name in clips[0].arrays if clips else ():
        arrays = [clip.arrays[name] for clip in clips]
        if arrays[0].ndim == 1:
            made[name] = np.concatenate(arrays)
            continue
        longest = max(one.shape[-1] for one in arrays)
        made[name] = np.concatenate(
            [np.pad(one, [(0, 0)] * (one.ndim - 1) + [(0, longest - one.shape[-1])]) for one in arrays]
        )
    return made
