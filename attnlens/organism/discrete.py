"""The first stage: the decoder learns to learn spellings from phone tokens, from one sound a word up to phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Features
from attnlens.context.prompt import Condition
from attnlens.errors import BadInput
from attnlens.organism.body import ORDINALS, WORDS, Body, make_size, write_parts
from attnlens.organism.languages import Word, make_language
from attnlens.organism.lessons import Batch, collate, make_lesson
from attnlens.organism.orthography import make_orthography
from attnlens.organism.phones import PHONES, SILENCE
from attnlens.train.episodes import EpisodeBuilder

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DiscreteRecipe", "Stage", "positions_of"]

_REVISITS = 0.2
"""How often an earlier stage is practised again."""
_MEMORY = 0.9
"""Of the running mean of covered accuracy."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the curriculum: how many sounds, how long words and phrases are, how long a sound lasts.

    With ``lexicon`` 0 words are any sequence of sounds; with more, they come from a language with that many words.
    ``slips`` is the share of sounds that are heard as another one, as an ear does.
    """

    phones: int
    word: tuple[int, int]
    words: tuple[int, int] = (1, 1)
    shots: tuple[int, int] = (8, 8)
    lasting: tuple[int, int] = (1, 1)
    lexicon: int = 0
    digraphs: float = 0.0
    slips: float = 0.0
    conditions: Mapping[Condition, float] | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Stage:
        """Read a stage from a spec."""
        try:
            given: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
            return cls(**given)
        except TypeError as error:
            raise BadInput(f"stage: {error}", present=", ".join(cls.__dataclass_fields__)) from None


class DiscreteRecipe:
    """Train the decoder on a curriculum that moves on when the letters that the pairs cover are mastered.

    Parameters
    ----------
    size
        See :class:`Size`.
    stages
        See :class:`Stage`; the next begins when covered accuracy passes ``pass_at``.
    done_at
        The covered accuracy of the last stage that ends training.
    auxiliary, middle
        The weight of the losses on sounds, and the layer whose first head they read (see :class:`Body`).
    """

    metric: ClassVar[str] = "score"
    better: ClassVar[Literal["lower", "higher"]] = "higher"
    ahead: ClassVar[bool] = False

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        stages: Sequence[Mapping[str, Any]],
        size: dict[str, int] | None = None,
        batch_size: int = 32,
        pass_at: float = 0.95,
        done_at: float = 0.985,
        auxiliary: float = 0.5,
        middle: int | None = None,
        new: float = 0.1,
        unheard: float = 0.3,
        dev_lessons: int = 32,
    ) -> None:
        if not stages:
            raise BadInput("the curriculum has no stages", fix="write at least one under options.stages")
        self.stages = [Stage.of(one) for one in stages]
        self.body = Body(make_size(size), seed=seed, middle=middle)
        # The ear is not in use yet: what has no gradient would still be decayed.
        for part in (self.body.model.model.audio_tower, self.body.model.model.multi_modal_projector):
            part.requires_grad_(False)
        self.seed, self.batch_size, self.dev_lessons = seed, batch_size, dev_lessons
        self.pass_at, self.done_at = pass_at, done_at
        self.weights = {"auxiliary": auxiliary, "new": new, "unheard": unheard, "unpaired": new}
        self.stage, self.mean = 0, 0.0
        self.builders = [_builder(stage) for stage in self.stages]

    @property
    def module(self) -> nn.Module:
        """The model and the training parts."""
        return self.body.parts

    def batch(self, rng: np.random.Generator) -> tuple[int, Batch]:
        """Make lessons of the present stage, or now and then of an earlier one."""
        number = self.stage
        if number and rng.random() < _REVISITS:
            number = int(rng.integers(number))
        return number, self._lessons(number, rng, self.batch_size)

    def loss(self, batch: tuple[int, Batch]) -> tuple[Tensor, dict[str, float]]:
        """Return the loss; covered accuracy is told only for the present stage."""
        number, lessons = batch
        heard = self.body.exercise(lessons.clips) if lessons.clips else None
        loss, figures = self.body.losses(lessons, heard, **self.weights)
        if number != self.stage:
            figures["revisited"] = figures.pop("covered", 0.0)
        return loss, {"stage": float(self.stage), **figures}

    def evaluate(self) -> dict[str, float]:
        """Measure covered accuracy on lessons of the present stage that are the same each time it is measured."""
        rng = np.random.default_rng([self.seed, 2, self.stage])
        lessons = self._lessons(self.stage, rng, self.dev_lessons)
        heard = self.body.exercise(lessons.clips) if lessons.clips else None
        _, figures = self.body.losses(lessons, heard, **self.weights)
        # A later stage is worth more than a better accuracy in an earlier one.
        return {"score": self.stage + figures.get("covered", 0.0), **figures}

    def after_step(self, step: int, figures: dict[str, float]) -> str | None:
        """Move on when the stage is mastered."""
        if "covered" not in figures:
            return None
        self.mean = _MEMORY * self.mean + (1 - _MEMORY) * figures["covered"]
        figures["mean_covered"] = self.mean
        last = self.stage == len(self.stages) - 1
        if last:
            return "done" if self.mean > self.done_at else None
        if self.mean > self.pass_at:
            self.stage, self.mean = self.stage + 1, 0.0
            return f"stage {self.stage}"
        return None

    def state(self) -> dict[str, Any]:
        """Return where in the curriculum training is."""
        return {"stage": self.stage, "mean": self.mean}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to where it was."""
        self.stage, self.mean = int(state["stage"]), float(state["mean"])

    def export(self, folder: Path) -> None:
        """Hand the decoder and the phone embeddings to the next stage."""
        write_parts(self.body.parts, self.body.size, folder)

    def _lessons(self, number: int, rng: np.random.Generator, count: int) -> Batch:
        stage, builder = self.stages[number], self.builders[number]
        made = []
        for _ in range(count):
            said = _phrases(stage, builder.most_shots + 1, rng)
            used = sorted({phone for words in said for word in words for phone in word})
            orthography = make_orthography(rng.permutation(used).tolist(), rng, digraphs=stage.digraphs)
            made.append(
                make_lesson(
                    [orthography.write(words, [[0] * len(word) for word in words]) for words in said],
                    [positions_of(words, stage.lasting, rng, slips=stage.slips) for words in said],
                    builder=builder,
                    front=self.body.front,
                    end_token=self.body.end_token,
                    rng=rng,
                )
            )
        return collate(made)


