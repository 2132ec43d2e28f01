from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.errors import BadInput, UnknownName
from attnlens.testing import corpus
from attnlens.train.episodes import EpisodeBuilder, Task


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), shots=st.integers(0, 6))
def test_a_query_is_never_among_its_demonstrations(seed: int, shots: int) -> None:
    pool = corpus(pool=8).pool
    prompt = EpisodeBuilder(shots={shots: 1.0}).build(Task("xx", pool), np.random.default_rng(seed))
    ids = [one.id for one in prompt.demonstrations]
    assert prompt.shots == shots == len(set(ids))
    assert prompt.target.id not in ids
    assert prompt.target.text not in [one.text for one in prompt.demonstrations]


def test_the_same_generator_draws_the_same_episode() -> None:
    task = Task("xx", corpus(pool=8).pool)
    builder = EpisodeBuilder(shots={2: 1.0, 4: 1.0}, conditions={"micl": 0.5, "icl": 0.5})
    one, two, other = (builder.build(task, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one == two != other


def test_the_order_in_which_a_spec_writes_its_weights_draws_nothing_else() -> None:
    task = Task("xx", corpus(pool=10).pool)
    shots, conditions = {0: 1.0, 2: 2.0, 4: 1.0}, {"micl": 0.5, "icl": 0.3, "asr": 0.2}

    def drawn(shots: dict[int, float], conditions: dict[Any, float]) -> list[tuple[str, int]]:
        builder = EpisodeBuilder(shots=shots, conditions=conditions)
        rng = np.random.default_rng(0)
        return [(one.condition, one.shots) for one in (builder.build(task, rng) for _ in range(30))]

    there = drawn(shots, conditions)
    back = drawn(dict(reversed(shots.items())), dict(reversed(conditions.items())))
    assert there == back
    assert len(set(there)) > 3


def test_shares_of_conditions_and_shots_are_kept() -> None:
    task = Task("xx", corpus(pool=8).pool)
    builder = EpisodeBuilder(shots={0: 1.0, 3: 3.0}, conditions={"micl": 0.75, "t-icl": 0.25})
    rng = np.random.default_rng(0)
    drawn = Counter((prompt.condition, prompt.shots) for prompt in (builder.build(task, rng) for _ in range(800)))
    assert set(drawn) == {("asr", 0), ("micl", 3), ("t-icl", 3)}
    # Without demonstrations t-icl draws again: 1/4 of micl's 3/4 are asr.
    assert drawn["micl", 3] / 800 == pytest.approx(0.75 * 0.75 / (1 - 0.25 * 0.25), abs=0.05)


def test_another_recording_of_the_sentence_is_left_out_unless_asked_for() -> None:
    pool = corpus(pool=3).pool
    twins = (*pool, *(replace(one, id=f"{one.id}-again", text=one.text.upper()) for one in pool))
    with pytest.raises(BadInput, match="too small"):
        EpisodeBuilder(shots={5: 1.0}).require(Task("xx", twins))
    EpisodeBuilder(shots={4: 1.0}).require(Task("xx", twins))
    EpisodeBuilder(shots={5: 1.0}, duplicates="keep-text").require(Task("xx", twins))
    kept = EpisodeBuilder(shots={5: 1.0}, duplicates="keep-text").build(Task("xx", twins), np.random.default_rng(0))
    assert kept.target.text.lower() in [str(one.text).lower() for one in kept.demonstrations]


def test_queries_of_their_own_are_asked_and_the_pool_shown() -> None:
    made = corpus(pool=4, dev=2)
    prompt = EpisodeBuilder(shots={2: 1.0}).build(Task("xx", made.pool, made.dev), np.random.default_rng(0))
    assert prompt.target.id.startswith("dev")
    assert all(one.id.startswith("pool") for one in prompt.demonstrations)


def test_a_named_retriever_puts_the_nearest_next_to_the_target() -> None:
    task = Task("xx", corpus(pool=6).pool)
    prompt = EpisodeBuilder(shots={3: 1.0}, retriever="oracle").build(task, np.random.default_rng(1))
    from attnlens.context.retrieval import Query, retrieve

    target = next(one for one in task.pool if one.id == prompt.target.id)
    ranked = retrieve([Query(target)], task.pool, k=3, retriever="oracle")[0].ids
    assert [one.id for one in prompt.demonstrations] == list(reversed(ranked))


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(BadInput, match="weights"):
        EpisodeBuilder(shots={})
    with pytest.raises(BadInput, match="weights"):
        EpisodeBuilder(shots={1: -1.0})
    with pytest.raises(UnknownName, match="condition"):
        EpisodeBuilder(conditions={"mikl": 1.0})  # type: ignore[dict-item]
    with pytest.raises(BadInput, match="t-icl"):
        EpisodeBuilder(shots={0: 1.0}, conditions={"t-icl": 1.0})
    with pytest.raises(BadInput, match="negative"):
        EpisodeBuilder(shots={-1: 1.0})
    with pytest.raises(UnknownName, match="retriever"):
        EpisodeBuilder(retriever="txet")
    with pytest.raises(UnknownName, match="template"):
        EpisodeBuilder(templates={"defualt": 1.0})


def test_a_pool_without_text_or_queries_is_refused() -> None:
    pool = corpus(pool=4).pool
    with pytest.raises(BadInput, match="no text"):
        EpisodeBuilder(shots={1: 1.0}).require(Task("xx", (*pool, replace(pool[0], id="x", text=" "))))
    with pytest.raises(BadInput, match="nothing to ask"):
        EpisodeBuilder().require(Task("xx", pool, ()))
