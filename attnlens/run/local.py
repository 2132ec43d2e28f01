"""The executor of one process: batch after batch, in plan order."""

from __future__ import annotations

from collections.abc import Iterable

from attnlens.run.batches import Batch
from attnlens.run.bench import Bench
from attnlens.run.keeper import Keeper
from attnlens.run.watch import Watcher

__all__ = ["run_local"]


def run_local(bench: Bench, batches: Iterable[Batch], keeper: Keeper, watch: Watcher, *, on_error: str) -> None:
    """Compute batch by batch and keep each; what is in hand when this is interrupted is written on the way out."""
    try:
        for batch in batches:
            found = []
            for done in bench.attempt(batch, started=lambda item: watch.started(item.describe())):
                found.append(done)
                if done.failed and on_error == "stop":
                    break
            keeper.keep(found)
            for done in found:
                watch.finished(done)
            if found[-1].failed and on_error == "stop":
                break
    finally:
        keeper.flush()
