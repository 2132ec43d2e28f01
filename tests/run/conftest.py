"""Small specs, and a spy that says which items were really computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from attnlens.run.bench import Bench, Done
from attnlens.run.carry_out import run_spec
from attnlens.run.item import Item
from attnlens.run.spec import RunSpec

SMALL = {
    "model.name": "tiny:qwen3-asr",
    "data.corpora": "synthetic",
    "execution.after": [],
    "data.limit": 2,
    "context.conditions": "asr,micl",
    "context.shots": "0,2",
    "decoding.max_new_tokens": 2,
}


def small(**changes: Any) -> RunSpec:
    """Six items: two utterances, each asr, micl, and micl with mismatched pairs."""
    return RunSpec().updated(SMALL | {key.replace("__", "."): value for key, value in changes.items()})


def contents(folder: Path) -> dict[str, bytes]:
    """What two runs of the same spec have in common, to the byte."""
    own = {"lock", "log.txt", "spec.yaml"}
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in sorted(folder.rglob("*"))
        if one.is_file() and one.name not in own
    }


@pytest.fixture(scope="session")
def bench() -> Bench:
    """A model that is loaded once for all tests of this room."""
    bench = Bench(small())
    assert bench.lens.n_layers
    return bench


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, bench: Bench) -> Path:
    """A small run that nothing ever stopped; copy it before changing it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "lens", bench.lens)
        assert run_spec(small(), folder).ended == "finished"
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A finished small run to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> list[str]:
    """The ids of the items that are computed, in order; the model is the session's."""
    names: list[str] = []
    measure = Bench.measure

    def spied(self: Bench, item: Item) -> Done:
        names.append(item.id)
        return measure(self, item)

    monkeypatch.setattr(Bench, "measure", spied)
    monkeypatch.setattr(Bench, "lens", bench.lens)
    return names
