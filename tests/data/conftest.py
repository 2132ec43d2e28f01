"""Small corpora made of noise that is as loud as speech, written to real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray


def noise(seconds: float = 1.0, *, seed: int = 0, rate: int = 16_000, channels: int = 1) -> NDArray[np.float32]:
    """Return samples [n] or [n, channels] at about -20 dBFS."""
    size = round(seconds * rate)
    samples = 0.1 * np.random.default_rng(seed).standard_normal((size, channels))
    return (
        np.clip(samples, -0.9, 0.9).astype(np.float32).squeeze(axis=1) if channels == 1 else samples.astype("float32")
    )


@pytest.fixture(scope="session")
def make_noise() -> Callable[..., NDArray[np.float32]]:
    return noise


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    """Write a clip below the test's folder; every name sounds different unless a seed is given."""

    def write(name: str, *, seconds: float = 1.0, seed: int | None = None, rate: int = 16_000, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(name.encode()) if seed is None else seed
        soundfile.write(path, noise(seconds, seed=seed, rate=rate), rate, **options)
        return path

    return write


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write records as a JSONL manifest below the test's folder."""

    def write(*records: dict[str, Any], name: str = "corpus.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    return write
