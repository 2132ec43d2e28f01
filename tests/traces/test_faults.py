"""A store survives what happens to disks and processes: kills, full disks, lost rights, damaged files."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import BadInput, DamagedStore
from attnlens.testing import trace
from attnlens.traces.check import check_store
from attnlens.traces.layout import Layout
from attnlens.traces.reading import open_traces
from attnlens.traces.writing import TraceStore, save

# Imports once, then forks: each child writes what is unfinished, notes what it wrote, and may be killed at any time.
NURSERY = """
import os, sys
from pathlib import Path
import attnlens.traces.store
from attnlens.testing import trace
from attnlens.traces.layout import Layout
from attnlens.traces.writing import TraceStore

path, log, items = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
made = trace(items=items, layers=6, heads=8)
layout = Layout.like(made, spec_hash="6f1d", region=4)

def work():
    store = TraceStore.open(path, expect=layout) if path.exists() else TraceStore.create(path, layout)
    with open(log, "a") as notes:
        for name in store.unfinished():
            store.write(made.sel(item=[name]), items=[name])
            notes.write(name + chr(10))
            notes.flush()

def born():
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    return child

print("ready", flush=True)
for line in sys.stdin:
    children = [born() for _ in range(int(line))]
    print(*children, flush=True)
    print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), flush=True)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


class Nursery:
    """Processes that write one store, forked from one that has imported everything."""

    def __init__(self, path: Path, items: int) -> None:
        command = [sys.executable, "-c", NURSERY, str(path), str(path.parent / "log"), str(items)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._told() == "ready"

    def _told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, children: int) -> list[int]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{children}\n")
        self.process.stdin.flush()
        return [int(number) for number in self._told().split()]

    def ended(self) -> list[int]:
        return [int(code) for code in self._told().split()]

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def killed_and_resumed(folder: Path, *, kills: int, items: int) -> None:
    path, log = folder / "killed.zarr", folder / "log"
    log.touch()
    made = trace(items=items, layers=6, heads=8)
    dice = random.Random(7)
    with Nursery(path, items) as nursery:
        for _ in range(kills):
            finished = set(TraceStore.open(path).finished()) if path.exists() else set()
            told = len(log.read_text().splitlines())
            (child,) = nursery.start(1)
            # By progress, not by the clock alone, so that no machine is too fast or too slow for it.
            more = dice.randint(0, 4)
            while len(log.read_text().splitlines()) < told + more:
                time.sleep(0.001)
            time.sleep(dice.uniform(0.0, 0.02))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert nursery.ended() == [-signal.SIGKILL], "it was done before it was killed, which tests nothing"
            assert not finished & set(log.read_text().splitlines()[told:]), "what was finished was measured again"
            if path.exists():
                assert check_store(path).sound
                now = open_traces(path, lazy="zarr")
                xr.testing.assert_equal(now.load(), made.sel(item=now.item.values))
        nursery.start(1)
        assert nursery.ended() == [0]
    assert files(path) == files(save(made, folder / "at-once.zarr", spec_hash="6f1d", region=4).path)


def test_killed_three_times_and_resumed_the_bytes_are_the_same(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, kills=3, items=40)


@pytest.mark.slow
def test_killed_twenty_times_and_resumed_the_bytes_are_the_same(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, kills=20, items=240)


def test_three_processes_at_the_same_items_and_regions(tmp_path: Path) -> None:
    path = tmp_path / "shared.zarr"
    made = trace(items=16, layers=6, heads=8)
    layout = Layout.like(made, spec_hash="6f1d", region=4)
    TraceStore.create(path, layout)
    with Nursery(path, 16) as nursery:
        nursery.start(2)
        # A third writer, in this process, takes the same items from the other end.
        store = TraceStore.open(path)
        for name in reversed(layout.ids):
            store.write(made.sel(item=[name]), items=[name])
        assert nursery.ended() == [0, 0]
    assert files(path) == files(save(made, tmp_path / "alone.zarr", spec_hash="6f1d", region=4).path)


