"""Specs in files: read so that mistakes are named, written so that they read back the same."""

from __future__ import annotations

from pathlib import Path

import yaml

from attnlens.errors import AttnlensError
from attnlens.mapping import read_mapping
from attnlens.run.spec import RunSpec

__all__ = ["dump_spec", "load_spec", "write_spec"]


def load_spec(path: Path | str) -> RunSpec:
    """Read a spec from a YAML file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_spec(RunSpec(seeds=[0, 1]), Path(folder))
    ...     load_spec(path).seeds
    (0, 1)
    """
    fields = read_mapping(path, keys=RunSpec.model_fields, example="seeds: [0, 1]")
    try:
        return RunSpec(**fields)
    except AttnlensError as error:
        error.message = f"{path}: {error.message}"
        raise


def dump_spec(spec: RunSpec) -> str:
    """Return the resolved spec as YAML, every default spelled out."""
    return yaml.safe_dump(spec.to_dict(), sort_keys=False, allow_unicode=True, width=120)


def write_spec(spec: RunSpec, directory: Path) -> Path:
    """Write ``spec.yaml`` beside a result and return its path."""
    path = directory / "spec.yaml"
    path.write_text(f"# resolved spec, hash {spec.hash}\n{dump_spec(spec)}", encoding="utf-8")
    return path
