"""Benchmarks that cannot be run where the tests run must at least run small there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_gpu_benchmark_runs_on_a_toy() -> None:
    words = ["benchmarks/capture_gpu.py", "--device", "cpu", "--small", "--rounds", "1"]
    page = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert page.returncode == 0, page.stderr
    for shape in ("phi4", "qwen3-omni"):
        assert f"### {shape}, 256 tokens, 2 layers" in page.stdout
    assert page.stdout.count("| all rows, widened, by query groups |") == 2


@pytest.mark.slow
def test_the_commands_of_the_walk_through_end_well() -> None:
    words = ["experiments/docs/console.py", "docs/transcribe-a-new-language.md", "--check"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_says_what_to_do() -> None:
    import torch

    if torch.cuda.is_available():
        return
    page = subprocess.run(
        [sys.executable, "benchmarks/capture_gpu.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert page.returncode == 1
    assert "--device cpu --small" in page.stderr
