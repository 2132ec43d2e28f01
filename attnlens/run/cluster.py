"""The executor of many processes: the same items as tasks of a Dask cluster, each worker writing its own regions."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attnlens.errors import BadInput, listing
from attnlens.run.batches import Batch
from attnlens.run.bench import Done, Facts, failure
from attnlens.run.item import Item
from attnlens.run.rows import append_rows
from attnlens.run.spec import ExecutionSpec, RunSpec
from attnlens.run.watch import Watcher
from attnlens.run.worker import carry, describe, timed

if TYPE_CHECKING:
    from attnlens.traces.writing import TraceStore

__all__ = ["Workers"]

PATIENCE = 60.0
"""Seconds until a scheduler that does not answer counts as absent."""


class Workers:
    """A cluster for the length of a run: one that is running, one of this machine, or one that a class makes.

    What the cluster does about lost workers is Dask's: a task whose worker died is given to another. An item that was
    written before is then passed over, and one that two workers computed is kept once.
    """

    def __init__(self, execution: ExecutionSpec) -> None:
        self.execution = execution
        self._stack = contextlib.ExitStack()
        self.client: Any = None

    def __enter__(self) -> Self:
        distributed = _distributed()
        with self._stack as stack:
            where = self.execution.scheduler or stack.enter_context(_cluster(self.execution))
            try:
                self.client = stack.enter_context(distributed.Client(where, timeout=PATIENCE, set_as_default=False))
            except OSError as error:
                raise BadInput(
                    f"no Dask scheduler answers at {self.execution.scheduler}: {error}",
                    fix="start one with `dask scheduler` and pass its address, or use --local-workers",
                ) from None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self._stack.__exit__(*raised)

    def facts(self, spec: RunSpec) -> Facts:
        """Return what a worker knows of the model; the first that there is loads it."""
        found: Facts = self.client.submit(describe, spec, pure=False).result()
        return found

    def wait(self, watch: Watcher) -> None:
        """Wait for the first worker, which on a busy cluster may take hours."""
        if not self.client.scheduler_info()["workers"]:
            watch.said("waiting for the first worker; Ctrl-C gives up")
            self.client.wait_for_workers(1)

    def timed(self, spec: RunSpec, batches: Sequence[Batch]) -> list[float]:
        """Return the seconds that batches take on a worker."""
        found: list[float] = self.client.submit(timed, spec, list(batches), pure=False).result() if batches else []
        return found

    def run(
        self,
        spec: RunSpec,
        tasks: Iterable[list[Batch]],
        store: TraceStore,
        rows: Path,
        *,
        weights: str,
        watch: Watcher,
    ) -> None:
        """Have items computed and kept by the workers; return when each is done, failed, or given up."""
        distributed = _distributed()
        waiting: dict[Any, list[Batch]] = {}

        def submit(task: list[Batch]) -> Any:
            future = self.client.submit(carry, spec, task, store.path, rows, weights=weights, pure=False)
            waiting[future] = task
            return future

        futures = [submit(task) for task in tasks]
        done = distributed.as_completed(futures, loop=self.client.loop)
        watch.started(f"{len(waiting)} tasks on {len(self.client.scheduler_info()['workers'])} workers")
        try:
            for future in done:
                task = waiting.pop(future)
                for result in self._results(future, task, rows, lambda item: done.add(submit([_alone(item)]))):
                    watch.finished(result)
                    if result.failed and self.execution.on_error == "stop":
                        return
        finally:
            # Ctrl-C, --fail-fast: what a worker has begun it ends and keeps, nothing else is begun.
            if waiting and self.client.status == "running":
                self.client.cancel(list(waiting))

    def _results(self, future: Any, task: list[Batch], rows: Path, again: Any) -> list[Done]:
        distributed = _distributed()
        if future.status in ("cancelled", "lost"):
            raise _lost_scheduler()
        try:
            found: list[Done] = future.result()
        except (distributed.CancelledError, distributed.comm.CommClosedError, TimeoutError):
            raise _lost_scheduler() from None
        except distributed.scheduler.KilledWorker as error:
            items = [item for batch in task for item in batch.wanted]
            if sum(len(batch.items) for batch in task) == 1:
                # Who died could not write how.
                died = failure(items[0], error)
                append_rows(rows, [died.row])
                return [died]
            # One of these brings workers down; alone, the others are not blamed for it.
            for item in items:
                again(item)
            return []
        return found


def _alone(item: Item) -> Batch:
    return Batch((item,), frozenset([item.id]))


def _cluster(execution: ExecutionSpec) -> Any:
    if execution.cluster is None:
        # Memory is a model's own affair; Dask would kill what it takes for a leak.
        return _distributed().LocalCluster(
            n_workers=execution.workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.ERROR,
        )
    made = _class(execution.cluster)
    try:
        cluster = made(**execution.cluster_options)
        cluster.scale(execution.workers)
    except Exception as error:  # whatever a stranger's class thinks of its options or its queue
        raise BadInput(
            f"{execution.cluster} could not make a cluster: {type(error).__name__}: {error}",
            given=f"cluster_options: {execution.cluster_options}, workers: {execution.workers}",
            fix="see what the class takes, and whether this machine may submit jobs",
        ) from error
    return cluster


PACKAGES = {"dask_jobqueue": "attnlens[dask]", "dask_kubernetes": "dask-kubernetes"}


def _class(cluster: str) -> Any:
    """Return the class that a spec names, or say what is missing for it."""
    module, _, name = cluster.partition(":")
    top = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        absent = error.name == top
        raise BadInput(
            f"the package {top} is not installed" if absent else f"{module} cannot be imported: {error}",
            given=f"execution.cluster: {cluster}",
            fix=f"pip install {PACKAGES.get(top, top.replace('_', '-'))}" if absent else "check the module's name",
        ) from error
    if not callable(getattr(found, name, None)):
        names = [one for one in vars(found) if one.endswith("Cluster")]
        raise BadInput(
            f"{module} has no class {name!r}",
            given=f"execution.cluster: {cluster}",
            present=listing(names) if names else None,
            fix="write module:Class, such as dask_jobqueue:SLURMCluster",
        )
    return getattr(found, name)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise BadInput("dask is not installed", fix="install attnlens[dask], or use --executor local") from None
    return distributed


def _lost_scheduler() -> BadInput:
    return BadInput(
        "the connection to the Dask scheduler was lost",
        present="what was finished is on disk, and workers that are left may finish more",
        fix="when the scheduler is back, run the same command again: it goes on from there",
    )
