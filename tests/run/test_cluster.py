"""The same items on Dask workers: the same bytes, whoever dies on the way."""

from __future__ import annotations

import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attnlens.errors import BadInput, SelfCheckFailed
from attnlens.run import worker
from attnlens.run.batches import Batch
from attnlens.run.bench import Bench, Done
from attnlens.run.carry_out import run_spec
from attnlens.run.item import Item
from attnlens.run.plan import make_plan
from attnlens.run.watch import Silent
from attnlens.traces.writing import TraceStore
from tests.run.conftest import contents, small

distributed = pytest.importorskip("distributed")
# Said on a busy disk; says nothing about us.
pytestmark = pytest.mark.filterwarnings("ignore:Creating scratch directories")


class Listening(Silent):
    """Collects what came of items, and does something at the first."""

    def __init__(self, at_first: Any = None) -> None:
        self.done: list[Done] = []
        self.at_first = at_first

    def finished(self, done: Done) -> None:
        self.done.append(done)
        if len(self.done) == 1 and self.at_first:
            self.at_first()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster inside this process, so that the model need not be loaded anew."""
    monkeypatch.setattr(worker, "_benches", {})
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0
    ) as cluster:
        yield cluster


def test_workers_write_what_one_process_writes(tmp_path: Path, whole: Path, computed: list[str], threads: Any) -> None:
    spec = small(execution__executor="dask", execution__scheduler=threads.scheduler_address)
    watch = Listening()
    outcome = run_spec(spec, tmp_path / "run", watch=watch)
    assert outcome.ended == "finished"
    assert sorted(computed) == sorted(one.item for one in watch.done)
    assert len(set(computed)) == 6
    assert contents(tmp_path / "run") == contents(whole)


def test_a_failing_item_of_a_worker_is_recorded(
    tmp_path: Path, computed: list[str], threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spied = Bench.measure

    def failing(self: Bench, item: Item) -> Done:
        if item.prompt.condition == "asr":
            raise ValueError("no luck")
        return spied(self, item)

    spec = small(execution__executor="dask", execution__scheduler=threads.scheduler_address)
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "measure", failing)
        outcome = run_spec(spec, tmp_path)
    assert (outcome.ended, outcome.finished, set(outcome.failed.values())) == ("failures", 4, {"ValueError: no luck"})
    assert run_spec(spec, tmp_path).ended == "finished"


def test_what_another_worker_finished_is_passed_over(
    copied: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_benches", {})
    spec, store = small(), TraceStore.open(copied / "traces.zarr")
    plan = make_plan(spec)
    store.redo([plan.items[0].id])
    weights = Bench(spec).weights
    batches = [Batch((item,), frozenset([item.id])) for item in plan.items]
    told = worker.carry(spec, batches, store.path, copied / "rows", weights=weights)
    assert [one.item for one in told] == [item.id for item in plan.items]
    assert computed == [plan.items[0].id]
    assert store.unfinished() == ()
    with pytest.raises(SelfCheckFailed, match="two workers have different weights"):
        worker.carry(spec, [], store.path, copied / "rows", weights="other")


def test_no_scheduler_and_no_such_cluster_are_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnlens.run.cluster.PATIENCE", 0.2)
    with pytest.raises(BadInput, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        run_spec(small(execution__executor="dask", execution__scheduler="tcp://127.0.0.1:9"), tmp_path / "a")
    for name, said in (
        ("dask_nonesuch:Cluster", "the package dask_nonesuch is not installed"),
        ("json.nonesuch:Cluster", "json.nonesuch cannot be imported"),
        ("json:Cluster", "json has no class 'Cluster'"),
        ("fractions:Fraction", "fractions:Fraction could not make a cluster: TypeError"),
    ):
        options = {"nonesuch": 1}
        spec = small(execution__executor="dask", execution__cluster=name, execution__cluster_options=options)
        with pytest.raises(BadInput) as refused:
            run_spec(spec, tmp_path / "b")
        assert said in str(refused.value)
        assert not (tmp_path / "b" / "traces.zarr").exists()


def test_a_cluster_class_of_a_spec_is_made_scaled_and_ended(
    tmp_path: Path, whole: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dask-jobqueue and dask-kubernetes do it: options, `scale`, workers that come when they come, `close`."""
    made: list[Any] = []

    class QueueCluster(distributed.LocalCluster):  # type: ignore[misc, name-defined]
        def __init__(self, *, queue: str, cores: int) -> None:
            made.append((queue, cores, self))
            super().__init__(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=0)

        def scale(self, n: int) -> None:
            made.append(n)
            super().scale(n)

    module = types.ModuleType("attnlens_test_queue")
    module.QueueCluster = QueueCluster  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "attnlens_test_queue", module)
    monkeypatch.setattr(worker, "_benches", {})
    spec = small(
        execution__executor="dask",
        execution__cluster="attnlens_test_queue:QueueCluster",
        execution__cluster_options={"queue": "gpu", "cores": 4},
        execution__workers=2,
    )
    assert run_spec(spec, tmp_path / "run").ended == "finished"
    (queue, cores, cluster), scaled = made[:2]
    assert (queue, cores, scaled) == ("gpu", 4, 2)
    assert str(cluster.status) == "Status.closed"
    assert contents(tmp_path / "run") == contents(whole)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cluster": "dask_jobqueue:SLURMCluster"}, "execution.cluster means nothing to the executor 'local'"),
        ({"scheduler": "tcp://a:1"}, "execution.scheduler means nothing"),
        ({"workers": 2}, "execution.workers means nothing"),
        ({"executor": "dask", "cluster": "SLURMCluster"}, "written module:Class"),
        ({"executor": "dask", "cluster_options": {"cores": 1}}, "none is named"),
        ({"executor": "dask", "cluster": "a:B", "scheduler": "tcp://a:1"}, "not of both"),
    ],
)
def test_what_would_be_passed_over_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as refused:
        small(**{f"execution__{name}": value for name, value in changes.items()})
    assert said in str(refused.value)


