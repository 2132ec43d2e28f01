"""A run as a whole: what it leaves, what it goes on from, what it refuses."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlens.errors import BadInput, DamagedStore
from attnlens.models.decoding import decode
from attnlens.run.after import AFTER
from attnlens.run.bench import Bench, Done
from attnlens.run.carry_out import run_spec
from attnlens.run.folder import read_csv
from attnlens.run.item import Item
from attnlens.run.rows import read_rows
from attnlens.run.watch import Silent
from attnlens.traces.reading import open_traces
from attnlens.traces.writing import TraceStore
from tests.run.conftest import contents, small


class Interrupting(Silent):
    """Stops a run as Ctrl-C does, once so many items are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def finished(self, done: Done) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


MANY = {"data__limit": 4, "context__shots": "0,1,2,4", "decoding__conditions": []}


def interrupted(spec: Any, folder: Path, after: int) -> None:
    assert run_spec(spec, folder, watch=Interrupting(after)).ended == "stopped"


class Asking(Silent):
    """Presses Ctrl-C while items are computed, once or twice; ``heard`` is what was said then."""

    def __init__(self, number: signal.Signals, times: int) -> None:
        self.number, self.times = number, times
        self.heard: list[str] = []
        self.measuring = False

    def said(self, text: str) -> None:
        self.heard.append(text)

    def begun(self, total: int, finished: int) -> None:
        self.measuring = True

    def finished(self, done: Done) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), self.number)
        self.times = 0


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals as a program hears them that a person started; shells start background jobs deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_a_run_ends_what_is_in_hand(tmp_path: Path, computed: list[str], number: signal.Signals) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    watch = Asking(number, 1)
    outcome = run_spec(small(**MANY), tmp_path, watch=watch)
    # The first batch as a whole, though the signal came with its first item.
    assert (outcome.ended, outcome.finished) == ("stopped", 2)
    assert "in hand" in watch.heard[-1]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    computed.clear()
    assert run_spec(small(**MANY), tmp_path).ended == "finished"
    assert len(set(computed)) == outcome.planned - 2
    run_spec(small(**MANY), tmp_path / "whole")
    assert contents(tmp_path / "whole").items() <= contents(tmp_path).items()


@pytest.mark.usefixtures("heard")
def test_asked_twice_a_run_stops_at_once_and_keeps_what_is_done(tmp_path: Path, computed: list[str]) -> None:
    outcome = run_spec(small(**MANY), tmp_path, watch=Asking(signal.SIGINT, 2))
    assert (outcome.ended, outcome.finished) == ("stopped", 1)


def test_a_run_leaves_what_its_page_says(tmp_path: Path, computed: list[str]) -> None:
    outcome = run_spec(small(), tmp_path / "run")
    assert (outcome.ended, outcome.planned, outcome.finished, outcome.failed) == ("finished", 6, 6, {})
    names = {one.name for one in (tmp_path / "run").iterdir()}
    assert names == {
        "items.csv", "lock", "log.txt", "provenance.json", "rows", "spec.yaml", "tables", "traces.zarr"
    }  # fmt: skip
    traces = open_traces(tmp_path / "run" / "traces.zarr")
    assert traces.sizes["item"] == 6
    items = read_csv(tmp_path / "run" / "items.csv")
    assert [row["item"] for row in items] == traces["item"].values.tolist() == list(dict.fromkeys(computed))
    assert [float(row["nll"]) for row in items] == pytest.approx(traces["nll"].values.tolist())
    assert {row["status"] for row in items} == {"finished"}
    assert items[0]["reference"] == "ŋuŋuto lesuri"
    told = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert told["model"]["weights"]
    assert told["packages"]["torch"]
    assert set(outcome.tables) == {"bias", "errors", "controls"}
    assert len(outcome.tables["bias"]) == 2 * 3
    assert outcome.tables["controls"][0]["p"] == "", "two utterances are too few for a test, and that is said"


