"""What a person looks at after a run: its figures and its report, with a few utterances to look into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.run.tokens import keep_details

if TYPE_CHECKING:
    from attnlens.plots.report import Report

__all__ = ["report_run"]


def report_run(folder: str | Path, *, utterances: int = 3, tick: Callable[[str], None] | None = None) -> Report:
    """Draw the figures of a finished run and write its ``report.html``, with token-level detail of some utterances.

    ``utterances=0`` measures nothing more and loads no model; what was kept before is still shown.
    """
    from attnlens.plots.report import write_report

    if utterances:
        keep_details(folder, utterances=utterances, tick=tick)
    return write_report(folder, tick=tick)
