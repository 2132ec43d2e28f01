"""One run, one process: a lock on a run directory that dies with its holder."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from attnlens.errors import BadInput

__all__ = ["held"]

_log = logging.getLogger(__name__)
_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, or refuse when another process does, naming it.

    The system releases the lock when its holder ends, however it ends; the file stays and means nothing by itself. On
    NFS the lock holds between machines where the server keeps locks. Where it keeps none a warning says so.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with held(path):
    ...     with held(path):
    ...         pass
    Traceback (most recent call last):
    attnlens.errors.BadInput: another process is at work in ...
    """
    with path.open("a+", encoding="utf-8") as file:
        _take(file.fileno(), path)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _take(handle: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:
        _log.warning("this platform has no file locks; let only one process work in %s", path.parent)
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise BadInput(
                f"another process is at work in {path.parent}",
                present=path.read_text(encoding="utf-8").strip() or None,
                fix="wait for it, stop it, or write to another directory with --out",
            ) from None
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning("no locks on this file system; let only one process work in %s", path.parent)
