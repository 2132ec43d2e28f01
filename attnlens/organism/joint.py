"""The third stage: the whole organism on episodes of speech, each language in a spelling it has never had before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from attnlens.context.prompt import Condition, PairOrder
from attnlens.errors import BadInput
from attnlens.organism.body import Body, make_size, read_parts, write_parts
from attnlens.organism.hearing import encode_clips
from attnlens.organism.lessons import Batch, collate, make_lesson
from attnlens.organism.model import save_model
from attnlens.organism.orthography import Written, make_cipher, make_orthography
from attnlens.organism.phones import nasal_phones
from attnlens.organism.plug import plug_in
from attnlens.organism.pool import Pool, read_pool
from attnlens.train.episodes import EpisodeBuilder

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["JointRecipe"]

_SHORTEST = 0.25
"""The share of a language's utterances that a ramp begins with."""


class JointRecipe:
    """Train on episodes of a pool: a language, a spelling drawn for it, demonstrations, a condition.

    Parameters
    ----------
    pool, dev_pool
        Folders of pools.
    decoder, encoder
        Folders of the earlier stages' ``model``; None starts from random weights, for tests.
    resume_from
        A folder of an earlier joint run's ``model``, in the place of both.
    shots, conditions, templates, pair_orders
        See :class:`EpisodeBuilder`.
    real
        The share of episodes in real languages, spelt in cipher; the others are in made-up ones.
    plain
        The share of episodes of real languages that keep their own spelling.
    digraphs, marked
        See :func:`make_orthography`.
    stress
        The share of episodes of made-up languages whose spelling writes stress.
    nasal
        The share of such episodes whose spelling writes nasal vowels, if the language has any.
    auxiliary, new, unheard, unpaired
        Weights of losses, see :meth:`Body.losses`; ``unpaired`` None is ``new``.
    frozen_ear
        Steps before the encoder is trained too.
    ramp
        Steps over which utterances grow from the shortest of each language to all of them; batches depend on the step
        then, and cannot be made ahead.
    """

    metric: ClassVar[str] = "bits_per_character"
    better: ClassVar[Literal["lower", "higher"]] = "lower"

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        pool: str,
        dev_pool: str,
        decoder: str | None = None,
        encoder: str | None = None,
        resume_from: str | None = None,
        size: dict[str, int] | None = None,
        batch_size: int = 8,
        shots: Mapping[int, float] | None = None,
        conditions: Mapping[Condition, float] | None = None,
        templates: Mapping[str, float] | None = None,
        pair_orders: Mapping[PairOrder, float] | None = None,
        real: float = 0.5,
        plain: float = 0.0,
        digraphs: float = 0.15,
        marked: float = 0.15,
        stress: float = 0.0,
        nasal: float = 0.0,
        auxiliary: float = 0.3,
        middle: int | None = None,
        new: float = 0.1,
        unheard: float = 0.3,
        unpaired: float | None = None,
        frozen_ear: int = 0,
        ramp: int = 0,
        augment: Literal["on", "off"] = "on",
        plug_clips: int = 2000,
        dev_lessons: int = 48,
        dev_shots: int = 8,
    ) -> None:
        self.pool, self.dev_pool = read_pool(pool), read_pool(dev_pool)
        self.builder = EpisodeBuilder(
            shots=shots or dict.fromkeys(range(17), 1.0),
            conditions=conditions or {"micl": 0.7, "icl": 0.1, "t-icl": 0.1, "a-icl": 0.05, "asr": 0.05},
            templates=templates or {"default": 1.0},
            pair_orders=pair_orders or {"audio-first": 1.0},
            duplicates="keep-text",
        )
        dev_conditions: tuple[Condition, ...] = ("asr", "t-icl", "icl", "micl")
        self.dev_builders = {
            condition: EpisodeBuilder(
                shots={0 if condition == "asr" else dev_shots: 1.0},
                conditions={condition: 1.0},
                duplicates="keep-text",
            )
            for condition in dev_conditions
        }
        self.real, self.plain, self.digraphs, self.marked = real, plain, digraphs, marked
        self.stress, self.nasal = stress, nasal
        self.kinds = {id(one): _kinds(one) for one in (self.pool, self.dev_pool)}
        for one in (self.pool, self.dev_pool):
            _require(one, max(self.builder.most_shots, dev_shots), self.kinds[id(one)], real)
        self.body = Body(make_size(size), seed=seed, middle=middle)
        self.seed, self.batch_size, self.dev_lessons = seed, batch_size, dev_lessons
        self.augment: Literal["on", "off"] = augment
        unpaired = new if unpaired is None else unpaired
        self.weights = {"auxiliary": auxiliary, "new": new, "unheard": unheard, "unpaired": unpaired}
        self.frozen_ear, self.step, self.explained = frozen_ear, 0, float("nan")
        self.ramp, self.ahead = ramp, ramp == 0
        self._load(decoder, encoder, resume_from, plug_clips)

    @property
    def module(self) -> nn.Module:
        """The model and the training parts."""
        return self.body.parts

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw episodes."""
        share = min(1.0, _SHORTEST + (1 - _SHORTEST) * self.step / self.ramp) if self.ramp else 1.0
        return collate(
            [
                self._lesson(self.pool, self.builder, rng, real=self.real, trained="all-texts", share=share)
                for _ in range(self.batch_size)
            ]
        )

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the episodes' transcripts."""
        heard = self._heard(batch, augment=self.augment, learning=self.step >= self.frozen_ear)
        return self.body.losses(batch, heard, **self.weights)

    def evaluate(self) -> dict[str, float]:
        """Measure bits per character in unseen languages and voices, by condition; ``micl`` is the metric."""
        found: dict[str, float] = {}
        for condition, builder in self.dev_builders.items():
            rng = np.random.default_rng([self.seed, 4])
            bits = characters = 0.0
            for start in range(0, self.dev_lessons, self.batch_size):
                count = min(self.batch_size, self.dev_lessons - start)
                batch = collate(
                    [self._lesson(self.dev_pool, builder, rng, real=self.real, trained="answer") for _ in range(count)]
                )
                bits += self.body.answer_bits(batch, self._heard(batch, augment="off", learning=False))
                characters += batch.characters
            found[f"bits_{condition}"] = bits / characters
        return {self.metric: found["bits_micl"], **found}

    def after_step(self, step: int, figures: dict[str, float]) -> str | None:
        """Count steps, and let the ear learn when its time has come."""
        self.step = step
        return "the ear learns too" if self.frozen_ear and step == self.frozen_ear else None

    def state(self) -> dict[str, Any]:
        """Return the steps done."""
        return {"step": self.step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the steps back."""
        self.step = int(state["step"])

    def export(self, folder: Path) -> None:
        """Write the organism as a checkpoint in half precision, and beside it the parts in full to go on from."""
        save_model(self.body.model, self.body.front, folder)
        write_parts(self.body.parts, self.body.size, folder.parent / "parts")

    def _lesson(
        self,
        pool: Pool,
        builder: EpisodeBuilder,
        rng: np.random.Generator,
        *,
        real: float,
        trained: Literal["all-texts", "answer"],
        share: float = 1.0,
    ) -> Any:
        made_up, texts = self.kinds[id(pool)]
        numbers = texts if rng.random() < real else made_up
        language = pool.by_language[numbers[int(rng.integers(len(numbers)))]]
        language = language[: max(builder.most_shots + 1, int(share * len(language)))]
        said = rng.choice(language, builder.most_shots + 1, replace=False).tolist()
        return make_lesson(
            self._written(pool, said, rng),
            [pool.features(number) for number in said],
            builder=builder,
            front=self.body.front,
            end_token=self.body.end_token,
            rng=rng,
            trained=trained,
        )

    def _written(self, pool: Pool, said: list[int], rng: np.random.Generator) -> list[Written]:
        texts = [pool.texts[number] for number in said]
        if texts[0]:
            if rng.random() < self.plain:
                return [Written(text, (-1,) * len(text)) for text in texts]
            cipher = make_cipher(texts, rng, marked=self.marked)
            return [cipher.write(text) for text in texts]
        spelt = [pool.spelling(number) for number in said]
        marks = [pool.marking(number) for number in said]
        used = sorted({phone for words in spelt for word in words for phone in word})
        nasal = sorted(set[int]().union(*map(nasal_phones, spelt, marks)))
        orthography = make_orthography(
            rng.permutation(used).tolist(),
            rng,
            digraphs=self.digraphs,
            marked=self.marked,
            stress="written" if rng.random() < self.stress else "unwritten",
            nasal=nasal if rng.random() < self.nasal else (),
        )
        return [orthography.write(words, bits) for words, bits in zip(spelt, marks, strict=True)]

    def _heard(self, batch: Batch, *, augment: Literal["on", "off"], learning: bool) -> Tensor | None:
        import torch

        if not batch.clips:
            return None
        model: Any = self.body.model.model
        device = model.multi_modal_projector.linear_1.weight.device
        mel = torch.as_tensor(batch.clips["input_features"], device=device)
        mask = torch.as_tensor(batch.clips["input_features_mask"], device=device)
        with torch.set_grad_enabled(learning and torch.is_grad_enabled()):
            states = encode_clips(model.audio_tower, mel, mask, augment=augment)
        return model.multi_modal_projector(states)

    def _load(self, decoder: str | None, encoder: str | None, resume_from: str | None, clips: int) -> None:
        if resume_from is not None:
            self.body.parts.load_state_dict(read_parts(resume_from, self.body.size))
            return
        if (decoder is None) != (encoder is None):
            raise BadInput("decoder and encoder come together", given=f"decoder={decoder}, encoder={encoder}")
        if decoder is None or encoder is None:
            return
        self.body.parts.load_state_dict(read_parts(decoder, self.body.size))
        parts, model = read_parts(encoder, self.body.size), self.body.model.model
        for prefix, module in (("tower.", model.audio_tower), ("first.", model.multi_modal_projector.linear_1)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in parts.items() if k.startswith(prefix)})
        model.requires_grad_(True)
        self.explained = plug_in(self.body, self.pool, clips=clips, seed=self.seed)


def _kinds(pool: Pool) -> tuple[list[int], list[int]]:
    """Return the numbers of made-up and of real languages."""
    texts = [bool(pool.texts[int(numbers[0])]) for numbers in pool.by_language]
    return [n for n, real in enumerate(texts) if not real], [n for n, real in enumerate(texts) if real]


def _require(pool: Pool, shots: int, kinds: tuple[list[int], list[int]], real: float) -> None:
    smallest = min(range(len(pool.languages)), key=lambda number: len(pool.by_language[number]))
    if len(pool.by_language[smallest]) < shots + 1:
        raise BadInput(
            f"the pool of {pool.languages[smallest]!r} is too small for its shots",
            given=f"{shots} shots",
            present=f"{len(pool.by_language[smallest])} utterances",
            fix="lower the shots, or synthesise more utterances of each language",
        )
    for there, share, what in ((kinds[0], 1 - real, "made-up"), (kinds[1], real, "real")):
        if share > 0 and not there:
            raise BadInput(
                f"the pool has no {what} languages, which a share of the episodes is to be in",
                given=f"real: {real}",
                present=f"{len(kinds[0])} made-up languages, {len(kinds[1])} real ones",
                fix=f"set real to {1 if what == 'made-up' else 0}, or make another pool",
            )