def test_a_lost_scheduler_is_said_and_gone_on_from(
    tmp_path: Path, whole: Path, computed: list[str], threads: Any
) -> None:
    spec = small(execution__executor="dask", execution__scheduler=threads.scheduler_address)
    with pytest.raises(BadInput, match="connection to the Dask scheduler was lost"):
        run_spec(spec, tmp_path / "run", watch=Listening(threads.close))
    assert run_spec(small(), tmp_path / "run").ended == "finished"
    assert contents(tmp_path / "run") == contents(whole)


MANY = {"data__limit": 4, "context__conditions": "asr,t-icl,icl,micl", "context__shots": "0,1,2,4"}


@pytest.mark.slow
def test_two_processes_one_of_them_killed(tmp_path: Path, computed: list[str]) -> None:
    """Real processes: one dies by SIGKILL after the first results; nothing is lost, nothing is there twice."""
    spec = small(**MANY)
    run_spec(spec, tmp_path / "whole")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
    ) as cluster:
        killed: list[int] = []

        def kill() -> None:
            victim = next(iter(cluster.workers.values())).pid
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        watch = Listening(kill)
        dask = spec.updated({"execution.executor": "dask", "execution.scheduler": cluster.scheduler_address})
        outcome = run_spec(dask, tmp_path / "run", watch=watch)
    assert killed
    assert outcome.ended == "finished"
    assert len(watch.done) == len({one.item for one in watch.done}) == outcome.planned
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_driver_is_gone_on_from_with_workers(tmp_path: Path, computed: list[str]) -> None:
    """The local executor stops; two processes that the run starts itself finish what is left."""

    class Stopping(Silent):
        def finished(self, done: Done) -> None:
            raise KeyboardInterrupt

    spec = small(**MANY)
    run_spec(spec, tmp_path / "whole")
    assert run_spec(spec, tmp_path / "run", watch=Stopping()).ended == "stopped"
    outcome = run_spec(spec.updated({"execution.executor": "dask", "execution.workers": 2}), tmp_path / "run")
    assert outcome.ended == "finished"
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_an_item_that_brings_every_worker_down_costs_itself_alone(tmp_path: Path) -> None:
    spec = small(execution__executor="dask")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_BoobyTrap())
        outcome = run_spec(spec.updated({"execution.scheduler": cluster.scheduler_address}), tmp_path)
    assert outcome.ended == "failures"
    assert outcome.finished == outcome.planned - len(outcome.failed)
    assert len(outcome.failed) == 1
    assert "KilledWorker" in next(iter(outcome.failed.values()))


class _BoobyTrap(distributed.WorkerPlugin):  # type: ignore[misc, name-defined]
    """Kills whoever computes one certain item, on workers that come later too."""

    def setup(self, worker: Any) -> None:
        measure = Bench.measure

        def deadly(bench: Bench, item: Item) -> Done:
            if item.prompt.target.id == "test-1" and item.prompt.condition == "asr":
                os.kill(os.getpid(), signal.SIGKILL)
            return measure(bench, item)

        Bench.measure = deadly  # type: ignore[assignment, method-assign]
