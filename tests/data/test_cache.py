"""The array cache: computed once, never half a file, damage told and repaired."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.data.cache import ArrayCache
from attnlens.errors import BadInput

Array = NDArray[Any]


def never() -> Array:
    raise AssertionError("computed again")


def only_file(directory: Path) -> Path:
    (path,) = directory.iterdir()
    return path


def test_an_array_is_computed_once_and_kept_between_objects(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> Array:
        calls.append(1)
        return np.arange(6, dtype=np.float32).reshape(2, 3)

    first = ArrayCache(tmp_path).get_or_compute("key", compute)
    again = ArrayCache(str(tmp_path)).get_or_compute("key", compute)
    assert len(calls) == 1
    assert again.dtype == first.dtype
    np.testing.assert_array_equal(again, first)
    again[0, 0] = 9  # what is returned belongs to the caller
    np.testing.assert_array_equal(ArrayCache(tmp_path).get_or_compute("key", never), first)


@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    dtype=st.sampled_from(["float32", "float64", "int16", "uint8", "bool", "complex64", "U3", ">f4"]),
    order=st.sampled_from(["C", "F"]),
)
@settings(derandomize=True, max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_back_is_what_went_in(tmp_path: Path, shape: tuple[int, ...], dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(int(np.prod(shape))).reshape(shape).astype(dtype), order=order)
    cache, key = ArrayCache(tmp_path), f"{shape} {dtype} {order}"
    cache.get_or_compute(key, lambda: array)
    kept = cache.get_or_compute(key, never)
    assert (kept.dtype, kept.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(kept, array)


def test_any_text_is_a_key_and_similar_ones_stay_apart(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    keys = ["", "a", "A", "a/../b", "ñ", "n\u0303", "x" * 5_000, "a\0", "con", "*?"]
    for index, key in enumerate(keys):
        cache.get_or_compute(key, lambda index=index: np.array(index))  # type: ignore[misc]
    assert [int(cache.get_or_compute(key, never)) for key in keys] == list(range(len(keys)))


def test_files_are_plain_npy(tmp_path: Path) -> None:
    ArrayCache(tmp_path).get_or_compute("key", lambda: np.arange(3))
    path = only_file(tmp_path)
    assert path.suffix == ".npy"
    assert np.load(path).tolist() == [0, 1, 2]


def flip_a_bit(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: content[:-1],
        flip_a_bit,
        lambda content: b"x" * 99,
    ],
    ids=["empty", "header-only", "one-byte-short", "one-bit-flipped", "other-content"],
)
def test_a_damaged_file_is_told_computed_again_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    cache = ArrayCache(tmp_path)
    cache.get_or_compute("clip.log-mel", lambda: np.arange(100))
    path = only_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        again = cache.get_or_compute("clip.log-mel", lambda: np.arange(100))
    assert again.tolist() == list(range(100))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'clip.log-mel' is damaged" in caplog.text
    assert path.read_bytes() == whole
    caplog.clear()
    cache.get_or_compute("clip.log-mel", never)
    assert not caplog.records


def test_nothing_is_kept_when_computing_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="computed again"):
        ArrayCache(tmp_path).get_or_compute("key", never)
    assert not list(tmp_path.iterdir())


def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    with pytest.raises(BadInput, match="not an array of numbers"):
        cache.get_or_compute("key", lambda: np.array([None, "a"]))
    with pytest.raises(BadInput, match="not an array of numbers"):
        cache.get_or_compute("key", lambda: [1, 2])  # type: ignore[arg-type,return-value]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_costs_no_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ArrayCache(tmp_path)

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert cache.get_or_compute("key", lambda: np.arange(2)).tolist() == [0, 1]
    assert "'key' could not be cached" in caplog.text
    assert "No space left" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_to_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    for directory in (file, file / "below"):
        with pytest.raises(BadInput, match="cannot be written to") as caught:
            ArrayCache(directory)
        assert str(directory) in str(caught.value)

    def forbidden(self: Path, mode: int = 0o666, exist_ok: bool = True) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", forbidden)
    with pytest.raises(BadInput, match="Permission denied"):
        ArrayCache(tmp_path / "read-only")


def test_size_and_clear_touch_only_what_the_cache_wrote(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path / "new" / "cache")
    others = [cache.directory / "mine.npy", cache.directory / "notes.txt", cache.directory / ".hidden.tmp"]
    for other in others:
        other.write_bytes(b"other people's")
    assert cache.size_bytes() == 0
    cache.get_or_compute("a", lambda: np.zeros(1_000, np.float32))
    one = cache.size_bytes()
    assert 4_000 < one < 4_400
    cache.get_or_compute("b", lambda: np.zeros(1_000, np.float32))
    assert cache.size_bytes() == 2 * one
    # What a killed process leaves behind.
    (cache.directory / f".{'0' * 32}.{'1' * 32}.tmp").write_bytes(b"x" * 10)
    assert cache.size_bytes() == 2 * one + 10
    cache.clear()
    assert cache.size_bytes() == 0
    assert sorted(cache.directory.iterdir()) == sorted(others)
    assert cache.get_or_compute("a", lambda: np.ones(1)).tolist() == [1.0]


def test_cached_files_follow_the_umask(tmp_path: Path) -> None:
    # A cache on a shared disk must be readable to the group; private temporary files would not be.
    before = os.umask(0o022)
    try:
        ArrayCache(tmp_path).get_or_compute("key", lambda: np.zeros(1))
    finally:
        os.umask(before)
    assert only_file(tmp_path).stat().st_mode & 0o044 == 0o044


SCRIPT = """
import sys
import numpy as np
from attnlens.data.cache import ArrayCache

cache = ArrayCache(sys.argv[1])
for turn in range(150):
    for key in range(3):
        # Everyone writes over everyone: whoever looks must find nothing or a whole file.
        array = cache.get_or_compute(f"key {key}", lambda: np.full(20_000, key))
        assert array.shape == (20_000,) and (array == key).all()
    if turn % 3 == 2:
        cache.clear()
"""


def test_processes_may_write_the_same_keys_at_once(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], told
    assert told == ["", "", ""]  # no warning of damage either
