"""Arrays kept on disk between runs, named by the content they were computed from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

__all__ = ["ArrayCache"]

_log = logging.getLogger(__name__)
_CHECKSUM = 16
_OWN = re.compile(r"[0-9a-f]{32}\.npy|\.[0-9a-f]{32}\.[0-9a-f]{32}\.tmp")


class ArrayCache:
    """Compute an array once and read it ever after; safe to share between processes and to lose at any time.

    Parameters
    ----------
    directory
        Where the files go; made when missing. Other files in it are left alone.

    Keys must say everything that the array depends on: the clip's content hash, what was computed, with which settings
    and which version. Each file is a plain ``.npy`` followed by a checksum, which ``numpy.load`` ignores. A file that
    fails its checksum is logged as a warning, computed again and replaced. When a write fails (a full disk), the
    warning says so and the array is still returned.

    >>> import tempfile
    >>> cache = ArrayCache(tempfile.mkdtemp())
    >>> cache.get_or_compute("3f2a.log-mel.v1", lambda: np.arange(3)).tolist()
    [0, 1, 2]
    >>> cache.get_or_compute("3f2a.log-mel.v1", lambda: np.zeros(0)).tolist()
    [0, 1, 2]
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Permission bits lie on network shares and for root; only a write tells.
            probe = self._temporary("0" * 32)
            probe.touch(exist_ok=False)
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise BadInput(
                "the cache directory cannot be written to",
                given=self.directory,
                present=error.strerror or error,
                fix="pass a directory that you may write to",
            ) from error

    def get_or_compute(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the array kept under ``key``, or call ``compute`` and keep what it returns.

        Processes that miss at the same time each compute; the last to finish leaves its file, and no reader ever sees
        half of one.
        """
        path = self.directory / f"{_hash(key.encode())}.npy"
        kept = self._read(path, key)
        if kept is not None:
            return kept
        array = compute()
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise BadInput(
                f"what was computed for {key!r} is not an array of numbers",
                given=f"{type(array).__name__} {getattr(array, 'dtype', '')}".strip(),
                fix="return a NumPy array with a plain dtype",
            )
        self._write(path, key, array)
        return array

    def size_bytes(self) -> int:
        """Return how much disk the cache takes.

        >>> import tempfile
        >>> ArrayCache(tempfile.mkdtemp()).size_bytes()
        0
        """
        return sum(size for _, size in self._files())

    def clear(self) -> None:
        """Remove what this cache wrote, files left by killed processes included, and nothing else.

        >>> import tempfile
        >>> cache = ArrayCache(tempfile.mkdtemp())
        >>> _ = cache.get_or_compute("a", lambda: np.ones(2))
        >>> cache.clear()
        >>> cache.size_bytes()
        0
        """
        for path, _ in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, int]]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if _OWN.fullmatch(entry.name):
                    try:
                        yield Path(entry.path), entry.stat().st_size
                    except FileNotFoundError:
                        # Another process renamed or cleared it since the listing.
                        continue

    def _read(self, path: Path, key: str) -> NDArray[Any] | None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
        if _digest(body) != checksum:
            _log.warning("the cached array for %r is damaged and will be computed again: %s", key, path)
            return None
        array: NDArray[Any] = np.load(io.BytesIO(body), allow_pickle=False)
        return array

    def _write(self, path: Path, key: str, array: NDArray[Any]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        body = buffer.getvalue()
        temporary = self._temporary(path.stem)
        try:
            temporary.write_bytes(body + _digest(body))
            # Gone only if another process cleared the cache just now, and then this array is cleared like the others.
            with contextlib.suppress(FileNotFoundError):
                temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            _log.warning("the array for %r could not be cached in %s: %s", key, self.directory, error)

    def _temporary(self, stem: str) -> Path:
        # Not tempfile: its files are private to the user, and caches are shared within groups.
        return self.directory / f".{stem}.{uuid.uuid4().hex}.tmp"


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM).digest()


def _hash(content: bytes) -> str:
    return _digest(content).hex()
