"""A bar over prompts, or a caller's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

__all__ = ["shown"]

T = TypeVar("T")
BAR_FROM = 4


def shown(places: Sequence[T], doing: str, tick: Callable[[], None] | None) -> Iterator[T]:
    """Go through places, telling ``tick`` after each; without it, a bar is shown where there are more than a few."""
    if tick is not None or len(places) < BAR_FROM:
        for place in places:
            yield place
            if tick is not None:
                tick()
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(places, description=doing, console=Console(stderr=True), transient=True)
