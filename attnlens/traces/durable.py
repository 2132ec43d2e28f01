"""Files that survive a crash: each is the old one or the new one, never half, and on disk when the call returns."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["commit", "locked"]

_log = logging.getLogger(__name__)
THREADS = 8
_IN_PROCESS = threading.Lock()
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


def commit(root: Path, files: Mapping[str, bytes]) -> None:
    """Put files under ``root`` so that they are durable on return and that no crash leaves one of them half written.

    All contents are on disk under temporary names before the first file is replaced: a full disk is noticed while
    everything is still as it was. An OSError is passed on after the temporary files are gone.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> commit(folder, {"a/b": b"first"})
    >>> commit(folder, {"a/b": b"second", "c": b""})
    >>> sorted(path.name for path in folder.rglob("*")), (folder / "a/b").read_bytes()
    (['a', 'b', 'c'], b'second')
    """
    # One fixed name each: what a killed process left is overwritten by whoever does its work again.
    pairs = [((root / key).with_name(f".{Path(key).name}.tmp"), root / key) for key in files]
    try:
        made = _directories(root, {path.parent for _, path in pairs})
        _each(_write, [(temporary, content) for (temporary, _), content in zip(pairs, files.values(), strict=True)])
    except OSError:
        for temporary, _ in pairs:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise
    for temporary, path in pairs:
        temporary.replace(path)
    _each(_sync_directory, [(folder,) for folder in {path.parent for _, path in pairs} | made])


@contextlib.contextmanager
def locked(path: Path, number: int) -> Iterator[None]:
    """Hold the lock ``number`` of the lock file ``path``, waiting while another process or thread holds it.

    The lock is a byte range of the file, which the system releases when a process dies: a killed writer leaves none
    behind. On a file system without locks a warning says so and the work goes on; keep one writer per region there.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with locked(path, 3):
    ...     path.exists()
    True
    """
    # Range locks belong to the process, and closing any handle drops them all: so one thread at a time.
    with _IN_PROCESS, path.open("ab") as file:
        _lock(file.fileno(), number, path)
        yield


def _lock(handle: int, number: int, path: Path) -> None:
    try:
        import fcntl

        fcntl.lockf(handle, fcntl.LOCK_EX, 1, number)
    except ImportError:
        _log.warning("this platform has no range locks; let only one process write a region of %s", path.parent)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("no locks on this file system; let only one process write a region of %s", path.parent)


def _each(call: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    if len(arguments) == 1:
        call(*arguments[0])
        return
    # Side by side, the file system puts several files on disk in the time of one.
    with ThreadPoolExecutor(min(len(arguments), THREADS)) as pool:
        for done in [pool.submit(call, *one) for one in arguments]:
            done.result()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _directories(root: Path, wanted: set[Path]) -> set[Path]:
    """Make folders and return those whose listing changed, so that the new names are synced too."""
    changed = set()
    for folder in sorted(wanted):
        missing = [one for one in (folder, *folder.parents) if one.is_relative_to(root) and not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        changed |= {one.parent for one in missing}
    return changed


def _sync_directory(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # Windows opens no folders; there a rename is durable without.
        if os.name == "nt":
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
