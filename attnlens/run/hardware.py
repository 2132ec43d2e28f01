"""GPUs by name, and how long work takes on one at best guess: what a plan says before anybody waits in a queue."""

from __future__ import annotations

from dataclasses import dataclass

from attnlens.errors import UnknownName

__all__ = ["GPUS", "Gpu", "find_gpu", "seconds_on"]

READING, WRITING = 0.4, 0.5
"""Shares of the peak that a plain PyTorch model reaches when it reads a prompt and when it writes an answer."""


@dataclass(frozen=True)
class Gpu:
    """Memory in bytes, dense bfloat16 peak in operations per second, memory bandwidth in bytes per second."""

    memory: float
    peak: float
    bandwidth: float


# From the vendor's data sheets; dense, not sparse.
GPUS: dict[str, Gpu] = {
    "a100-80gb": Gpu(80e9, 312e12, 2.0e12),
    "h100-80gb": Gpu(80e9, 989e12, 3.35e12),
    "h200-141gb": Gpu(141e9, 989e12, 4.8e12),
    "l40s-48gb": Gpu(48e9, 362e12, 0.864e12),
    "rtx4090-24gb": Gpu(24e9, 165e12, 1.01e12),
}


def find_gpu(name: str) -> Gpu:
    """Return a GPU by name.

    >>> find_gpu("a100-80gb").memory
    80000000000.0
    """
    if name not in GPUS:
        raise UnknownName.among("GPU", name, GPUS)
    return GPUS[name]


def seconds_on(gpu: Gpu, *, operations: float, written: int, active_bytes: float) -> float:
    """Return a best guess: reading is bound by arithmetic, writing by fetching the weights once per token.

    >>> round(seconds_on(GPUS["a100-80gb"], operations=1e15, written=0, active_bytes=0))
    8
    """
    return operations / (READING * gpu.peak) + written * active_bytes / (WRITING * gpu.bandwidth)
