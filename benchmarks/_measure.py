"""Time and memory of alternatives taken in turn, medians of ratios.

On the CPU: processor time of one thread and peak resident memory. On a GPU: time between events and peak allocation.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

__all__ = ["Way", "compare", "machine", "table"]

Pages = Literal["as they come", "given back", "settled"]
"""What glibc does with freed memory. Left alone it learns as it goes: a forward takes 16 or 75 thousand page faults.
Given back: all that is large is returned at once, so that peaks are what was held. Settled: what it comes to in the
long run, buffers of up to 32 MiB kept and larger ones returned, so that times can be compared."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LIBC = ctypes.CDLL("libc.so.6")


@dataclass
class Way:
    """One way of doing a thing: ``prepare`` is not measured."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0


def compare(ways: Mapping[str, Way], *, rounds: int, device: str = "cpu", pages: Pages = "as they come") -> None:
    """Run every way once to warm up and then in turn, so that a drift of the machine hits all of them.

    With pages ``given back`` only peaks are noted, with pages ``settled`` only times.
    """
    if pages == "given back":
        LIBC.mallopt(MMAP_THRESHOLD, 1 << 17)
    elif pages == "settled":
        LIBC.mallopt(MMAP_THRESHOLD, 1 << 25)
        LIBC.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    once = _on_gpu if device.startswith("cuda") else _on_cpu
    every = list(ways.values())
    # What a library takes at its first call is the first way's; what a way takes at its own first call is its own.
    warming = every[:1] if pages == "given back" else every
    for turn, way in enumerate(warming + every * rounds):
        way.prepare()
        _tidy(pages)
        seconds, peak = once(way)
        if turn >= len(warming) and pages != "given back":
            way.seconds.append(seconds)
        if turn >= len(warming) and pages != "settled":
            way.peak = max(way.peak, peak)


def _on_cpu(way: Way) -> tuple[float, float]:
    before = _reset_peak()
    start = time.process_time()
    with torch.no_grad():
        way.run()
    return time.process_time() - start, _peak() - before


def _on_gpu(way: Way) -> tuple[float, float]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    with torch.no_grad():
        way.run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3, (torch.cuda.max_memory_allocated() - before) / 2**20


def table(
    ways: Mapping[str, Way], *, baseline: str, limits: Mapping[str, tuple[float, float]]
) -> tuple[str, list[str]]:
    """Return a Markdown table of ratios to the baseline, and what is over its limit."""
    base = ways[baseline]
    lines = [
        f"| way | s | x {baseline} | limit | peak MB | x {baseline} | limit |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    late: list[str] = []
    for name, way in ways.items():
        seconds = statistics.median(way.seconds)
        slower = statistics.median(ours / theirs for ours, theirs in zip(way.seconds, base.seconds, strict=True))
        larger = way.peak / base.peak
        time_limit, memory_limit = limits.get(name, (0.0, 0.0))
        lines.append(
            f"| {name} | {seconds:.2f} | {slower:.2f} | {_limit(time_limit)} "
            f"| {way.peak:.0f} | {larger:.2f} | {_limit(memory_limit)} |"
        )
        late += [f"{name}: time x {slower:.2f}"] if time_limit and slower > time_limit else []
        late += [f"{name}: memory x {larger:.2f}"] if memory_limit and larger > memory_limit else []
    return "\n".join(lines), late


def machine() -> str:
    """Return what the figures were measured with."""
    import transformers

    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return (
        f"{model}, one thread, CPU time; Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; float32"
    )


def _limit(limit: float) -> str:
    return f"{limit:.2f}" if limit else ""


def _tidy(pages: Pages) -> None:
    gc.collect()
    if pages != "settled":
        LIBC.malloc_trim(0)


def _reset_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    found = next(line for line in _lines("/proc/self/status") if line.startswith(name))
    return int(found.split()[1]) / 1024


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()
