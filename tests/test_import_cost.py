"""Help and import stay light: nothing heavy is loaded on either path."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import attnlens

HEAVY = [
    "datasets",
    "matplotlib",
    "seaborn",
    "nnsight",
    "pandas",
    "scipy",
    "sklearn",
    "soundfile",
    "torch",
    "transformers",
    "xarray",
]


def loaded(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(name.split('.')[0] for name in sys.modules)))"
    page = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(page.stdout.splitlines()[-1]))


HELP = "from attnlens.cli.main import run\ntry:\n    run(['--help'])\nexcept SystemExit:\n    pass"
SPEC = "import attnlens; attnlens.RunSpec()"


@pytest.mark.parametrize("code", ["import attnlens", HELP, SPEC], ids=["import", "help", "spec"])
def test_nothing_heavy(code: str) -> None:
    assert loaded(code) & set(HEAVY) == set()


def test_every_public_name_is_there_and_typed() -> None:
    source = attnlens.__spec__
    assert source is not None
    assert source.origin is not None
    from pathlib import Path

    text = Path(source.origin).read_text(encoding="utf-8")
    for name in attnlens.__all__:
        assert getattr(attnlens, name) is not None
        if name != "__version__":
            assert f"import {name} as {name}" in text, f"type checkers do not see {name}"
    assert set(dir(attnlens)) == set(attnlens.__all__)
    with pytest.raises(AttributeError, match="RunSpce"):
        attnlens.RunSpce  # noqa: B018
