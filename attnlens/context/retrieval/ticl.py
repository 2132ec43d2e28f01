"""TICL: search by the text that a recogniser hears (a pseudo-label); TICL+ re-ranks what it finds by sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.audio import AudioRetriever
from attnlens.context.retrieval.audio_encoders import AudioEncoder
from attnlens.context.retrieval.base import Query, Ranking, Use
from attnlens.context.retrieval.eligible import Task, hypotheses, nearest
from attnlens.context.retrieval.kept import kept
from attnlens.context.retrieval.progress import tracked
from attnlens.context.retrieval.scores import top_k
from attnlens.context.retrieval.text import TextRetriever
from attnlens.context.retrieval.vectors import Cosine, Distance, SquaredEuclidean
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

__all__ = ["TiclPlusRetriever", "TiclRetriever"]


@dataclass(frozen=True, kw_only=True)
class TiclRetriever(TextRetriever):
    """Choose the nearest neighbours of the pseudo-label in a text embedding space.

    The published system labels with Whisper-large-v3-turbo and embeds with a multilingual MPNet: give its transcripts
    as hypotheses and name the encoder. Which distance it uses is not said.

    Parameters
    ----------
    distance
        ``euclidean`` (scores are minus the squared distance) or ``cosine``.
    encoder, src_lang, device
        As in :class:`~attnlens.context.retrieval.text.TextRetriever`.
    """

    version: ClassVar[int] = 1

    distance: Distance = "euclidean"

    def __post_init__(self) -> None:
        if self.distance not in get_args(Distance):
            raise UnknownName.among("distance", self.distance, get_args(Distance))

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Cosine | SquaredEuclidean:
        """Return the closeness of the pseudo-labels and the pool's texts."""
        return self.compare(hypotheses(queries), pool, distance=self.distance)


@dataclass(frozen=True, kw_only=True)
class TiclPlusRetriever(TiclRetriever):
    """Take the ``candidates`` nearest by text, then rank those by sound, as the ``audio`` retriever does.

    Scores are the acoustic ones. Only the clips of candidates are listened to.

    Parameters
    ----------
    candidates
        How many survive the search by text; the published number is 300.
    audio_encoder, layer
        As ``encoder`` and ``layer`` in :class:`~attnlens.context.retrieval.audio.AudioRetriever`.
    """

    uses: ClassVar[frozenset[Use]] = frozenset({"hypothesis", "audio"})
    version: ClassVar[int] = 1

    candidates: int = 300
    audio_encoder: str | AudioEncoder | None = None
    layer: int | None = None

    def ranking(self, task: Task) -> list[Ranking]:
        """Rank in two passes."""
        survivors = self._survivors(task)
        for row, positions in enumerate(survivors):
            if len(positions) < task.k:
                raise task.refuse(row, found=len(positions))
        listened = np.unique(np.concatenate(survivors))
        of_pool = self._audio.vectors([task.pool[position] for position in listened])
        of_queries = self._audio.vectors([query.utterance for query in task.queries])
        rankings = []
        for row, positions in enumerate(tracked(survivors, total=len(survivors), what="re-ranking by sound")):
            among = of_pool[np.searchsorted(listened, positions)]
            best, value = top_k(self._audio.compare(of_queries[row : row + 1], among), task.k)
            ids = tuple(task.pool[positions[place]].id for place in best[0])
            rankings.append(Ranking(ids, tuple(value[0].tolist())))
        return rankings

    def heard(self, task: Task) -> list[Utterance]:
        """Return the targets and the candidates, which alone are listened to."""
        listened = np.unique(np.concatenate(self._survivors(task)))
        return [*(query.utterance for query in task.queries), *(task.pool[position] for position in listened)]

    def identities(self) -> tuple[str, ...]:
        """Return what tells both encoders from any others."""
        return super().identities() + self._audio.identities()

    def _survivors(self, task: Task) -> list[NDArray[np.intp]]:
        """Return each query's candidates, kept for themselves since they decide what is listened to.

        They stand in pool order, so that ties in sound go to the earlier item and not to the nearer text.
        """
        if task.k > self.candidates:
            raise BadInput(
                "more demonstrations are asked for than survive the search by text",
                given=f"k={task.k}, candidates={self.candidates}",
                fix="pass candidates= of at least k",
            )
        place = {utterance.id: position for position, utterance in enumerate(task.pool)}
        near = kept(self, task, partial(self._nearest, task), heard=tuple, step="survivors")
        return [np.sort(np.array([place[id_] for id_ in ranking.ids], dtype=np.intp)) for ranking in near]

    def _nearest(self, task: Task) -> list[Ranking]:
        found = nearest(task, self.scores(task.queries, task.pool), self.candidates)
        return [Ranking(tuple(task.pool[at].id for at in positions), tuple(values)) for positions, values in found]

    @cached_property
    def _audio(self) -> AudioRetriever:
        return AudioRetriever(encoder=self.audio_encoder, layer=self.layer, device=self.device, cache=self.cache)