def test_a_finished_run_is_told_again_without_a_model(
    tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_spec(small(), tmp_path)
    monkeypatch.setattr("attnlens.run.carry_out.make_plan", lambda *_: pytest.fail("planned again"))
    monkeypatch.setattr("attnlens.run.carry_out.Bench", lambda *_: pytest.fail("loaded again"))
    assert run_spec(small(), tmp_path) == first
    assert len(computed) == 6


@pytest.mark.parametrize("after", [1, 5])
def test_stopped_and_gone_on_with_is_as_if_never_stopped(
    tmp_path: Path, whole: Path, computed: list[str], after: int
) -> None:
    interrupted(small(), tmp_path / "parts", after)
    done = set(TraceStore.open(tmp_path / "parts" / "traces.zarr").finished())
    assert len(done) == after, "what was in hand was written on the way out"
    assert [row["status"] for row in read_csv(tmp_path / "parts" / "items.csv")].count("finished") == after
    computed.clear()
    assert run_spec(small(), tmp_path / "parts").ended == "finished"
    assert not done & set(computed)
    assert contents(tmp_path / "parts") == contents(whole)


def test_a_failing_item_is_recorded_and_tried_again(
    tmp_path: Path, whole: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spied = Bench.measure

    def failing(self: Bench, item: Item) -> Done:
        if item.prompt.condition == "asr":
            raise ValueError("no luck\nat all")
        return spied(self, item)

    with monkeypatch.context() as patch:
        patch.setattr(Bench, "measure", failing)
        outcome = run_spec(small(), tmp_path / "run")
    assert (outcome.ended, outcome.finished, len(outcome.failed)) == ("failures", 4, 2)
    assert set(outcome.failed.values()) == {"ValueError: no luck at all"}
    rows = read_csv(tmp_path / "run" / "items.csv")
    assert [row["error"] for row in rows if row["status"] == "failed"] == ["ValueError: no luck at all"] * 2
    assert "no luck at all" in (tmp_path / "run" / "log.txt").read_text()
    computed.clear()
    assert run_spec(small(), tmp_path / "run").ended == "finished"
    assert len(computed) == 2
    assert contents(tmp_path / "run") == contents(whole)


def test_fail_fast_stops_at_the_first(tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Bench, item: Item) -> Done:
        computed.append(item.id)
        raise ValueError("no luck")

    monkeypatch.setattr(Bench, "measure", failing)
    outcome = run_spec(small(execution__on_error="stop"), tmp_path)
    assert (outcome.ended, len(outcome.failed), len(computed)) == ("failures", 1, 1)
    assert outcome.tables["errors"] == []


def test_another_spec_is_refused_with_the_difference(copied: Path) -> None:
    with pytest.raises(BadInput, match="begun with another spec") as refused:
        run_spec(small(context__shots="0,1"), copied)
    assert "context.shots: [0, 2] then, [0, 1] now" in str(refused.value)
    assert run_spec(small(execution__on_error="stop", name="renamed"), copied).ended == "finished"


def test_other_weights_are_refused(tmp_path: Path, computed: list[str], bench: Bench) -> None:
    import torch

    interrupted(small(), tmp_path, 2)
    weight = next(bench.lens.model.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1e-3)
    try:
        with pytest.raises(BadInput, match="the weights of tiny:qwen3-asr are not those"):
            run_spec(small(), tmp_path)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert run_spec(small(), tmp_path).ended == "finished"


def test_other_data_under_the_same_name_are_refused(
    tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnlens.testing import corpus

    interrupted(small(), tmp_path, 2)
    monkeypatch.setattr("attnlens.run.plan.find_corpus", lambda *_args, **_options: corpus(seed=1))
    with pytest.raises(DamagedStore, match="another plan"):
        run_spec(small(), tmp_path)


def test_a_truncated_chunk_costs_its_items_only(copied: Path, whole: Path, computed: list[str]) -> None:
    store = TraceStore.open(copied / "traces.zarr")
    chunk = store.path / "mass" / "c.2.0.0.0.0"
    os.truncate(chunk, chunk.stat().st_size // 2)
    assert run_spec(small(), copied).ended == "finished"
    assert computed == [store.layout.ids[2]], "regions of this small store hold one item"
    assert contents(copied) == contents(whole)
    assert "cannot be trusted" in (copied / "log.txt").read_text()


def test_a_lost_row_costs_its_item_only(copied: Path, whole: Path, computed: list[str]) -> None:
    rows = copied / "rows" / "rows.jsonl"
    lines = rows.read_text(encoding="utf-8").splitlines()
    rows.write_text("\n".join([*lines[:3], lines[3][:20], *lines[4:]]) + "\n", encoding="utf-8")
    run_spec(small(), copied)
    assert len(computed) == 1
    assert contents(copied) == contents(whole)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(BadInput, match="holds something else than a run"):
        run_spec(small(), tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_place_is_said_so(computed: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    folder.chmod(0o555)
    try:
        with unprivileged(), pytest.raises(BadInput, match="cannot be written: Permission denied"):
            run_spec(small(), folder / "run")
    finally:
        shutil.rmtree(folder)
    assert computed == []


def test_a_run_that_became_read_only_is_said_so(whole: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    run = Path(shutil.copytree(whole, folder / "run"))
    folder.chmod(0o755)
    (run / "lock").chmod(0o444)
    run.chmod(0o555)
    try:
        with unprivileged(), pytest.raises(BadInput, match="cannot be written: Permission denied"):
            run_spec(small(), run)
    finally:
        shutil.rmtree(folder)


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, whole: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(small(), tmp_path / "run", 3)

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("attnlens.run.local.Keeper.flush", _filling(full, patch))
        with pytest.raises(BadInput, match="No space left on device"):
            run_spec(small(), tmp_path / "run")
    assert len(TraceStore.open(tmp_path / "run" / "traces.zarr").finished()) == 3
    assert run_spec(small(), tmp_path / "run").ended == "finished"
    assert contents(tmp_path / "run") == contents(whole)


def _filling(full: Any, patch: pytest.MonkeyPatch) -> Any:
    from attnlens.run.keeper import Keeper

    flush = Keeper.flush

    def wrapped(self: Keeper) -> None:
        patch.setattr(os, "fsync", full)
        flush(self)

    return wrapped


def test_what_stands_after_a_run_is_called_with_its_folder(tmp_path: Path, computed: list[str]) -> None:
    called: list[Path] = []
    AFTER.register("noted", called.append, summary="a test's")
    try:
        run_spec(small(execution__after="noted"), tmp_path)
    finally:
        del AFTER._entries["noted"]
    assert called == [tmp_path]


def test_a_step_that_cannot_be_taken_does_not_cost_the_run(
    copied: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(_folder: Path) -> None:
        raise BadInput("nothing to draw")

    (copied / "tables" / "bias.csv").unlink()
    AFTER.register("drawn", lacking, summary="a test's")
    try:
        assert run_spec(small(execution__after="drawn"), copied).ended == "finished"
    finally:
        del AFTER._entries["drawn"]
    assert computed == []
    assert "drawn was left out: nothing to draw" in (copied / "log.txt").read_text()


def test_seeds_repeat_and_are_averaged_not_counted(tmp_path: Path, computed: list[str]) -> None:
    outcome = run_spec(small(seeds="0,1", context__retriever="random"), tmp_path)
    row = next(row for row in outcome.tables["errors"] if row["condition"] == "micl")
    assert (row["utterances"], row["items"]) == (2, 4)


def test_rows_survive_a_line_that_was_cut(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"item": "a", "status": "finished"}\n{"item": "b", "sta')
    assert read_rows(tmp_path) == {"a": {"item": "a", "status": "finished"}}


def test_half_precision_is_stored_when_asked(tmp_path: Path, computed: list[str]) -> None:
    run_spec(small(tracing__precision="float16", tracing__measures="entropy,max"), tmp_path)
    traces = open_traces(tmp_path / "traces.zarr")
    assert traces["mass"].dtype == np.float16
    assert "max" in traces


def test_answers_of_a_batch_are_those_of_its_items_alone(tmp_path: Path, computed: list[str]) -> None:
    many = {"data__limit": 4, "context__shots": "0,1,2,4", "decoding__max_new_tokens": 4}
    for size in (1, 4):
        run_spec(small(**many, decoding__batch=size), tmp_path / str(size))
    alone, together = (read_csv(tmp_path / size / "items.csv") for size in ("1", "4"))
    assert len(together) == 24
    assert [row["transcription"] for row in together] == [row["transcription"] for row in alone]
    first, second = (open_traces(tmp_path / size / "traces.zarr")["mass"].values for size in ("1", "4"))
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_the_curve_on_display_is_the_view(bench: Bench) -> None:
    from attnlens.run.plan import make_plan
    from attnlens.traces.views import bias

    found = [bench.measure(item) for item in make_plan(small()).items if item.control == "none"]
    curves = [done.curve for done in found]
    assert [curve is None for curve in curves] == [True, False, True, False]
    dataset, curve = found[1].dataset, curves[1]
    assert dataset is not None
    assert curve is not None
    np.testing.assert_allclose(curve, bias(dataset.mean("head", keep_attrs=True)).values[0, :, 0], rtol=1e-5)


def test_items_that_cannot_be_answered_together_are_answered_alone(
    tmp_path: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    def narrow(readings: Any, *, max_new_tokens: int) -> Any:
        if len(readings) > 1:
            raise BadInput("out of memory")
        return decode(readings, max_new_tokens=max_new_tokens)

    monkeypatch.setattr("attnlens.run.bench.decode", narrow)
    outcome = run_spec(small(data__limit=4, context__shots="0,1,2,4"), tmp_path)
    assert (outcome.ended, outcome.finished) == ("finished", 24)
    assert "could not be computed together" in (tmp_path / "log.txt").read_text()
