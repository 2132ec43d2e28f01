"""What a Dask worker does: load the model once, compute its items, write them itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from attnlens.errors import SelfCheckFailed
from attnlens.run.batches import Batch
from attnlens.run.bench import Bench, Done, Facts
from attnlens.run.keeper import Keeper
from attnlens.run.spec import RunSpec
from attnlens.traces.writing import TraceStore

__all__ = ["carry", "describe", "timed"]

_ALONE = threading.Lock()
"""One task at a time in a process, however many threads its worker has: they would share one model."""
_benches: dict[str, Bench] = {}


def describe(spec: RunSpec) -> Facts:
    """Return what is known of the model once it is loaded."""
    with _ALONE:
        return _bench(spec).facts()


def timed(spec: RunSpec, batches: Sequence[Batch]) -> list[float]:
    """Return the seconds that batches take on this worker."""
    with _ALONE:
        return _bench(spec).timed(batches)


def carry(spec: RunSpec, batches: Sequence[Batch], traces: Path, rows: Path, *, weights: str) -> list[Done]:
    """Compute and keep what is due and nobody has finished, and tell what came of each item, without traces."""
    with _ALONE:
        bench = _bench(spec)
        if bench.weights != weights:
            raise SelfCheckFailed(
                f"two workers have different weights of {spec.model.name}",
                given=f"weights {bench.weights} on this worker",
                present=f"weights {weights} in the run",
                fix="give every worker the same checkpoint; model.revision pins one of the hub",
            )
        store = TraceStore.open(traces)
        keeper = Keeper(store, rows)
        finished = set(store.finished())
        told = []
        for batch in batches:
            # The worker that wrote these died before it could say so.
            told += [Done({"item": item.id, "status": "finished"}) for item in batch.wanted if item.id in finished]
            due = Batch(batch.items, batch.due - finished)
            if due.due:
                found = list(bench.attempt(due))
                keeper.keep(found)
                told += [Done(done.row, curve=done.curve) for done in found]
        keeper.flush()
        return told


def _bench(spec: RunSpec) -> Bench:
    key = spec.canonical()
    if key not in _benches:
        _benches.clear()  # two models at once may not fit
        _benches[key] = Bench(spec)
    return _benches[key]