def test_threads_do_not_lose_each_others_items(tmp_path: Path) -> None:
    made = trace(items=8)
    store = TraceStore.create(tmp_path / "a.zarr", Layout.like(made, spec_hash="6f1d", region=8))

    def put(name: str) -> None:
        store.write(made.sel(item=[name]), items=[name])

    threads = [threading.Thread(target=put, args=(name,)) for name in store.layout.ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.unfinished() == ()
    xr.testing.assert_equal(open_traces(store.path, lazy="zarr").load(), made)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def swap(path: Path) -> None:
    # A sound chunk, but of another region: only the items' own digests can tell.
    shutil.copyfile(path.with_name(path.name.replace("c.1", "c.0")), path)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(cut, "mass/c.1.0.0.0.0"), (flip, "demo_mass/c.1.0.0.0.0.0"), (swap, "nll/c.1"), (Path.unlink, "tokens/c.1.0")],
    ids=["cut", "flipped", "swapped", "lost"],
)
def test_damage_is_found_named_and_mended(tmp_path: Path, spoil: Callable[[Path], None], name: str) -> None:
    made = trace(items=6, demos=3)
    store = save(made, tmp_path / "a.zarr", region=2)
    before = files(store.path)
    store.redo(["item-3"])
    spoil(store.path / name)
    found = check_store(store.path)
    assert list(found.damaged) == ["item-2"], "of region 1 only item-2 calls itself finished"
    assert found.finished == 5
    with pytest.raises(DamagedStore, match="validate --redo"):
        store.load(1)
    with pytest.raises(DamagedStore):
        store.write(made.isel(item=[3]), items=["item-3"])
    if spoil is not swap:
        with pytest.raises(DamagedStore, match=f"the chunk {name} is"):
            open_traces(store.path, lazy="zarr").load()
    store.redo(found.damaged)
    assert check_store(store.path).sound
    assert store.unfinished() == ("item-2", "item-3")
    for row in (3, 2):
        store.write(made.isel(item=[row]), items=[f"item-{row}"])
    assert files(store.path) == before


def test_a_torn_mark_is_never_taken_for_finished(tmp_path: Path) -> None:
    made = trace(items=4)
    store = save(made, tmp_path / "a.zarr", region=2)
    before = files(store.path)
    cut(store.path / "digest" / "c.1")
    with pytest.raises(DamagedStore, match="unknown which of its items are finished"):
        store.finished()
    with pytest.raises(DamagedStore, match="unknown which of its items are finished"):
        open_traces(store.path)
    found = check_store(store.path)
    assert list(found.damaged) == ["item-2", "item-3"]
    assert found.finished == 2
    store.redo(found.damaged)
    assert store.unfinished() == ("item-2", "item-3")
    store.write(made.isel(item=[2, 3]), items=["item-2", "item-3"])
    assert files(store.path) == before


def test_values_that_never_satisfied_the_schema_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trace(items=2)
    with monkeypatch.context() as patch:
        patch.setattr("attnlens.traces.incoming.validate", lambda dataset: dataset)
        store = save(made.assign(mass=made.mass * 2), tmp_path / "a.zarr")
    assert "do not sum to 1" in check_store(store.path).damaged["item-0"]


@pytest.mark.parametrize("folder", ["", "mass", "entropy", "item", "prompt"])
def test_lost_or_cut_metadata_are_named(tmp_path: Path, folder: str) -> None:
    made = trace(items=2)
    for spoil in (cut, Path.unlink):
        store = save(made, tmp_path / f"{spoil.__name__}.zarr")
        spoil(store.path / folder / "zarr.json")
        with pytest.raises(DamagedStore, match=f"the metadata of the store {store.path} cannot be read"):
            open_traces(store.path)
        with pytest.raises(DamagedStore, match=f"the metadata of the store {store.path} cannot be read"):
            check_store(store.path)


