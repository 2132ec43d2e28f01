"""The common body of retrievers that rank by one score: options, checks and exclusions are the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import ClassVar

from attnlens.context.retrieval.base import Query, Ranking, Use
from attnlens.context.retrieval.eligible import Duplicates, Task, prepared, ranked
from attnlens.context.retrieval.kept import kept
from attnlens.context.retrieval.scores import Scores
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance

__all__ = ["ScoredRetriever"]


@dataclass(frozen=True, kw_only=True)
class ScoredRetriever(ABC):
    """Derive from this to add a retriever: say what it ``uses`` and give its ``scores``.

    Parameters
    ----------
    seed
        Whatever is drawn by chance is drawn from this; most retrievers draw nothing.
    duplicates
        ``exclude`` leaves out pool items with the target's text, ``keep-text`` only those with its id or audio.
    cache
        Where embeddings and finished rankings are kept by content hash, if anywhere. Rankings are kept for a class that
        sets ``version`` in its own body, to be counted up whenever it would rank otherwise; its options are then to be
        fields of a dataclass.

    >>> from attnlens.context.retrieval.vectors import Cosine
    >>> class Vowels(ScoredRetriever):
    ...     uses = frozenset({"hypothesis"})
    ...     def scores(self, queries, pool):
    ...         count = lambda text: [text.count(vowel) for vowel in "aeiou"]
    ...         said = np.array([count(query.hypothesis) for query in queries])
    ...         return Cosine(said, np.array([count(utterance.text) for utterance in pool]))
    >>> import numpy as np
    >>> Vowels().rank([], [], k=3)
    []
    """

    uses: ClassVar[frozenset[Use]] = frozenset()
    version: ClassVar[int]

    seed: int = 0
    duplicates: Duplicates = "exclude"
    cache: ArrayCache | None = None

    @abstractmethod
    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Scores:
        """Return the scores [queries, pool], larger being better; neither side is empty."""

    def rank(self, queries: Sequence[Query], pool: Sequence[Utterance], *, k: int) -> list[Ranking]:
        """Return one ranking of k pool items per query; see :func:`attnlens.context.retrieval.retrieve`."""
        if not queries:
            return []
        task = prepared(queries, pool, k=k, duplicates=self.duplicates, uses=self.uses)
        if not k:
            return [Ranking((), ())] * len(queries)
        return kept(self, task, partial(self.ranking, task), heard=partial(self.heard, task))

    def ranking(self, task: Task) -> list[Ranking]:
        """Rank for a request that was found possible, k being at least 1."""
        return ranked(task, self.scores(task.queries, task.pool))

    def heard(self, task: Task) -> Iterable[Utterance]:
        """Return the utterances whose sound decides the ranking; by default all of them or, by ``uses``, none."""
        return chain((query.utterance for query in task.queries), task.pool) if "audio" in self.uses else ()

    def identities(self) -> tuple[str, ...]:
        """Return what tells the encoders that the options name from any others, such as a hash of their weights."""
        return ()
