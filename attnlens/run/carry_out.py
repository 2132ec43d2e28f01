"""A run from its spec to its tables: plan, directory, executor, answer; begun anew or gone on with."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attnlens.errors import AttnlensError, DamagedStore, listing
from attnlens.run.after import AFTER
from attnlens.run.batches import Batch, layout_of, middles, planned_batches
from attnlens.run.bench import Bench, Facts
from attnlens.run.estimate import estimated_seconds
from attnlens.run.folder import LOG, RunFolder, default_folder, read_table, writing
from attnlens.run.plan import Plan, make_plan
from attnlens.run.provenance import keep_provenance
from attnlens.run.rows import compact_rows, read_rows
from attnlens.run.spec import RunSpec
from attnlens.run.tables import TABLES, make_tables
from attnlens.run.watch import Silent, Watcher

if TYPE_CHECKING:
    from attnlens.run.item import Item
    from attnlens.traces.writing import TraceStore

__all__ = ["Outcome", "run_spec"]

NAMED = 3
MAY_BE_THERE = ("interventions", "selection", "ledger")
"""Tables that only some runs have, or that steps after a run leave, and that its answer tells."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and where it lies."""

    folder: Path
    ended: Literal["finished", "failures", "stopped"]
    planned: int
    finished: int
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by item id."""
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        counts = {"folder": str(self.folder), "ended": self.ended, "planned": self.planned, "finished": self.finished}
        return {**counts, "failed": self.failed, "tables": self.tables}


Planned = Callable[[Plan, Facts, "Sequence[Item]"], None]


def run_spec(
    spec: RunSpec,
    out: Path | str | None = None,
    *,
    watch: Watcher | None = None,
    planned: Planned | None = None,
) -> Outcome:
    """Carry a spec out, or go on where the last call stopped; what is finished is never computed again.

    Parameters
    ----------
    out
        The run directory; by default ``runs/<name>-<hash>``, so that the same spec finds its own results.
    watch
        Told of everything that happens.
    planned
        Called before the first item with the plan, with what is known of the loaded model, and with the items due.

    >>> import tempfile
    >>> spec = RunSpec(
    ...     model={"name": "tiny:qwen3-asr"},
    ...     data={"corpora": "synthetic", "limit": 1},
    ...     context={"shots": "0"},
    ...     decoding={"max_new_tokens": 3},
    ...     execution={"after": []},
    ... )
    >>> outcome = run_spec(spec, tempfile.mkdtemp())
    >>> outcome.ended, outcome.finished
    ('finished', 2)
    """
    folder = RunFolder(Path(out) if out is not None else default_folder(spec))
    watch = watch or Silent()
    with folder.opened(spec):
        LOG.info("begun: spec %s", spec.hash)
        known = _known(folder, watch, spec.execution.after)
        if known is not None:
            watch.said(f"everything is finished already: {known.finished:,} items in {folder.path}")
            return known
        outcome = _Session(spec, folder, watch, planned or (lambda _plan, _facts, _due: None)).go()
        LOG.info("ended: %s, %d of %d items", outcome.ended, outcome.finished, outcome.planned)
        return outcome


def _known(folder: RunFolder, watch: Watcher, after: Sequence[str]) -> Outcome | None:
    """Return the outcome of a directory in which nothing is left to do, without loading a model."""
    from attnlens.traces.writing import TraceStore

    if not folder.traces.exists():
        return None
    _mend(folder, watch)
    items = folder.read_items()
    there = all((folder.tables / f"{name}.csv").exists() for name in TABLES) and not set(after) - set(folder.steps())
    if not there or {row["status"] for row in items} != {"finished"} or TraceStore.open(folder.traces).unfinished():
        return None
    return Outcome(folder.path, "finished", len(items), len(items), tables=_told(folder))


def _told(folder: RunFolder) -> dict[str, list[dict[str, Any]]]:
    """Return what is told of a run: its tables, and those that not every run has."""
    names = [*TABLES, *(name for name in MAY_BE_THERE if (folder.tables / f"{name}.csv").exists())]
    return {name: read_table(folder.tables / f"{name}.csv") for name in names}


def _mend(folder: RunFolder, watch: Watcher) -> None:
    """Take the marks off items that call themselves finished and are not what was measured."""
    from attnlens.traces.check import check_store
    from attnlens.traces.writing import TraceStore

    with writing(folder.path):
        tick = partial(_checked, watch)
        damaged = dict(check_store(folder.traces, tick=tick).damaged)
        store = TraceStore.open(folder.traces)
        store.redo(damaged)
        rows = read_rows(folder.rows)
        lost = [name for name in store.finished() if rows.get(name, {}).get("status") != "finished"]
        store.redo(lost)
    damaged |= dict.fromkeys(lost, "its row is lost")
    if damaged:
        count = f"{len(damaged):,} finished item{'s' if len(damaged) > 1 else ''} cannot be trusted"
        told = f"{count} and will be done again: {next(iter(damaged.values()))}"
        watch.said(told)
        LOG.warning("%s (%s)", told, listing(damaged, at_most=NAMED))


def _checked(watch: Watcher, done: int, of: int) -> None:
    watch.started(f"checking region {done:,} of {of:,}")


class _Session:
    def __init__(self, spec: RunSpec, folder: RunFolder, watch: Watcher, planned: Planned) -> None:
        self.spec = spec
        self.folder = folder
        self.watch = watch
        self.planned = planned
        self.measured = False

    def go(self) -> Outcome:
        self.watch.said("planning")
        plan = make_plan(self.spec, tick=lambda name: self.watch.started(f"planning {name}"))
        if self.spec.execution.executor == "dask":
            return self._with_workers(plan)
        bench = Bench(self.spec)
        self._now(f"loading {self.spec.model.name}")
        return self._carry(plan, bench.facts(), bench.timed, partial(self._local, bench))

    def _now(self, doing: str) -> None:
        self.watch.said(doing)
        self.watch.started(doing)

    def _local(self, bench: Bench, tasks: Iterable[list[Batch]], store: TraceStore) -> None:
        from attnlens.run.keeper import Keeper
        from attnlens.run.local import run_local

        keeper = Keeper(store, self.folder.rows)
        batches = (batch for task in tasks for batch in task)
        run_local(bench, batches, keeper, self.watch, on_error=self.spec.execution.on_error)

    def _with_workers(self, plan: Plan) -> Outcome:
        from attnlens.run.cluster import Workers

        self._now("starting workers")
        with Workers(self.spec.execution) as workers:
            workers.wait(self.watch)
            self._now(f"loading {self.spec.model.name} on a worker")
            facts = workers.facts(self.spec)
            timed = partial(workers.timed, self.spec)
            run = partial(workers.run, rows=self.folder.rows.absolute(), weights=facts.weights, watch=self.watch)
            return self._carry(plan, facts, timed, lambda tasks, store: run(self.spec, tasks, store))

    def _due(self, plan: Plan) -> list[Item]:
        """Return what is left to do, in order."""
        from attnlens.traces.writing import TraceStore

        if not self.folder.traces.exists():
            return list(plan.items)
        done = set(TraceStore.open(self.folder.traces).finished())
        return [item for item in plan.items if item.id not in done]

    def _carry(
        self,
        plan: Plan,
        facts: Facts,
        timed: Callable[[Sequence[Batch]], list[float]],
        execute: Callable[[Iterable[list[Batch]], TraceStore], None],
    ) -> Outcome:
        with writing(self.folder.path):
            keep_provenance(self.folder.path, self.spec, facts)
            store = self._store(plan, facts)
        due = self._due(plan)
        self.measured = bool(due)
        tasks = planned_batches(plan, facts, due)
        if few := middles(tasks):
            self.watch.started(f"timing {len(few)} batches")
            facts = replace(facts, seconds=tuple(timed(few)))
        self.planned(plan, facts, due)
        self.folder.write_items(plan.items, read_rows(self.folder.rows))
        self.watch.begun(len(plan.items), len(plan.items) - len(due))
        stopped, start = False, time.monotonic()
        try:
            with writing(self.folder.path):
                execute(tasks, store)
        except KeyboardInterrupt:
            stopped = True
        except AttnlensError:
            # What stopped the run may also keep this from being written; the first of the two is the reason.
            with contextlib.suppress(AttnlensError):
                self._written(plan, store)
            raise
        told = (
            f"; estimated: {estimated_seconds(plan, facts, due) / self.spec.execution.workers:.0f} s"
            if facts.seconds
            else ""
        )
        LOG.info("measured up to %d items in %.0f s%s", len(due), time.monotonic() - start, told)
        return self._outcome(plan, self._written(plan, store), stopped=stopped)

    def _store(self, plan: Plan, facts: Facts) -> TraceStore:
        from attnlens.traces.writing import TraceStore

        layout = layout_of(plan, facts)
        # Absolute, since workers may stand in other folders.
        path = self.folder.traces.absolute()
        return TraceStore.open(path, expect=layout) if path.exists() else TraceStore.create(path, layout)

    def _written(self, plan: Plan, store: TraceStore) -> dict[str, dict[str, Any]]:
        """Write ``items.csv`` of what the store really holds, and return its rows."""
        done = set(store.finished())
        with writing(self.folder.path):
            found = compact_rows(self.folder.rows, [item.id for item in plan.items])
        rows = {name: row for name, row in found.items() if name in done or row["status"] == "failed"}
        self.folder.write_items(plan.items, rows)
        return rows

    def _outcome(self, plan: Plan, rows: Mapping[str, Mapping[str, Any]], *, stopped: bool) -> Outcome:
        failed = {name: str(row["error"]) for name, row in rows.items() if row["status"] == "failed"}
        for name, why in failed.items():
            LOG.error("item %s failed: %s", name, why)
        finished = len(rows) - len(failed)
        tables: dict[str, list[dict[str, Any]]] = {}
        if not stopped:
            self.watch.said("counting")
            tables = self._tables(plan)
        complete = finished == len(plan.items)
        ended: Literal["finished", "failures", "stopped"] = (
            "stopped" if stopped else "finished" if complete else "failures"
        )
        return Outcome(self.folder.path, ended, len(plan.items), finished, failed, tables)

    def _tables(self, plan: Plan) -> dict[str, list[dict[str, Any]]]:
        try:
            tables = make_tables(self.folder.read_items(), self.folder.traces, normaliser=self.spec.data.normaliser)
        except DamagedStore as error:
            error.fix = "run the same command again: only what is damaged is measured again"
            raise
        for name, rows in tables.items():
            self.folder.write_table(self.folder.tables / f"{name}.csv", rows)
        self._steps()
        # Read back, so that a run that was finished before tells the same to the last digit.
        return _told(self.folder)

    def _steps(self) -> None:
        """Do what stands after a run, and note that it was done: a run that was killed meanwhile goes on from there."""
        done = {} if self.measured else self.folder.steps()
        for name in self.spec.execution.after:
            if name in done:
                continue
            self.watch.said(f"making the {name}")
            step = AFTER[name]
            start = time.monotonic()
            ticks = {"tick": self.watch.started} if "tick" in signature(step).parameters else {}
            try:
                step(self.folder.path, **ticks)
                done[name] = "done"
                LOG.info("%s: %.0f s", name, time.monotonic() - start)
            except AttnlensError as error:
                # What was measured stands, whatever a drawing lacks.
                self.watch.said(f"{name} was left out: {error.message}")
                LOG.warning("%s was left out: %s", name, error)
                done[name] = f"left out: {error.message}"
            self.folder.note_steps(done)
