"""Retrieval made worse on purpose: some of what a retriever chose is replaced by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnlens.context.retrieval.base import Query, Ranking, Retriever, Use, make
from attnlens.context.retrieval.eligible import Duplicates
from attnlens.context.retrieval.simple import chance_of
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

__all__ = ["DegradedRetriever"]


@dataclass(frozen=True, kw_only=True)
class DegradedRetriever:
    """Replace choices of another retriever by random ones: each place takes the next of either that is not yet taken.

    Which of the two is decided by a number drawn for the target and that place alone, so that a larger share asks
    chance wherever a smaller one does, and fewer demonstrations are the first of more.

    Parameters
    ----------
    of
        The name of the retriever that is degraded.
    share
        0 is that retriever, 1 is chance.

    >>> from attnlens.testing import corpus
    >>> made = corpus(pool=6)
    >>> whole = DegradedRetriever(of="first", share=0.0).rank([Query(made.test[0])], made.pool, k=3)
    >>> whole[0].ids
    ('pool-0', 'pool-1', 'pool-2')
    """

    of: str = "text"
    share: float = 0.5
    seed: int = 0
    duplicates: Duplicates = "exclude"
    cache: ArrayCache | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadInput("a share lies between 0 and 1", given=f"share={self.share}")

    @property
    def uses(self) -> frozenset[Use]:
        """What the retriever that is degraded uses."""
        return make(self.of).uses

    def rank(self, queries: Sequence[Query], pool: Sequence[Utterance], *, k: int) -> list[Ranking]:
        """Return rankings; scores are the places alone, since chance has none."""
        chosen = self._made(self.of).rank(queries, pool, k=k)
        drawn = self._made("random").rank(queries, pool, k=k)
        # Scores are the places alone, since chance has none.
        return [
            Ranking(self._mixed(query, best.ids, spare.ids), tuple(-float(place) for place in range(k)))
            for query, best, spare in zip(queries, chosen, drawn, strict=True)
        ]

    def _mixed(self, query: Query, best: tuple[str, ...], drawn: tuple[str, ...]) -> tuple[str, ...]:
        chance = np.random.default_rng(chance_of(self.seed, f"degraded {query.utterance.id}")).random(len(best))
        taken: dict[str, None] = {}
        for number in chance:
            # Of k names fewer than k are taken, so both always have one left.
            names = drawn if number < self.share else best
            taken[next(name for name in names if name not in taken)] = None
        return tuple(taken)

    def _made(self, name: str) -> Retriever:
        return make(name, seed=self.seed, duplicates=self.duplicates, cache=self.cache)
