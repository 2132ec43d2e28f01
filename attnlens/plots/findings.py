"""What a run found, as its report tells it: the findings kept with the run, or what its traces say by themselves."""

from __future__ import annotations

from attnlens.evidence.observed import observed
from attnlens.plots.source import Source
from attnlens.stats.findings import Findings

__all__ = ["findings_of"]


def findings_of(source: Source) -> Findings:
    """Return what can be said about a run, in reading order: its own ``findings.json``, if it has one.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = Path(tempfile.mkdtemp()) / "traces.zarr"
    >>> _ = save(trace(items=8), path)
    >>> "layers" in findings_of(Source.open(path))[0].claim
    True
    """
    kept = Findings.read(source.folder) if source.whole else None
    return observed(source.traces) if kept is None else kept
