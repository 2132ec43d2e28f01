"""What a run found, kept beside its tables: claims with evidence and a verdict by stated rules."""

from __future__ import annotations

from pathlib import Path

from attnlens.run.folder import RunFolder
from attnlens.stats.findings import Findings

__all__ = ["keep_findings"]


def keep_findings(folder: str | Path) -> Findings:
    """Judge what the traces and answers of a run directory say, and write ``findings.json``; nothing is run again."""
    from attnlens.evidence.observed import observed
    from attnlens.run.foretold import foretelling
    from attnlens.run.load import load_spec
    from attnlens.traces.reading import open_traces

    path = RunFolder(Path(folder))
    found = observed(open_traces(path.traces, lazy="zarr"))
    normaliser = load_spec(path.path / "spec.yaml").data.normaliser
    foretold = foretelling(path.read_items(), normaliser=normaliser)
    if foretold is not None:
        found = Findings((*found, foretold))
    found.write(path.path)
    return found
