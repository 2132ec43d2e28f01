"""Several languages as one test: the same systems over all their utterances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from attnlens.asr.table import SelectionTable
from attnlens.asr.tabulate import ListTest
from attnlens.errors import BadInput

__all__ = ["pooled"]


def pooled(name: str, tests: Sequence[ListTest], tables: Sequence[SelectionTable]) -> ListTest:
    """Return one test of all utterances, in which each system writes what it wrote in its language.

    Weights stay those of each language. Systems that are not in every language are left out; a language counts by its
    words. All tests are over the same seeds.

    >>> import numpy as np
    >>> from attnlens.asr.candidates import Candidates
    >>> from attnlens.asr.tabulate import selection_tables
    >>> from attnlens.asr.language_model import TextScore
    >>> score = TextScore(np.zeros(1), 0.0)
    >>> lists = [Candidates("u1", ("ka to",), np.array([-3.0]), (score,))]
    >>> tests = [ListTest(language=one, lists=lists, references=["ka to"], rules={}) for one in ("xx", "yy")]
    >>> both = pooled("all", tests, selection_tables(tests, resamples=99, draws=99))
    >>> [one.utterance_id for one in both.lists]
    ['xx/u1', 'yy/u1']
    """
    if len(tests) != len(tables) or not tests:
        raise BadInput("every test needs its table", given=f"{len(tests)} tests, {len(tables)} tables")
    seeds = tests[0].seeds
    if any(tuple(test.seeds) != tuple(seeds) for test in tests):
        raise BadInput("languages were tested with other seeds", given="; ".join(str(list(t.seeds)) for t in tests))
    systems = [[row.system for row in table.rows if row.kind in ("rule", "other")] for table in tables]
    shared = [one for one in systems[0] if all(one in others for others in systems)]
    # Blocks of all languages, one for each seed.
    parts = [
        (test, table, slice(block * len(test.references), (block + 1) * len(test.references)))
        for block in range(len(seeds))
        for test, table in zip(tests, tables, strict=True)
    ]
    ids = Counter(one.utterance_id for test in tests for one in test.lists[: len(test.references)])
    lists = [
        replace(one, utterance_id=f"{test.language}/{one.utterance_id}") if ids[one.utterance_id] > 1 else one
        for test, _, here in parts
        for one in test.lists[here]
    ]
    references = [text for test in tests for text in test.references]
    clusters = [(test.language, label) for test in tests if test.clusters is not None for label in test.clusters]
    return ListTest(
        language=name,
        lists=lists,
        references=references,
        rules={},
        others={one: [text for _, table, here in parts for text in table[one].transcripts[here]] for one in shared},
        clusters=clusters if len(clusters) == len(references) else None,
        tags={},
        seeds=seeds,
    )
