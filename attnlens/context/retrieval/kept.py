"""Finished rankings kept in the cache, named by a hash of everything that determines them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.base import Ranking
from attnlens.context.retrieval.eligible import Task
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.context.retrieval.scored import ScoredRetriever

__all__ = ["kept"]

NO_MATTER = {"cache", "device"}
"""Options that say where things are kept and computed; the embeddings in the cache do not depend on them either."""

CELL = np.dtype([("position", "<i8"), ("score", "<f8")])


def kept(
    retriever: ScoredRetriever,
    task: Task,
    rank: Callable[[], list[Ranking]],
    *,
    heard: Callable[[], Iterable[Utterance]],
    step: str = "ranking",
) -> list[Ranking]:
    """Read back the rankings of an equal task, or call ``rank`` and keep what it returns.

    Nothing is kept without a cache, nor for a class that does not itself say which ``version`` of its ranking it is:
    a sub-class in a notebook changes without notice.

    Parameters
    ----------
    heard
        Returns the utterances whose sound decides; their samples are hashed. Of all others the sound decides only
        whether they are the target's own clip under another id: there a file is known by its size and time.
    step
        What is kept, where a retriever ranks in more than one.
    """
    if retriever.cache is None or "version" not in vars(type(retriever)):
        return rank()
    key = f"{step}.v1:{_hash(_parts(retriever, task, heard()))}"
    table = retriever.cache.get_or_compute(key, lambda: _table(rank(), task.pool))
    return [_ranking(row[row["position"] >= 0], task.pool) for row in table]


def _table(rankings: list[Ranking], pool: Iterable[Utterance]) -> NDArray[Any]:
    """Return [rankings, longest] of CELL, shorter rankings being filled up with position -1."""
    place = {utterance.id: position for position, utterance in enumerate(pool)}
    table = np.full((len(rankings), max(len(ranking.ids) for ranking in rankings)), -1, dtype=CELL)
    for row, ranking in zip(table, rankings, strict=True):
        row["position"][: len(ranking.ids)] = [place[id_] for id_ in ranking.ids]
        row["score"][: len(ranking.ids)] = ranking.scores
    return table


def _ranking(cells: NDArray[Any], pool: Any) -> Ranking:
    return Ranking(tuple(pool[at].id for at in cells["position"].tolist()), tuple(cells["score"].tolist()))


def _hash(parts: Iterable[list[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(json.dumps(part).encode() + b"\n")
    return digest.hexdigest()


def _parts(retriever: ScoredRetriever, task: Task, heard: Iterable[Utterance]) -> Iterator[list[Any]]:
    """Yield all that the rankings depend on, as plain values."""
    kind = type(retriever)
    options = {field.name: getattr(retriever, field.name) for field in fields(retriever)}
    yield [kind.__module__, kind.__qualname__, kind.version, task.k, len(task.queries), len(task.pool)]
    yield [[name, _plain(name, value)] for name, value in sorted(options.items()) if name not in NO_MATTER]
    yield [*retriever.identities()]
    yield from ([query.hypothesis, *_described(query.utterance)] for query in task.queries)
    yield from (_described(utterance) for utterance in task.pool)
    yield from ([utterance.audio.digest] for utterance in heard)


def _plain(name: str, value: object) -> object:
    plain = value.item() if isinstance(value, np.generic) else getattr(value, "identity", value)
    if plain is None or isinstance(plain, str | int | float):
        return plain
    raise BadInput(
        f"it cannot be told from the option {name!r} whether a ranking in the cache was made with it",
        given=type(value).__name__,
        fix="give the object a string named identity, or the retriever no cache",
    )


def _described(utterance: Utterance) -> list[Any]:
    source = utterance.audio.source
    # The representation of a clip names its file or hashes its content, and has times and edits.
    clip = [repr(utterance.audio), *(_stamp(source) if isinstance(source, Path) else ())]
    return [utterance.id, utterance.text, utterance.language, utterance.speaker, utterance.recording, *clip]


def _stamp(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        # Whether a file that is not there matters is for the ranking to find out.
        return []
    return [stat.st_size, stat.st_mtime_ns]