def test_a_missing_coordinate_chunk_is_named(tmp_path: Path) -> None:
    store = save(trace(items=2), tmp_path / "a.zarr")
    (store.path / "utterance" / "c.0").unlink()
    with pytest.raises(DamagedStore, match=r"utterance/c.0 is missing"):
        open_traces(store.path)


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(BadInput, match="there is no store") as refused:
        open_traces(tmp_path / "rnus")
    assert "runs" in str(refused.value)
    with pytest.raises(DamagedStore, match="cannot be read"):
        open_traces(tmp_path / "runs")
    (tmp_path / "runs" / "traces.zarr").mkdir()
    with pytest.raises(BadInput, match="is a run directory, and its store lies in it"):
        open_traces(tmp_path / "runs")
    trace(items=2)[["nll"]].reset_coords(drop=True).drop_vars("item").to_zarr(
        tmp_path / "other.zarr", consolidated=False
    )
    with pytest.raises(DamagedStore, match="no trace store of this version"):
        open_traces(tmp_path / "other.zarr")
    with pytest.raises(DamagedStore, match="no trace store of this version"):
        TraceStore.open(tmp_path / "other.zarr")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = trace(items=2)
    store = save(made, tmp_path / "a.zarr")
    (tmp_path / "b.zarr").write_text("mine")
    for path in (store.path, tmp_path / "b.zarr"):
        with pytest.raises(BadInput, match="there is something at"):
            save(made, path)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's rights, to which no folder is read-only."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_and_says_so_when_written(open_folder: Path) -> None:
    made = trace(items=3)
    store = TraceStore.create(open_folder / "a.zarr", Layout.like(made, spec_hash="6f1d", region=1))
    store.write(made.isel(item=[0]), items=["item-0"])
    for folder in [open_folder, *(one for one in open_folder.rglob("*") if one.is_dir())]:
        folder.chmod(0o555)
    (store.path / "digest" / ".lock").chmod(0o444)
    try:
        with unprivileged():
            again = TraceStore.open(store.path)
            assert open_traces(store.path, lazy="zarr").load().sizes["item"] == 1
            assert check_store(store.path).sound
            with pytest.raises(BadInput, match="could not be written: Permission denied") as refused:
                again.write(made.isel(item=[1]), items=["item-1"])
            assert "1 of 3 items are finished and safe" in str(refused.value)
            with pytest.raises(BadInput, match="could not be written"):
                again.redo(["item-0"])
            with pytest.raises(BadInput, match="no store can be made"):
                save(made, open_folder / "b.zarr")
    finally:
        for folder in [open_folder, *(one for one in open_folder.rglob("*") if one.is_dir())]:
            folder.chmod(0o755)


@pytest.mark.parametrize("failing", [0, 11, 14, 25, 30])
def test_a_full_disk_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    made = trace(items=4)
    store = TraceStore.create(tmp_path / "a.zarr", Layout.like(made, spec_hash="6f1d", region=2))
    store.write(made.isel(item=[0]), items=["item-0"])
    count = 0
    sync = os.fsync

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BadInput, match="No space left on device") as refused:
            store.write(made.isel(item=[1, 2]), items=["item-1", "item-2"])
    kept = store.finished()
    assert "item-0" in kept
    assert f"{len(kept)} of 4 items are finished and safe, of these {len(kept) - 1}" in str(refused.value)
    assert check_store(store.path).sound
    assert not list(store.path.rglob(".*.tmp"))
    store.write(made.isel(item=[1, 2, 3]), items=["item-1", "item-2", "item-3"])
    assert files(store.path) == files(save(made, tmp_path / "b.zarr", spec_hash="6f1d", region=2).path)


def test_a_write_that_the_system_cuts_off(tmp_path: Path) -> None:
    made = trace(items=4, layers=12, heads=12)
    store = TraceStore.create(tmp_path / "a.zarr", Layout.like(made, spec_hash="6f1d", region=4))
    store.write(made.isel(item=[0]), items=["item-0"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
    try:
        with pytest.raises(BadInput, match="File too large") as refused:
            store.write(made.isel(item=[1, 2]), items=["item-1", "item-2"])
        with pytest.raises(BadInput, match="File too large"):
            save(made, tmp_path / "b.zarr", region=4)
        many = Layout.like(made, spec_hash="6f1d", items=dict.fromkeys(store.layout.items, range(40_000)))
        with pytest.raises(BadInput, match="no store can be made at"):
            TraceStore.create(tmp_path / "c.zarr", many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "1 of 4 items are finished and safe" in str(refused.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr"]
    assert check_store(store.path).sound
    np.testing.assert_array_equal(open_traces(store.path).mass, made.mass[:1])


def test_a_file_system_without_locks_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    save(trace(items=1), tmp_path / "a.zarr")
    assert "no locks on this file system" in caplog.text
    assert check_store(tmp_path / "a.zarr").sound
