"""How far a run is: one line that stays, or a line now and then where nobody can see lines move."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attnlens.cli.output import out
from attnlens.run.watch import RunningCurve

if TYPE_CHECKING:
    from rich.console import Console

    from attnlens.run.bench import Done

__all__ = ["Display"]

TENTHS = 10


class Display:
    """Draw a run's progress on stderr: how many, how fast, how long still, which item, the bias per layer so far."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = out.console(stderr=True)
        self.curve = RunningCurve()
        self.total = self.done = self.failed = self.new = 0
        self.start = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[spark]}"),
            TextColumn("{task.fields[item]}", style="dim"),
            console=self.console,
            disable=out.quiet,
            transient=True,
        )
        self.task: Any = None

    def __enter__(self) -> Display:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def printed(self, draw: Callable[[Console], None]) -> None:
        """Print something above the line."""
        draw(self.console)

    def said(self, text: str) -> None:
        """Print a remark."""
        if not out.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def begun(self, total: int, finished: int) -> None:
        """Start the line."""
        self.total, self.done, self.start = total, finished, time.monotonic()
        if finished:
            self.said(f"{finished:,} of {total:,} items were finished before; going on")
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task("measuring", total=total, completed=finished, rate="", spark="", item="")

    def started(self, name: str) -> None:
        """Show what is worked on."""
        if self.task is None:
            self.task = self.bar.add_task("preparing", total=None, rate="", spark="", item=name)
        self.bar.update(self.task, item=name)

    def finished(self, done: Done) -> None:
        """Count an item."""
        self.done += 1
        self.new += 1
        self.failed += done.failed
        self.curve.add(done.curve)
        if done.failed:
            self.said(f"failed: {done.item}: {done.row['error']}")
        rate = self.new / max(time.monotonic() - self.start, 1e-9)
        spark = self.curve.draw()
        self.bar.update(
            self.task, completed=self.done, rate=f"{rate:.1f}/s", spark=f"bias by layer {spark}" if spark else ""
        )
        if not self.console.is_terminal and self.done * TENTHS // self.total > (self.done - 1) * TENTHS // self.total:
            left = (self.total - self.done) / rate
            self.said(f"{self.done:,} of {self.total:,} items, {rate:.1f}/s, about {left:.0f} s to go {spark}".rstrip())
