"""The executor of one process: batch after batch, in plan order."""

from __future__ import annotations

from collections.abc import Iterable

from attnlens.run.batches import Batch
from attnlens.run.bench import Bench
from attnlens.run.keeper import Keeper
from attnlens.run.stopping import asked_to_stop
from attnlens.run.watch import Watcher

__all__ = ["run_local"]


def run_local(bench: Bench, batches: Iterable[Batch], keeper: Keeper, watch: Watcher, *, on_error: str) -> None:
    """Compute batch by batch and keep every item; asked to stop, end the batch in hand, write it, and stop."""
    try:
        with asked_to_stop(watch.said) as asked:
            for batch in batches:
                for done in bench.attempt(batch, started=lambda item: watch.started(item.describe())):
                    keeper.keep([done])
                    watch.finished(done)
                    if done.failed and on_error == "stop":
                        return
                if asked():
                    raise KeyboardInterrupt
    finally:
        # Also what was done of a batch that is interrupted.
        keeper.flush()
