"""Corpora that a plan reckons with where the published ones are not here: clips of their mean length, as many hours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from attnlens.data.audio import RATE, Audio
from attnlens.data.corpus import Corpus, OnBad, Split
from attnlens.data.utterance import Utterance
from attnlens.run.corpora import CORPORA, find_corpus
from attnlens.run.published.read import PUBLISHED, PublishedCorpus

__all__ = ["find_or_stand_in", "published_corpus", "stand_in"]


def find_or_stand_in(names: Sequence[str], *, on_bad: OnBad = "refuse") -> tuple[list[Corpus], list[str]]:
    """Return corpora for a plan, and remarks that say which of them are stand-ins; what nobody knows is refused.

    A path such as ``corpora/khinalug`` that is not here stands for the published corpus in its name.

    >>> found, remarks = find_or_stand_in(["corpora/khinalug"])
    >>> found[0]
    Corpus('khinalug', language='kjj', pool=1120, dev=128, test=128)
    >>> remarks[0]
    'corpora/khinalug is not here: reckoned with 1,376 clips of 6.88 s and 28 characters, as long together as published'
    """
    found, remarks = [], []
    for name in names:
        published = None if _here(name) else published_corpus(name)
        if published is None:
            found.append(find_corpus(name, on_bad=on_bad))
            continue
        made = stand_in(published)
        found.append(made)
        remarks.append(
            f"{name} is not here: reckoned with {len(made):,} clips of {published.seconds:g} s and "
            f"{published.characters} characters, as long together as published"
        )
    return found, remarks


def published_corpus(name: str) -> PublishedCorpus | None:
    """Return the published corpus that a path names in one of its parts, None where none does.

    >>> published_corpus("data/ml_superb2/*/manifest.jsonl").language
    'mul'
    """
    known = {corpus: one for publication in PUBLISHED for corpus, one in PUBLISHED[publication]().corpora.items()}
    return next((known[part] for part in reversed(Path(name).parts) if part in known), None)


@lru_cache(maxsize=8)
def stand_in(published: PublishedCorpus) -> Corpus:
    """Make a corpus of a published one's size, of silent clips that are all of the mean length."""
    silence = Audio.from_array(np.zeros(round(published.seconds * RATE), dtype=np.float32))
    other = Audio.from_array(np.ones(round(published.seconds * RATE), dtype=np.float32))
    pool = round(3600 * published.pool_hours / published.seconds)
    # How dev and test share their hours is not published.
    half = round(1800 * published.other_hours / published.seconds)

    def clips(split: str, count: int, audio: Audio) -> tuple[Utterance, ...]:
        width = published.characters
        return tuple(
            Utterance(f"{split}-{n}", audio, f"{split[0]}{n} ".ljust(width, split[0]), published.language)
            for n in range(count)
        )

    splits: dict[Split, tuple[Utterance, ...]] = {
        "pool": clips("pool", pool, silence),
        "dev": clips("dev", half, other),
        "test": clips("test", half, other),
    }
    return Corpus(published.name, published.language, splits)


def _here(name: str) -> bool:
    if name in CORPORA:
        return True
    path = Path(name)
    if "*" not in name:
        return path.exists()
    return any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
