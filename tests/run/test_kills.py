"""SIGKILL at any moment, then the same command again: the same bytes, and nothing finished is computed twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlens.errors import BadInput
from attnlens.run.carry_out import run_spec
from attnlens.traces.check import check_store
from attnlens.traces.writing import TraceStore
from tests.run.conftest import contents, small

TWELVE: dict[str, object] = {
    "data__limit": 4,
    "context__shots": "0,1,2",
    "context__controls": [],
    "decoding__conditions": [],
}
# Loads the model once, then forks: each child carries the run on, notes what it computes, and may be killed.
NURSERY = """
import os, sys
from pathlib import Path
from attnlens.run.bench import Bench
from attnlens.run.carry_out import run_spec
from attnlens.run import carry_out
from attnlens.run.keeper import Keeper
from tests.run.conftest import small
import attnlens.traces.store, attnlens.run.local, attnlens.run.tables

folder, log = Path(sys.argv[1]), sys.argv[2]
spec = small(**eval(sys.argv[3]))
bench = Bench(spec)
Bench.lens, Bench.weights = bench.lens, bench.weights
carry_out.middles = lambda tasks: []
measure = Bench.measure

def noted(self, item):
    with open(log, "a") as notes:
        notes.write(item.id + chr(10))
    return measure(self, item)

Bench.measure = noted
import attnlens.run.keeper
attnlens.run.keeper.AT_ONCE = 2

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        run_spec(spec, folder)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Processes that carry on one run, forked from one that has loaded the model."""

    def __init__(self, folder: Path, log: Path, changes: dict[str, object]) -> None:
        command = [sys.executable, "-c", NURSERY, str(folder), str(log), repr(changes)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._told() == "ready"

    def _told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._told())

    def ended(self) -> int:
        return int(self._told())

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def killed_and_resumed(folder: Path, changes: dict[str, object], *, kills: int) -> None:
    dice = random.Random(11)
    run, log = folder / "run", folder / "log"
    with Nursery(run, log, changes) as nursery:
        for _ in range(kills):
            store = run / "traces.zarr"
            finished = set(TraceStore.open(store).finished()) if store.exists() else set()
            told = len(lines(log))
            child = nursery.start()
            # By progress, not by the clock alone, so that no machine is too fast or too slow for it.
            more, patience = dice.randint(0, 4), time.monotonic() + 60
            while len(lines(log)) < told + more:
                assert time.monotonic() < patience
                time.sleep(0.002)
            time.sleep(dice.uniform(0.0, 0.1))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert nursery.ended() == -signal.SIGKILL, "it was done before it was killed, which tests nothing"
            assert not finished & set(lines(log)[told:]), "what was finished was computed again"
            if store.exists():
                assert check_store(store).sound
        nursery.start()
        assert nursery.ended() == 0
    run_spec(small(**changes), folder / "whole")
    found, wanted = contents(run), contents(folder / "whole")
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def test_killed_twice_and_resumed_the_bytes_are_the_same(tmp_path: Path, computed: list[str]) -> None:
    killed_and_resumed(tmp_path, TWELVE, kills=2)


@pytest.mark.slow
def test_killed_twenty_times_and_resumed_the_bytes_are_the_same(tmp_path: Path, computed: list[str]) -> None:
    # With answers, so that the company they are written in is put to the test as well.
    answered = {**TWELVE, "decoding__conditions": "asr,micl"}
    killed_and_resumed(tmp_path, {**answered, "seeds": list(range(12)), "context__retriever": "random"}, kills=20)


HOLDER = """
import sys, time
from pathlib import Path
from attnlens.run.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_one_leaves_no_lock(copied: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(copied / "lock")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BadInput, match="another process is at work") as refused:
            run_spec(small(), copied)
        assert f"process {holder.pid} on" in str(refused.value)
    finally:
        holder.kill()
        holder.communicate()
    assert run_spec(small(), copied).ended == "finished"
