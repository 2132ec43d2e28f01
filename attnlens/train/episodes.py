"""Episodes: one query, demonstrations drawn for it, a condition. A model is trained on what it will be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import numpy as np

from attnlens.context.build import build_prompt
from attnlens.context.prompt import CONDITIONS, Condition, PairOrder, Prompt
from attnlens.context.retrieval.base import Query, Ranking, parse_retriever, retrieve
from attnlens.context.retrieval.eligible import Duplicates, comparable
from attnlens.context.templates import TEMPLATES
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

__all__ = ["EpisodeBuilder", "Task"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Task:
    """One language to draw episodes from: demonstrations come from ``pool``, what is asked from ``queries``.

    Without ``queries`` the pool asks itself, and each query is left out of its own demonstrations.
    """

    name: str
    pool: Sequence[Utterance]
    queries: Sequence[Utterance] | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeBuilder:
    """Draw prompts with a chosen mixture of shots, conditions, templates and orders.

    Each mapping gives a weight to every choice; weights need not sum to one. Conditions other than ``micl`` are how a
    modality drops out: ``icl`` keeps the texts of the demonstrations, ``a-icl`` their audio, ``t-icl`` has no target
    audio. With 0 shots the prompt is an ``asr`` prompt, whatever condition was drawn, unless that was ``t-icl``,
    which then draws again: a prompt that shows nothing asks nothing.

    Parameters
    ----------
    retriever
        ``random``, or a name of ``attnlens ls retrievers``, which then ranks the pool for the query.
    hypotheses
        What text retrievers search with, by the id of the query.
    duplicates
        ``keep-text`` lets another recording of the query's sentence stand among its demonstrations.

    >>> from attnlens.testing import corpus
    >>> builder = EpisodeBuilder(shots={2: 1.0}, conditions={"micl": 0.8, "icl": 0.2})
    >>> prompt = builder.build(Task("xx", corpus(pool=5).pool), np.random.default_rng(0))
    >>> prompt.shots, prompt.target.id in [one.id for one in prompt.demonstrations]
    (2, False)
    """

    shots: Mapping[int, float] = field(default_factory=lambda: {0: 1.0, 1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0})
    conditions: Mapping[Condition, float] = field(default_factory=lambda: {"micl": 1.0})
    templates: Mapping[str, float] = field(default_factory=lambda: {"default": 1.0})
    pair_orders: Mapping[PairOrder, float] = field(default_factory=lambda: {"audio-first": 1.0})
    retriever: str = "random"
    hypotheses: Mapping[str, str] | None = None
    duplicates: Duplicates = "exclude"
    _ranked: dict[int, tuple[Task, dict[str, Ranking]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        _check_weights("shots", self.shots)
        _check_weights("conditions", self.conditions)
        _check_weights("templates", self.templates)
        _check_weights("pair_orders", self.pair_orders)
        for shots in self.shots:
            if not isinstance(shots, int) or isinstance(shots, bool) or shots < 0:
                raise BadInput("a number of shots is negative or no whole number", given=repr(shots))
        for condition in self.conditions:
            if condition not in CONDITIONS:
                raise UnknownName.among("condition", condition, CONDITIONS)
        for order in self.pair_orders:
            if order not in get_args(PairOrder):
                raise UnknownName.among("pair order", order, get_args(PairOrder))
        for template in self.templates:
            TEMPLATES.require(template)
        parse_retriever(self.retriever)
        if self.duplicates not in get_args(Duplicates):
            raise UnknownName.among("way to treat duplicates", self.duplicates, get_args(Duplicates))
        if set(self.conditions) == {"t-icl"} and not any(self.shots):
            raise BadInput("t-icl needs demonstrations", given="shots: 0", fix="give weight to 1 shot or more")

    @property
    def most_shots(self) -> int:
        """The largest number of shots that can be drawn."""
        return max(shots for shots, weight in self.shots.items() if weight > 0)

    def require(self, task: Task) -> None:
        """Refuse, before anything is trained, a task whose pool cannot serve the shots or lacks text."""
        queries = task.pool if task.queries is None else task.queries
        if not queries:
            raise BadInput(f"the task {task.name!r} has nothing to ask", given="0 queries", fix="give it utterances")
        for utterance in (*task.pool, *queries):
            if not utterance.text.strip():
                raise BadInput(
                    f"an utterance of {task.name!r} has no text to learn from",
                    given=utterance.id,
                    fix="train on transcribed speech; `attnlens data check` lists rows without text",
                )
        counts: dict[str, int] = {}
        for utterance in task.pool:
            counts[comparable(utterance.text)] = counts.get(comparable(utterance.text), 0) + 1
        # The query's own sentence never stands among its demonstrations, by whomever it is spoken.
        worst = max(self._own(counts, task, query) for query in queries)
        if len(task.pool) - worst < self.most_shots:
            raise BadInput(
                f"the pool of {task.name!r} is too small for its shots",
                given=f"{self.most_shots} shots",
                present=f"{len(task.pool)} utterances, up to {worst} of them the query's own sentence",
                fix="lower the shots, or add to the pool",
            )

    def _own(self, counts: Mapping[str, int], task: Task, query: Utterance) -> int:
        if self.duplicates == "exclude":
            return counts.get(comparable(query.text), 0)
        return int(task.queries is None or any(one.id == query.id for one in task.pool))

    def build(self, task: Task, rng: np.random.Generator) -> Prompt:
        """Draw one episode; the same generator state gives the same prompt."""
        queries = task.pool if task.queries is None else task.queries
        query = queries[int(rng.integers(len(queries)))]
        condition, shots = self._condition_and_shots(rng)
        chosen = self._demonstrations(task, query, shots, rng)
        return build_prompt(
            query,
            chosen,
            condition=condition,
            template=_draw(self.templates, rng),
            order="as-given" if self.retriever == "random" else "nearest-last",
            pair_order=_draw(self.pair_orders, rng),
        )

    def _condition_and_shots(self, rng: np.random.Generator) -> tuple[Condition, int]:
        while True:
            condition, shots = _draw(self.conditions, rng), _draw(self.shots, rng)
            if shots and condition != "asr":
                return condition, shots
            if condition != "t-icl":
                return "asr", 0

    def prepare(self, task: Task) -> None:
        """Rank the pool for every query once and now; otherwise every process that makes batches would."""
        if self.retriever != "random" and self.most_shots:
            self._rankings(task)

    def _rankings(self, task: Task) -> Mapping[str, Ranking]:
        if id(task) not in self._ranked:
            queries = task.pool if task.queries is None else task.queries
            heard = self.hypotheses or {}
            made = retrieve(
                [Query(one, heard.get(one.id)) for one in queries],
                task.pool,
                k=self.most_shots,
                retriever=self.retriever,
                duplicates=self.duplicates,
            )
            # The task is kept beside: its id must not become another's.
            self._ranked[id(task)] = task, {one.id: ranking for one, ranking in zip(queries, made, strict=True)}
        return self._ranked[id(task)][1]

    def _demonstrations(self, task: Task, query: Utterance, shots: int, rng: np.random.Generator) -> list[Utterance]:
        if shots == 0:
            return []
        if self.retriever != "random":
            by_id = {utterance.id: utterance for utterance in task.pool}
            return [by_id[name] for name in self._rankings(task)[query.id].ids[:shots]]
        own = comparable(query.text) if self.duplicates == "exclude" else None
        chosen: list[Utterance] = []
        for place in rng.permutation(len(task.pool)):
            candidate = task.pool[int(place)]
            if candidate.id != query.id and (own is None or comparable(candidate.text) != own):
                chosen.append(candidate)
            if len(chosen) == shots:
                return chosen
        raise BadInput(
            f"the pool of {task.name!r} is too small for its shots",
            given=f"{shots} shots for {query.id!r}",
            present=f"{len(chosen)} other sentences",
            fix="lower the shots, or add to the pool",
        )


def _check_weights(name: str, weights: Mapping[Any, float]) -> None:
    if not weights or any(weight < 0 for weight in weights.values()) or sum(weights.values()) <= 0:
        raise BadInput(f"{name} needs weights of 0 or more, one of them positive", given=str(dict(weights)))


def _draw(weights: Mapping[_T, float], rng: np.random.Generator) -> _T:
    # Sorted as the hash of a spec sorts them: what is the same spec draws the same episodes.
    choices = sorted(weights)  # type: ignore[type-var]
    shares = np.asarray([weights[one] for one in choices], dtype=np.float64)
    return choices[int(rng.choice(len(choices), p=shares / shares.sum()))]
