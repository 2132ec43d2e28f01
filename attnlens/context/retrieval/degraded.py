"""Retrieval made worse on purpose: some of what a retriever chose is replaced by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnlens.context.retrieval.base import Query, Ranking, Retriever, Use, make
from attnlens.context.retrieval.eligible import Duplicates, prepared
from attnlens.context.retrieval.simple import chance_of
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

__all__ = ["DegradedRetriever"]


@dataclass(frozen=True, kw_only=True)
class DegradedRetriever:
    """Replace each choice of another retriever by a random one with probability ``share``.

    A place is kept or replaced by a number drawn for the target and that place alone: a larger share replaces what a
    smaller one does and more, and fewer demonstrations are the first of more.

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
        other = self._made("random")
        drawn = other.rank(queries, pool, k=min(2 * k, self._fewest(queries, pool, k)))
        return [
            Ranking(self._mixed(query, best.ids, spare.ids), tuple(-float(place) for place in range(k)))
            for query, best, spare in zip(queries, chosen, drawn, strict=True)
        ]

    def _mixed(self, query: Query, best: tuple[str, ...], drawn: tuple[str, ...]) -> tuple[str, ...]:
        chance = np.random.default_rng(chance_of(self.seed, f"degraded {query.utterance.id}")).random(len(best))
        spare = iter([one for one in drawn if one not in best])
        return tuple(next(spare, name) if chance[place] < self.share else name for place, name in enumerate(best))

    def _made(self, name: str) -> Retriever:
        return make(name, seed=self.seed, duplicates=self.duplicates, cache=self.cache)

    def _fewest(self, queries: Sequence[Query], pool: Sequence[Utterance], k: int) -> int:
        """Return how many every query can be given: the pool, less what is the target's own."""
        task = prepared(queries, pool, k=k, duplicates=self.duplicates, uses=frozenset())
        return min((len(pool) - len(one) for one in task.excluded), default=k)
