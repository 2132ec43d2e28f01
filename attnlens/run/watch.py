"""What is told while a run goes on; the command line draws it, programs may listen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from attnlens.run.bench import Done

__all__ = ["RunningCurve", "Silent", "Watcher", "sparkline"]

BARS = "▁▂▃▄▅▆▇█"


class Watcher(Protocol):
    """Anything that wants to know how a run gets on."""

    def said(self, text: str) -> None:
        """Hear a remark."""
        ...

    def begun(self, total: int, finished: int) -> None:
        """Learn how many items there are and how many of them were finished before."""
        ...

    def started(self, name: str) -> None:
        """Learn what is worked on: before :meth:`begun` what is looked at, afterwards an item."""
        ...

    def finished(self, done: Done) -> None:
        """Learn what came of an item."""
        ...


class Silent:
    """A watcher that tells nobody."""

    def said(self, text: str) -> None:
        """Pass over a remark."""

    def begun(self, total: int, finished: int) -> None:
        """Pass over the beginning."""

    def started(self, name: str) -> None:
        """Pass over an item's name."""

    def finished(self, done: Done) -> None:
        """Pass over a result."""


class RunningCurve:
    """The mean over items of the bias per layer, as far as the run has come."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self._count = 0

    def add(self, curve: NDArray[np.float32] | None) -> None:
        """Count one more item [layers]; None has no bias."""
        if curve is None or not np.isfinite(curve).all():
            return
        self._sum = curve.astype(np.float64) if self._sum is None else self._sum + curve
        self._count += 1

    def draw(self) -> str:
        """Return a bar per layer, the middle height being no preference; empty before the first item."""
        return "" if self._sum is None else sparkline(self._sum / self._count)


def sparkline(values: NDArray[np.float64]) -> str:
    """Draw numbers between -1 and 1 as bars, widened to the largest of them.

    >>> sparkline(np.array([-1.0, 0.0, 0.98]))
    '▁▅█'
    """
    reach = float(np.abs(values).max()) or 1.0
    levels = ((values / reach + 1) / 2 * (len(BARS) - 1) + 0.5).astype(int)
    return "".join(BARS[level] for level in np.clip(levels, 0, len(BARS) - 1))
