"""A progress bar for work that turns out to be long; short work stays silent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["tracked"]

T = TypeVar("T")


def tracked(items: Iterable[T], *, total: int, what: str, after: float = 2.0) -> Iterator[T]:
    """Pass items on, showing a bar on standard error once ``after`` seconds have gone by.

    Standard output stays clean for results, and a loop of a millisecond does not flash a bar.

    >>> list(tracked("ab", total=2, what="embedding"))
    ['a', 'b']
    """
    begun = time.monotonic()
    bar: tuple[Progress, TaskID] | None = None
    try:
        for done, item in enumerate(items):
            if bar is not None:
                bar[0].update(bar[1], completed=done)
            elif time.monotonic() - begun > after:
                bar = _shown(what, total=total, done=done)
            yield item
        if bar is not None:
            bar[0].update(bar[1], completed=total)
    finally:
        if bar is not None:
            bar[0].stop()


def _shown(what: str, *, total: int, done: int) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    progress.start()
    return progress, progress.add_task(what, total=total, completed=done)
