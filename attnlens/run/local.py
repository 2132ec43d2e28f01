"""The executor of one process: item after item, in plan order."""

from __future__ import annotations

from collections.abc import Sequence

from attnlens.run.bench import Bench
from attnlens.run.item import Item
from attnlens.run.keeper import Keeper
from attnlens.run.watch import Watcher

__all__ = ["run_local"]


def run_local(bench: Bench, items: Sequence[Item], keeper: Keeper, watch: Watcher, *, on_error: str) -> None:
    """Compute items one by one and keep each; what is in hand when this is interrupted is written on the way out.

    Items are not batched: padding moves the last digits of a result, and a store must not depend on which items
    happened to be left over. What items share, their recordings, is encoded once.
    """
    try:
        for item in items:
            watch.started(item.describe())
            done = bench.attempt(item)
            keeper.keep(done)
            watch.finished(done)
            if done.failed and on_error == "stop":
                break
    finally:
        keeper.flush()
