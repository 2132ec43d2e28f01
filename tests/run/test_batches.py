"""Batches: the same company in every attempt, of similar length, within memory; their times make the estimate."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attnlens.errors import BadInput
from attnlens.models.trace_dataset import provenance
from attnlens.run import batches as room
from attnlens.run.batches import Batch, layout_of, middles, planned_batches, strata
from attnlens.run.bench import Bench, Done, Facts
from attnlens.run.carry_out import run_spec
from attnlens.run.estimate import estimate
from attnlens.run.folder import RunFolder, read_csv
from attnlens.run.item import Item
from attnlens.run.plan import Plan, make_plan
from attnlens.run.rows import read_rows
from attnlens.traces.reading import open_traces
from attnlens.traces.writing import TraceStore
from tests.run.conftest import contents, small

MANY = {"data__limit": 4, "context__shots": "0,1,2,4", "context__conditions": "asr,icl,micl"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(small(**MANY))


@pytest.fixture(scope="module")
def facts(bench: Bench) -> Facts:
    attrs = provenance(bench.lens, rows="predicting", method="rows", site="self")
    return Facts((0, 1, 2), tuple(range(8)), attrs, "w", None, None, 1000, 96, {})


def test_batches_depend_on_the_plan_alone(plan: Plan, facts: Facts) -> None:
    whole = [batch for task in planned_batches(plan, facts, plan.items) for batch in task]
    assert sorted(item.id for batch in whole for item in batch.items) == sorted(item.id for item in plan.items)
    some = plan.items[3::5]
    left = [batch for task in planned_batches(plan, facts, some) for batch in task]
    assert {batch.items for batch in left} <= {batch.items for batch in whole}
    assert {name for batch in left for name in batch.due} == {item.id for item in some}


def test_a_batch_holds_items_of_similar_length_that_fit(
    plan: Plan, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = layout_of(plan, facts).region_size
    assert region == 4
    longest = max(item.positions for item in plan.items)
    monkeypatch.setattr(room, "MOST_BYTES", 2 * longest * facts.cache)
    for task in planned_batches(plan, facts, plan.items):
        sizes = [sorted(item.positions for item in batch.items) for batch in task]
        assert all(len(size) * size[-1] <= 2 * longest or len(size) == 1 for size in sizes)
        # Neighbours in length: no batch reaches into another's range.
        ranges = sorted((size[0], size[-1]) for size in sizes)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(ranges))
    monkeypatch.setattr(room, "MOST_BYTES", 1)
    assert {len(batch.items) for task in planned_batches(plan, facts, plan.items) for batch in task} == {1}


def test_traces_of_a_batch_are_those_of_its_items_alone(tmp_path: Path, computed: list[str]) -> None:
    several = {**MANY, "seeds": "0,1", "data__limit": 2, "tracing__measures": "entropy,received,logit_effect"}
    for size in (1, 8):
        assert run_spec(small(**several, decoding__batch=size), tmp_path / str(size)).ended == "finished"
    alone, beside = (open_traces(tmp_path / size / "traces.zarr") for size in ("1", "8"))
    assert set(alone["item"].values).isdisjoint(beside["item"].values), "who stands beside an item is in its name"
    for name in alone.coords:
        if name != "item":
            np.testing.assert_array_equal(alone[name].values, beside[name].values, err_msg=str(name))
    for name in alone.data_vars:
        np.testing.assert_allclose(beside[name].values, alone[name].values, atol=2e-5, rtol=2e-4, err_msg=str(name))
    rows = [read_csv(tmp_path / size / "items.csv") for size in ("1", "8")]
    for name in ("transcription", "ended", "n_output_tokens", "n_chars", "positions"):
        assert [row[name] for row in rows[0]] == [row[name] for row in rows[1]]
    found = [[float(row["nll"]) for row in side] for side in rows]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_an_item_done_again_alone_has_the_bytes_of_its_batch(tmp_path: Path, computed: list[str]) -> None:
    spec = small(**MANY)
    run_spec(spec, tmp_path / "run")
    whole = contents(tmp_path / "run")
    items = make_plan(spec).items
    again = [items[1].id, items[6].id, items[7].id, items[-1].id]
    TraceStore.open(tmp_path / "run" / "traces.zarr").redo(again)
    computed.clear()
    assert run_spec(spec, tmp_path / "run").ended == "finished"
    assert sorted(computed) == sorted(again)
    assert contents(tmp_path / "run") == whole


def test_a_bad_item_costs_its_batch_nothing(
    tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(**MANY)
    bad = make_plan(spec).items[2].id
    read = Bench._read

    def reading(self: Bench, item: Item) -> object:
        if item.id == bad:
            raise BadInput("this clip is broken")
        return read(self, item)

    monkeypatch.setattr(Bench, "_read", reading)
    outcome = run_spec(spec, tmp_path)
    assert (outcome.ended, list(outcome.failed)) == ("failures", [bad])
    assert "this clip is broken" in outcome.failed[bad]
    assert "4 items could not be computed together" in (tmp_path / "log.txt").read_text()
    monkeypatch.setattr(Bench, "_read", read)
    assert run_spec(spec, tmp_path).ended == "finished"


class Clock:
    """Time as a simulated machine takes it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_estimate_is_what_batches_take(plan: Plan, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, first = Clock(), [3.0]

    def attempt(_self: Bench, batch: Batch, _started: object) -> Iterator[Done]:
        # What is done once; what every batch costs; what is read, less what batches share.
        clock.now += (first.pop() if first else 0.0) + 0.2 + 0.002 * batch.positions
        yield from ()

    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(Bench, "_attempt", attempt)
    many = make_plan(small(**{**MANY, "seeds": list(range(6)), "context__retriever": "random"}))
    bench = Bench(many.spec)
    for due in (many.items, many.items[: len(many.items) // 2]):
        tasks = planned_batches(many, facts, due)
        timed = dataclasses.replace(facts, seconds=tuple(bench.timed(middles(tasks))))
        assert len(timed.seconds) == len(strata(tasks)) >= 3
        first.clear()
        begin = clock.now
        for batch in itertools.chain(*tasks):
            list(attempt(bench, batch, None))
        assert estimate(many, facts=timed, due=due).seconds == pytest.approx(clock.now - begin, rel=0.05)


def test_what_was_timed_is_not_computed_again(tmp_path: Path, computed: list[str]) -> None:
    spec = small(**{**MANY, "seeds": "0,1", "context__retriever": "random"})
    told: list[Facts] = []
    outcome = run_spec(spec, tmp_path, planned=lambda _plan, facts, _due: told.append(facts))
    assert outcome.ended == "finished"
    [known] = told
    tasks = planned_batches(make_plan(spec), known, make_plan(spec).items)
    assert len(known.seconds) == len(strata(tasks)) > 0
    # Once each, but for the first that is timed: its first time includes what is done once.
    warm = [item.id for item in middles(tasks)[0].items]
    assert sorted(computed) == sorted([*(item.id for item in make_plan(spec).items), *warm])
    assert len(read_rows(RunFolder(tmp_path).rows)) == outcome.planned
