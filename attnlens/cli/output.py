"""The one way a command speaks: results on stdout, everything else on stderr, JSON when asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "out", "steps"]

Volume = Literal["quiet", "normal", "verbose"]


@dataclass
class Output:
    """How loud and in which form this process answers; set once by the root command."""

    volume: Volume = "normal"
    json: bool = False
    debug: bool = False

    @property
    def quiet(self) -> bool:
        """Whether progress and remarks are unwanted."""
        return self.volume == "quiet"

    def console(self, *, stderr: bool = False) -> Console:
        """Return a rich console; it drops colours and boxes by itself when piped or on a dumb terminal."""
        from rich.console import Console

        stream = sys.stderr if stderr else sys.stdout
        plain = not stream.isatty()
        # A pipe has no width: what is cut there at 80 columns is lost to grep.
        return Console(stderr=stderr, width=200 if plain else None, safe_box=True, soft_wrap=False, highlight=False)

    def emit(self, data: Mapping[str, Any], render: Callable[[Console], None]) -> None:
        """Print a result: ``data`` as JSON under ``--json``, otherwise what ``render`` draws."""
        if self.json:
            sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
        else:
            render(self.console())

    def remark(self, text: str) -> None:
        """Tell something that is not the result."""
        if not self.quiet:
            sys.stderr.write(text + "\n")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done, one line that goes away; gives the function to call with each step's name."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=out.console(stderr=True), disable=out.quiet, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda name: bar.update(task, description=name)


out = Output()
