"""From queries and a corpus to prompts: what a retriever ranks first, shown as a condition shows it."""

from __future__ import annotations

from collections.abc import Sequence

from attnlens.context.build import build_prompt
from attnlens.context.prompt import Condition, Order, Prompt
from attnlens.context.retrieval.base import Query, retrieve
from attnlens.data.corpus import Corpus

__all__ = ["ranked_prompts"]


def ranked_prompts(
    queries: Sequence[Query],
    corpus: Corpus,
    *,
    shots: int,
    retriever: str,
    condition: Condition,
    template: str = "default",
    order: Order = "nearest-first",
    seed: int = 0,
) -> list[Prompt]:
    """Make a prompt for each query from the ``shots`` demonstrations of the pool that are ranked first for it.

    ``seed`` is the retriever's, and that of ``order="random"``.

    >>> from attnlens.testing import corpus
    >>> speech = corpus(test=2, pool=4)
    >>> queries = [Query(one) for one in speech.test]
    >>> [one.shots for one in ranked_prompts(queries, speech, shots=3, retriever="random", condition="micl")]
    [3, 3]
    """
    rankings = retrieve(queries, corpus.pool, k=shots, retriever=retriever, seed=seed)
    return [
        build_prompt(
            query.utterance,
            [corpus[name] for name in ranking.ids],
            condition=condition,
            template=template,
            order=order,
            seed=seed,
        )
        for query, ranking in zip(queries, rankings, strict=True)
    ]
