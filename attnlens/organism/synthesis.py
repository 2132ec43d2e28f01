"""Making a training pool: made-up languages with their lexicons and real languages with their text, in many voices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnlens.models.qwen3_asr import Qwen3AsrFrontEnd
from attnlens.organism.espeak import Espeak
from attnlens.organism.languages import Language, Side, make_language
from attnlens.organism.model import Size, make_front_end
from attnlens.organism.phones import NASAL_MNEMONICS, nasal_phones
from attnlens.organism.pool import Entry
from attnlens.organism.speech import Said, say_text, say_words
from attnlens.organism.splits import Splits, Voices
from attnlens.organism.udhr import clauses, phrases, read_declaration

__all__ = ["PoolPlan", "nasal_vowels", "say_phrase", "synthesise"]

_LONGEST_SECONDS = 5.0
_PATIENCE = 4
"""Tries per utterance: a voice that cannot say a word is drawn again."""


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """How large a pool is: languages of each kind, utterances of each, phrases and words, how long."""

    side: Side = "train"
    made_up: int = 40
    utterances: int = 120
    words: tuple[int, int] = (1, 4)
    length: tuple[int, int] = (2, 7)
    syllables: int = 4
    lexicon: int = 60
    real: int = 1000
    """Real languages at most, from the front of the splits' list."""
    mels: int = 80
    seed: int = 0


@dataclass(frozen=True)
class _Job:
    plan: PoolPlan
    splits: Splits
    package: Path
    number: int
    text: tuple[str, str] | None


def synthesise(
    plan: PoolPlan, splits: Splits, package: Path, *, processes: int = 1, tick: Callable[[str, int], None] | None = None
) -> Iterator[Entry]:
    """Yield the utterances of a pool, language by language; the same for any number of processes."""
    texts = splits.side(plan.side).texts[: plan.real]
    jobs = [_Job(plan, splits, package, number, None) for number in range(plan.made_up)]
    jobs += [_Job(plan, splits, package, plan.made_up + number, text) for number, text in enumerate(texts)]
    if processes == 1:
        for job in jobs:
            yield from _told(_entries(job), tick)
        return
    # Forked from a process whose torch has threads, a worker hangs in its first transform.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        for made in workers.map(_entries, jobs):
            yield from _told(made, tick)


def nasal_vowels(voices: Voices) -> tuple[int, ...]:
    """Return the vowels that some voice of a side can say as nasal ones."""
    return tuple(sorted({phone for one in voices.languages for phone in NASAL_MNEMONICS.get(one, {})}))


def say_phrase(
    language: Language, voices: Voices, rng: np.random.Generator, *, words: tuple[int, int], engine: Espeak
) -> tuple[Said, str] | None:
    """Say a phrase of a made-up language in a voice that has its nasal vowels; None where none has, or errs."""
    spoken = language.phrase(rng, words=words)
    marked = [language.marks(word) for word in spoken]
    nasal = nasal_phones(spoken, marked)
    able = [one for one in voices.languages if nasal <= NASAL_MNEMONICS.get(one, {}).keys()]
    if not able:
        return None
    voice = voices.draw(rng, language=str(rng.choice(able)))
    said = say_words(spoken, marked, voice, rng, engine=engine, glottal=language.glottal)
    return None if said is None else (said, voice)


def _told(made: list[Entry], tick: Callable[[str, int], None] | None) -> list[Entry]:
    if tick is not None and made:
        tick(made[0].language, len(made))
    return made


def _entries(job: _Job) -> list[Entry]:
    rng = np.random.default_rng([job.plan.seed, job.plan.side == "dev", job.number])
    engine = Espeak()
    try:
        return _real(job, rng, engine) if job.text else _made_up(job, rng, engine)
    finally:
        engine.close()


def _made_up(job: _Job, rng: np.random.Generator, engine: Espeak) -> list[Entry]:
    plan, voices = job.plan, job.splits.side(job.plan.side)
    # Several plans may lie in one pool; their languages are different ones.
    name = f"{plan.side}-{plan.seed}-{job.number}"
    language = make_language(
        name,
        rng,
        side=plan.side,
        length=plan.length,
        syllables=plan.syllables,
        lexicon=plan.lexicon,
        nasal=nasal_vowels(voices),
    )
    made: list[Entry] = []
    for _ in range(plan.utterances * _PATIENCE):
        made_of = say_phrase(language, voices, rng, words=plan.words, engine=engine)
        if made_of is not None and _fits(made_of[0]):
            made.append(_entry(made_of[0], name, made_of[1], "", plan.mels))
        if len(made) == plan.utterances:
            break
    return made


def _real(job: _Job, rng: np.random.Generator, engine: Espeak) -> list[Entry]:
    plan, voices = job.plan, job.splits.side(job.plan.side)
    voice, code = job.text or ("", "")
    found = clauses(read_declaration(job.package, code))
    made: list[Entry] = []
    while len(made) < plan.utterances and found:
        # Another cut of the same clauses each time round: other phrases of the same words.
        for phrase in phrases(found, rng, words=plan.words, longest=60):
            full = voices.draw(rng, language=voice)
            said = say_text(" ".join(phrase), full, rng, engine=engine)
            if said is not None and _fits(said):
                made.append(_entry(said, f"text-{code}", full, " ".join(phrase), plan.mels))
            if len(made) == plan.utterances:
                break
    return made


def _fits(said: Said) -> bool:
    return len(said.samples) <= _LONGEST_SECONDS * 16_000


def _entry(said: Said, language: str, voice: str, text: str, mels: int) -> Entry:
    mel = _mel(said.samples, mels)
    return Entry(mel, said.phones, said.marks, said.starts, said.stops, said.words, language, voice, text)


def _mel(samples: NDArray[np.float32], mels: int) -> NDArray[np.float16]:
    """Return frames [frames, mels] as the front end extracts them, without its padding."""
    made = _front(mels).features(samples).arrays
    heard = int(made["input_features_mask"].sum())
    return made["input_features"][0, :, :heard].T.astype(np.float16)


@functools.cache
def _front(mels: int) -> Qwen3AsrFrontEnd:
    return make_front_end(Size(mels=mels))
