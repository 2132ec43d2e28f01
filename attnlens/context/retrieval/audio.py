"""Nearest by sound, and by sound and text together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.audio_encoders import AudioEncoder, audio_encoder, mean, mean_and_std, summarised
from attnlens.context.retrieval.base import Query, Use
from attnlens.context.retrieval.scored import ScoredRetriever
from attnlens.context.retrieval.scores import Sum
from attnlens.context.retrieval.text import TextRetriever
from attnlens.context.retrieval.text_encoders import TextEncoder
from attnlens.context.retrieval.vectors import Cosine, Distance, SquaredEuclidean, compared
from attnlens.data.utterance import Utterance
from attnlens.errors import UnknownName

__all__ = ["AudioRetriever", "TextAudioRetriever"]

CONSTANT = 1e-6
"""Spread over the pool, in nats, at or below which a log-mel statistic counts as constant."""


@dataclass(frozen=True, kw_only=True)
class AudioRetriever(ScoredRetriever):
    """Choose demonstrations that sound like the target: by speaker, channel and speaking style as much as by content.

    Without an encoder a clip is the mean and the standard deviation of its log-mel bands, each standardised over the
    pool: raw log energies are all large and of one sign, and any two clips would have a cosine near 1. With an encoder
    it is the mean of the encoder's states, as they are.

    Parameters
    ----------
    encoder
        None; a name or path of a speech encoder for transformers; or an object with ``identity`` and ``frames``.
    layer
        Which hidden state of a named encoder; None for the last.
    device
        Where an encoder runs.
    distance
        ``cosine``, or ``euclidean`` (scores are minus the squared distance).
    """

    uses: ClassVar[frozenset[Use]] = frozenset({"audio"})
    version: ClassVar[int] = 1

    encoder: str | AudioEncoder | None = None
    layer: int | None = None
    device: str = "cpu"
    distance: Distance = "cosine"

    def __post_init__(self) -> None:
        if self.distance not in get_args(Distance):
            raise UnknownName.among("distance", self.distance, get_args(Distance))

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Cosine | SquaredEuclidean:
        """Return the closeness of the targets' and the pool's clips."""
        return self.compare(self.vectors([query.utterance for query in queries]), self.vectors(pool))

    def vectors(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Return one row per clip [utterances, dimensions], not yet standardised."""
        if self.encoder is None:
            return summarised(utterances, self._loaded, mean_and_std, name="mean-and-std", cache=self.cache)
        return summarised(utterances, self._loaded, mean, name="mean", cache=self.cache)

    def compare(self, queries: NDArray[np.float32], pool: NDArray[np.float32]) -> Cosine | SquaredEuclidean:
        """Return the closeness of rows that :meth:`vectors` made."""
        if self.encoder is not None:
            return compared(queries, pool, distance=self.distance)
        centre, spread = pool.mean(axis=0, dtype=np.float64), pool.std(axis=0, dtype=np.float64)
        # What is the same in the whole pool tells nothing apart; dividing by its spread would blow up rounding.
        scale = np.where(spread > CONSTANT, spread, np.inf)
        return compared((queries - centre) / scale, (pool - centre) / scale, distance=self.distance)

    def identities(self) -> tuple[str, ...]:
        """Return what tells the audio encoder from any other."""
        return (self._loaded.identity,)

    @cached_property
    def _loaded(self) -> AudioEncoder:
        return audio_encoder(self.encoder, layer=self.layer, device=self.device)


@dataclass(frozen=True, kw_only=True)
class TextAudioRetriever(ScoredRetriever):
    """Choose by the sum of the text and the audio cosine, unweighted, as the MICL paper tests it.

    Parameters
    ----------
    encoder, src_lang
        As in :class:`~attnlens.context.retrieval.text.TextRetriever`.
    audio_encoder, layer
        As ``encoder`` and ``layer`` in :class:`AudioRetriever`.
    device
        Where encoders run.
    """

    uses: ClassVar[frozenset[Use]] = frozenset({"hypothesis", "audio"})
    version: ClassVar[int] = 1

    encoder: str | TextEncoder | None = None
    src_lang: str | None = None
    audio_encoder: str | AudioEncoder | None = None
    layer: int | None = None
    device: str = "cpu"

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Sum:
        """Return the sums of both cosines."""
        return Sum(self._text.scores(queries, pool), self._audio.scores(queries, pool))

    def identities(self) -> tuple[str, ...]:
        """Return what tells both encoders from any others."""
        return self._text.identities() + self._audio.identities()

    @cached_property
    def _text(self) -> TextRetriever:
        return TextRetriever(encoder=self.encoder, src_lang=self.src_lang, device=self.device, cache=self.cache)

    @cached_property
    def _audio(self) -> AudioRetriever:
        return AudioRetriever(encoder=self.audio_encoder, layer=self.layer, device=self.device, cache=self.cache)
