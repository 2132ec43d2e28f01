"""What an item gives besides its trace: one JSON line per item, on disk before the trace calls itself finished."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlens.traces.durable import commit

__all__ = ["append_rows", "compact_rows", "read_rows"]

Row = Mapping[str, Any]
TOGETHER = "rows.jsonl"


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Append rows to this process's own file; they are on disk on return.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> append_rows(folder, [{"item": "a", "status": "failed"}, {"item": "a", "status": "finished"}])
    >>> read_rows(folder)
    {'a': {'item': 'a', 'status': 'finished'}}
    """
    path = folder / f"{socket.gethostname()}-{os.getpid()}.jsonl"
    # A line that a killed process of the same number left half written must not swallow the next one.
    text = "\n" + "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync(folder)


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return one row per item: the finished one where there is one, else how it failed last.

    Lines that a killed process left half written are passed over: their items do not count as finished.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
                name = row["item"]
            except (ValueError, KeyError, TypeError):
                continue
            if found.get(name, {}).get("status") != "finished":
                found[name] = row
    return found


def compact_rows(folder: Path, order: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Put the rows of all processes into one file, in plan order, so that it does not tell who computed what."""
    found = read_rows(folder)
    ordered = {name: found[name] for name in order if name in found}
    lines = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in ordered.values())
    others = [path for path in folder.glob("*.jsonl") if path.name != TOGETHER]
    commit(folder, {TOGETHER: lines.encode()})
    for path in others:
        path.unlink(missing_ok=True)
    return ordered


def _sync(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
