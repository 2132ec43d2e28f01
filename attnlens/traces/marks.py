"""Which items are finished, and what they held when they were: one checksummed mark per region of a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from attnlens.errors import DamagedStore

__all__ = ["ARRAY", "LOCK", "digests", "intact", "mark_file", "read_mark", "read_marks", "written"]

ARRAY = "digest"
"""The store's array of marks, uint64 along item: 0 is unfinished, anything else the digest of the item's values."""
LOCK = f"{ARRAY}/.lock"
_CRC = 4


def digests(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint64]:
    """Return one number per item, [items], that changes when any stored value of the item does.

    >>> import numpy as np
    >>> one, two, three = digests({"nll": np.array([1.0, 1.0, 2.0], dtype=np.float32)})
    >>> bool(one == two), bool(one == three)
    (True, False)
    """
    count = len(next(iter(arrays.values())))
    found = np.zeros(count, dtype=np.uint64)
    for item in range(count):
        content = hashlib.blake2b(digest_size=8)
        for name, values in arrays.items():
            content.update(name.encode())
            content.update(values[item].tobytes())
        # 0 means unfinished, so the one content in 2^64 that would digest to it is called 1.
        found[item] = int.from_bytes(content.digest(), "little") or 1
    return found


def mark_file(region: int) -> str:
    """Return the name, inside the store, of the file that holds a region's marks."""
    return f"{ARRAY}/c.{region}"


def written(marks: NDArray[np.uint64]) -> bytes:
    """Return marks [region size] as the chunk that zarr reads: little-endian numbers, then their CRC32C."""
    content = marks.astype("<u8").tobytes()
    return content + _crc(content)


def intact(content: bytes) -> bool:
    """Tell whether a chunk still ends with the CRC32C of what stands before it."""
    return len(content) >= _CRC and _crc(content[:-_CRC]) == content[-_CRC:]


def read_mark(store: Path, region: int, size: int) -> NDArray[np.uint64]:
    """Return a region's marks, [size]: all 0 where nothing was marked yet; refuse marks that are damaged."""
    path = store / mark_file(region)
    try:
        # Not pathlib: a store has thousands of these, and all are read to open it.
        with open(path, "rb") as file:  # noqa: PTH123
            content = file.read()
    except FileNotFoundError:
        return np.zeros(size, dtype=np.uint64)
    if len(content) != 8 * size + _CRC or not intact(content):
        raise DamagedStore(
            f"the marks of region {region} are damaged, so it is unknown which of its items are finished",
            given=os.fspath(path),
            fix=f"run `attnlens traces validate --redo {store}`, then resume the run",
        )
    return np.frombuffer(content[:-_CRC], dtype="<u8").astype(np.uint64)


def read_marks(store: Path, items: int, size: int) -> NDArray[np.uint64]:
    """Return the marks of all items, [items], from regions of ``size`` items."""
    regions = range((items + size - 1) // size)
    return np.concatenate([read_mark(store, region, size) for region in regions])[:items]


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CRC, "little")
