"""Where numbers come from: versions, code, weights, host. No times, so that equal runs say the same."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput
from attnlens.run.spec import RunSpec
from attnlens.traces.durable import commit

if TYPE_CHECKING:
    from attnlens.run.bench import Facts

__all__ = ["host_facts", "keep_provenance", "read_provenance"]

FILE = "provenance.json"
PACKAGES = ("torch", "transformers", "numpy", "xarray", "zarr", "tokenizers", "soundfile", "soxr", "jiwer")


def keep_provenance(folder: Path, spec: RunSpec, facts: Facts) -> None:
    """Write ``provenance.json`` at the start of a run; when it goes on, refuse other weights and note another host."""
    found = read_provenance(folder)
    made = _provenance(spec, facts)
    if found is not None:
        _same_weights(folder, found, made)
        if facts.host in found["hosts"]:
            return
        made = {**found, "hosts": [*found["hosts"], facts.host]}
    commit(folder, {FILE: (json.dumps(made, ensure_ascii=False, indent=2) + "\n").encode()})


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return what a run directory says about its origin, None when it says nothing yet."""
    try:
        found: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise BadInput(
            f"{folder / FILE} is no readable JSON, so it is unknown which weights this run began with",
            fix="restore it from a copy, or begin again in another directory",
        ) from None
    return found


def host_facts() -> dict[str, Any]:
    """Return what of this machine can change a number in its last digits."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(one) for one in range(torch.cuda.device_count())] if cuda else [],
        "cuda": torch.version.cuda if cuda else None,
    }


def _provenance(spec: RunSpec, facts: Facts) -> dict[str, Any]:
    from attnlens import __version__

    return {
        "spec": spec.hash,
        "attnlens": __version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "code": _commit(),
        "model": {
            "name": spec.model.name,
            "revision": facts.revision,
            "adapter": facts.adapter,
            "weights": facts.weights,
            **{name: facts.attrs[name] for name in ("family", "dtype", "attention")},
        },
        "seeds": list(spec.seeds),
        "hosts": [facts.host],
    }


def _same_weights(folder: Path, found: dict[str, Any], made: dict[str, Any]) -> None:
    if found["model"]["weights"] == made["model"]["weights"]:
        return
    raise BadInput(
        f"the weights of {made['model']['name']} are not those that {folder} was begun with",
        given=f"weights {made['model']['weights']}, revision {made['model']['revision']}",
        present=f"weights {found['model']['weights']}, revision {found['model']['revision']}",
        fix="put the old weights back (model.revision pins them), or pass another --out",
    )


def _commit() -> str | None:
    """Return the git commit of the code, with a mark when files differ from it; None outside of a checkout."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(here)]
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
        dirty = subprocess.run(  # noqa: S603
            [*ask, "status", "--porcelain", "--", "attnlens"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(named, platform.processor())}, {os.cpu_count()} cores"
