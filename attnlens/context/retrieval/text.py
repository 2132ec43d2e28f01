"""Nearest by text: the hypothesis searches among the pool's transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

from attnlens.context.retrieval.base import Query, Use
from attnlens.context.retrieval.eligible import hypotheses
from attnlens.context.retrieval.scored import ScoredRetriever
from attnlens.context.retrieval.text_encoders import TextEncoder, embedded, text_encoder, tfidf
from attnlens.context.retrieval.vectors import Cosine, Distance, SquaredEuclidean, compared
from attnlens.data.utterance import Utterance

__all__ = ["OracleRetriever", "TextRetriever"]


@dataclass(frozen=True, kw_only=True)
class TextRetriever(ScoredRetriever):
    """Choose demonstrations whose transcripts are nearest to the acoustic hypothesis: what the MICL paper adopts.

    An empty hypothesis is like nothing: all scores are 0 and the pool's order decides.

    Parameters
    ----------
    encoder
        None for character n-gram TF-IDF, which needs no model; a sentence-transformers name or path;
        ``sonar:<name or path>``; or an object with ``identity`` and ``encode``.
    src_lang
        The language code that a SONAR encoder needs.
    device
        Where an encoder runs.
    """

    uses: ClassVar[frozenset[Use]] = frozenset({"hypothesis"})
    version: ClassVar[int] = 1

    encoder: str | TextEncoder | None = None
    src_lang: str | None = None
    device: str = "cpu"

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Cosine | SquaredEuclidean:
        """Return the cosines of what is searched with and the pool's texts."""
        return self.compare(hypotheses(queries), pool, distance="cosine")

    def compare(
        self, texts: Sequence[str], pool: Sequence[Utterance], *, distance: Distance
    ) -> Cosine | SquaredEuclidean:
        """Compare any texts with the pool's, in this retriever's space."""
        of_pool = [utterance.text for utterance in pool]
        encoder = self._loaded
        if encoder is None:
            return compared(*tfidf(texts, of_pool), distance=distance)
        vectors = partial(embedded, encoder=encoder, cache=self.cache)
        return compared(vectors(texts), vectors(of_pool), distance=distance)

    def identities(self) -> tuple[str, ...]:
        """Return what tells the text encoder from any other; nothing without one."""
        return () if self._loaded is None else (self._loaded.identity,)

    @cached_property
    def _loaded(self) -> TextEncoder | None:
        return text_encoder(self.encoder, src_lang=self.src_lang, device=self.device)


@dataclass(frozen=True, kw_only=True)
class OracleRetriever(TextRetriever):
    """Search with the gold text: how good text retrieval would be with a perfect acoustic model. Never a result."""

    uses: ClassVar[frozenset[Use]] = frozenset({"gold-text"})
    version: ClassVar[int] = 1

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Cosine | SquaredEuclidean:
        """Return the cosines of the gold texts and the pool's texts."""
        return self.compare([query.utterance.text for query in queries], pool, distance="cosine")