def _builder(stage: Stage) -> EpisodeBuilder:
    least, most = stage.shots
    return EpisodeBuilder(
        shots=dict.fromkeys(range(least, most + 1), 1.0),
        conditions=stage.conditions or {"micl": 1.0},
        duplicates="keep-text",
    )


def _phrases(stage: Stage, count: int, rng: np.random.Generator) -> list[tuple[Word, ...]]:
    inventory = (rng.permutation(len(PHONES) - 1)[: stage.phones] + 1).tolist()
    if stage.lexicon:
        language = make_language("x", rng, length=stage.word, lexicon=stage.lexicon)
        return [language.phrase(rng, words=stage.words) for _ in range(count)]

    def word() -> Word:
        length = int(rng.integers(stage.word[0], stage.word[1] + 1))
        return tuple(inventory[int(place)] for place in rng.integers(0, len(inventory), length))

    return [tuple(word() for _ in range(int(rng.integers(stage.words[0], stage.words[1] + 1)))) for _ in range(count)]


def positions_of(
    words: Sequence[Word], lasting: tuple[int, int], rng: np.random.Generator, *, slips: float = 0.0
) -> Features:
    """Return phone tokens in the place of audio: each sound fills ``lasting`` = (least, most) positions, as do pauses.

    >>> made = positions_of([(1, 2), (3,)], (1, 1), np.random.default_rng(0))
    >>> made.arrays["phones"].tolist(), made.arrays["ordinals"].tolist(), made.arrays["words"].tolist()
    ([1, 2, 0, 3], [0, 1, 0, 0], [0, 0, 1, 1])
    """
    phones: list[int] = []
    ordinals: list[int] = []
    numbers: list[int] = []
    for number, word in enumerate(words):
        said = [*([SILENCE] if number else []), *word]
        phones += said
        ordinals += [0] * (len(said) - len(word)) + [min(place, ORDINALS - 1) for place in range(len(word))]
        numbers += [min(number, WORDS - 1)] * len(said)
    times = rng.integers(lasting[0], lasting[1] + 1, len(phones))
    misheard = rng.random(len(phones)) < slips
    other = rng.integers(1, len(PHONES), len(phones))
    phones = [new if wrong and phone else phone for phone, wrong, new in zip(phones, misheard, other, strict=True)]
    arrays: dict[str, NDArray[Any]] = {
        name: np.repeat(np.asarray(values, dtype=np.int64), times)
        for name, values in (("phones", phones), ("ordinals", ordinals), ("words", numbers))
    }
    return Features(arrays, int(times.sum()))
