"""Who may be shown to whom: a target never sees itself, nor a duplicate of itself, in its own context."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.base import Query, Ranking, Use
from attnlens.context.retrieval.scores import Row, Scores, top_k
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["Duplicates", "Task", "comparable", "hypotheses", "nearest", "prepared", "ranked"]

Duplicates = Literal["exclude", "keep-text"]
"""``keep-text`` lets another recording of the target's sentence be shown; the same clip is excluded under either."""

SPARE = 2
"""Candidates ranked beyond k, so that a clip that turns out to be the target's does not need a second search."""

SAME_SECONDS = 1e-3
"""Clips whose durations differ by more cannot have the same samples: their content hashes need not be computed."""


def comparable(text: str) -> str:
    """Reduce a text to what makes it the same sentence: NFKC, case-folded, white space collapsed.

    >>> comparable("  Straße   ①") == comparable("STRASSE 1")
    True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


@dataclass(frozen=True)
class Task:
    """A request that was found possible: for each query, the pool positions that id and text exclude, ascending."""

    queries: Sequence[Query]
    pool: Sequence[Utterance]
    k: int
    excluded: tuple[NDArray[np.intp], ...]
    duplicates: Duplicates = "exclude"

    def is_target(self, row: int, position: int) -> bool:
        """Tell whether a pool item is a query's own clip under another id; asked only of items about to be chosen.

        Clips are decoded only where their durations agree. An edited clip (reversed, silenced) still counts as the
        recording that it was made from.
        """
        target, candidate = self.queries[row].utterance.audio, self.pool[position].audio
        if (target.source, target.start, target.end) == (candidate.source, candidate.start, candidate.end):
            return True
        return abs(target.seconds - candidate.seconds) <= SAME_SECONDS and target.digest == candidate.digest

    def refuse(self, row: int, *, found: int) -> BadInput:
        """Return the error for a query that has fewer than k items to choose from."""
        target = self.queries[row].utterance
        fix = "pass a smaller k, or add to the pool"
        if self.duplicates == "exclude":
            fix = "pass a smaller k, add to the pool, or allow other recordings of the sentence: duplicates='keep-text'"
        return BadInput(
            f"too few demonstrations for utterance {target.id!r}",
            given=f"k={self.k}",
            present=f"{found} to choose from: {len(self.pool)} in the pool, less the target and its duplicates",
            fix=fix,
        )


def prepared(
    queries: Sequence[Query], pool: Sequence[Utterance], *, k: int, duplicates: Duplicates, uses: frozenset[Use]
) -> Task:
    """Check a request before anything expensive is done for it.

    The target's gold text is compared with the pool's texts here, so as to exclude duplicates; it plays no part in the
    ranking. A target without a text has no duplicates by text.
    """
    if duplicates not in get_args(Duplicates):
        raise UnknownName.among("way to treat duplicates", duplicates, get_args(Duplicates))
    if k < 0:
        raise BadInput("the number of demonstrations is negative", given=f"k={k}", fix="pass k=0 or more")
    if "hypothesis" in uses:
        hypotheses(queries)
    positions = _positions(pool)
    if k == 0:
        return Task(queries, pool, k, (), duplicates)
    if not pool:
        raise BadInput("the pool is empty", given=f"0 utterances, k={k}", fix="give a corpus with a 'pool' split")
    by_text: dict[str, list[int]] = defaultdict(list)
    if duplicates == "exclude":
        for position, utterance in enumerate(pool):
            by_text[comparable(utterance.text)].append(position)
        by_text.pop("", None)
    excluded = []
    for query in queries:
        same = set(by_text.get(comparable(query.utterance.text), ()))
        if query.utterance.id in positions:
            same.add(positions[query.utterance.id])
        excluded.append(np.array(sorted(same), dtype=np.intp))
    task = Task(queries, pool, k, tuple(excluded), duplicates)
    for row, same_as_target in enumerate(task.excluded):
        if len(pool) - len(same_as_target) < k:
            raise task.refuse(row, found=len(pool) - len(same_as_target))
    return task


def ranked(task: Task, scores: Scores) -> list[Ranking]:
    """Turn scores into rankings of k, looking at the audio of those alone that would be chosen."""
    rankings = []
    for row, (positions, values) in enumerate(nearest(task, scores, task.k)):
        if len(positions) < task.k:
            raise task.refuse(row, found=len(positions))
        rankings.append(Ranking(tuple(task.pool[position].id for position in positions), tuple(values)))
    return rankings


def nearest(task: Task, scores: Scores, n: int) -> list[tuple[list[int], list[float]]]:
    """Return for each query the positions and scores of its n best pool items, fewer where there are fewer."""
    best, value = top_k(scores, n + SPARE, excluded=task.excluded)
    return [_without_target(task, scores, (best[row], value[row]), row=row, n=n) for row in range(len(task.queries))]


def _without_target(
    task: Task, scores: Scores, found: tuple[NDArray[np.intp], NDArray[np.float64]], *, row: int, n: int
) -> tuple[list[int], list[float]]:
    best, value = found
    ranked_places = np.flatnonzero(best >= 0).tolist()
    kept: list[int] = []
    for place in ranked_places:
        if len(kept) == n:
            break
        if not task.is_target(row, int(best[place])):
            kept.append(place)
    searched_all = len(ranked_places) < len(best) or len(best) == len(task.pool)
    if len(kept) == n or searched_all:
        return best[kept].tolist(), value[kept].tolist()
    # More copies of the target's clip than SPARE foresaw: search again for this query alone, twice as deep.
    wider, wider_value = top_k(Row(scores, row), 2 * len(best), excluded=(task.excluded[row],))
    return _without_target(task, scores, (wider[0], wider_value[0]), row=row, n=n)


def hypotheses(queries: Sequence[Query]) -> list[str]:
    """Return the texts to search with, refusing to put the gold text in the place of one that is missing."""
    given = [query.hypothesis for query in queries if query.hypothesis is not None]
    if len(given) < len(queries):
        missing = [query.utterance.id for query in queries if query.hypothesis is None]
        raise BadInput(
            f"{len(missing)} of {len(queries)} queries have no hypothesis to search with",
            given=f"utterances {listing(missing, at_most=5)}",
            fix="pass the acoustic model's 1-best as Query(utterance, hypothesis=...), "
            "or use the retriever 'oracle', knowing that it searches with the gold text",
        )
    return given


def _positions(pool: Sequence[Utterance]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for position, utterance in enumerate(pool):
        if positions.setdefault(utterance.id, position) != position:
            raise BadInput(
                f"the id {utterance.id!r} occurs twice in the pool",
                given=f"pool items {positions[utterance.id]} and {position}",
                fix="make ids unique; `attnlens data check` lists all duplicates",
            )
    return positions
