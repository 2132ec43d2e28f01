"""What is made of a run once its tables are written."""

from __future__ import annotations

from collections.abc import Callable

from attnlens.registry import Registry

__all__ = ["AFTER"]

AFTER: Registry[Callable[..., object]] = Registry(
    "step after a run",
    group="attnlens.steps",
    builtin={
        "selection": (
            "attnlens.run.selection:select_after_run",
            "hypotheses of an acoustic model chosen by every rule, beside baselines and bounds",
        ),
        "findings": (
            "attnlens.run.found:keep_findings",
            "findings.json: what was found, with verdicts by stated rules",
        ),
        "report": ("attnlens.run.report:report_run", "figures/ and report.html, with a few utterances in detail"),
    },
)
"""Called with the run directory; one that takes ``tick`` is given a function to tell what it is at."""
