from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput
from attnlens.evidence.ablate import ablate
from attnlens.evidence.heads import search_heads
from attnlens.evidence.measure import Bench
from attnlens.evidence.model_null import model_null
from attnlens.evidence.notes import Notes
from attnlens.models.replay import Replay
from attnlens.models.speechlm import SpeechLM

WHAT = ["icl", "output -> demo_text", "mean:demo_audio", "patch:demo_text", "demo_text -> output"]


def test_a_note_is_made_once_and_kept_as_it_was(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.jsonl")
    made = [0.1 + 0.2, math.inf, None, {"a": [1, "é"]}]
    assert notes.once("x", lambda: made) == made
    again = Notes(tmp_path / "notes.jsonl")
    assert again.once("x", lambda: pytest.fail("measured twice")) == made
    assert math.isnan(Notes(tmp_path / "notes.jsonl").once("y", lambda: math.nan))
    assert math.isnan(Notes(tmp_path / "notes.jsonl").once("y", lambda: 0))


def test_what_fails_is_not_noted(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "notes.jsonl")
    with pytest.raises(ZeroDivisionError):
        notes.once("x", lambda: 1 / 0)
    assert notes.once("x", lambda: 1) == 1


def test_a_line_cut_short_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    notes = Notes(path)
    notes.once("x", lambda: 1)
    whole = path.read_bytes()
    notes.once("y", lambda: 2)
    path.write_bytes(path.read_bytes()[:-3])
    again = Notes(path)
    assert len(again) == 1
    assert path.read_bytes() == whole
    assert again.once("y", lambda: 3) == 3
    assert len(Notes(path)) == 2


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(BadInput, match="not a file of notes"):
        Notes(path)
    assert path.read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_a_stopped_ablation_goes_on_and_finds_the_same(
    lens: SpeechLM, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = prompts[:4]
    whole = ablate(lens, listed, WHAT)
    measure, seen = Bench.measure, list[int]()

    def stopping(bench: Bench, place: int) -> object:
        if place == 2:
            raise KeyboardInterrupt
        return measure(bench, place)

    monkeypatch.setattr(Bench, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        ablate(lens, listed, WHAT, notes=Notes(tmp_path / "notes.jsonl"))

    def seeing(bench: Bench, place: int) -> object:
        seen.append(place)
        return measure(bench, place)

    monkeypatch.setattr(Bench, "measure", seeing)
    notes = Notes(tmp_path / "notes.jsonl")
    assert len(notes) == 2
    resumed = ablate(lens, listed, WHAT, notes=notes)
    assert seen == [2, 3]
    pd.testing.assert_frame_equal(resumed.to_frame(), whole.to_frame(), check_exact=True)
    # What determines a measurement is in its name: nothing old is taken for something else.
    ablate(lens, listed, WHAT, seed=1, notes=notes)
    assert seen == [2, 3, 0, 1, 2, 3]
    ablate(lens, listed[:3], WHAT, notes=notes)
    assert seen[6:] == [0, 1, 2]


def test_heads_and_models_are_noted_too(
    lens: SpeechLM, prompts: list[Prompt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, path = prompts[:2], tmp_path / "notes.jsonl"
    first = search_heads(lens, listed, fill="zero", notes=Notes(path))
    curve = first.cumulative(counts=[2], orders=1)
    null = model_null(lens, listed, modes=["whole"], notes=Notes(path))
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2 * lens.n_layers + 3 + 5
    monkeypatch.setattr(Replay, "nll", lambda *_a, **_k: pytest.fail("measured twice"))
    again = search_heads(lens, listed, fill="zero", notes=Notes(path))
    np.testing.assert_array_equal(again.maps["effect"], first.maps["effect"])
    pd.testing.assert_frame_equal(again.cumulative(counts=[2], orders=1), curve, check_exact=True)
    found = model_null(lens, listed, modes=["whole"], notes=Notes(path))
    pd.testing.assert_frame_equal(found.to_frame(), null.to_frame(), check_exact=True)
    np.testing.assert_array_equal(found.redrawn[3].preference, null.redrawn[3].preference)


def test_other_weights_are_other_notes(lens: SpeechLM, prompts: list[Prompt], tmp_path: Path) -> None:
    from attnlens.models.reinitialised import reinitialised

    notes = Notes(tmp_path / "notes.jsonl")
    trained = ablate(lens, prompts[:2], ["icl"], notes=notes)
    with reinitialised(lens, "all", seed=3):
        other = ablate(lens, prompts[:2], ["icl"], notes=notes)
    assert len(notes) == 4
    assert (trained.clean != other.clean).all()
    names = [json.loads(line)[0] for line in notes.path.read_text(encoding="utf-8").splitlines()]
    assert len(set(names)) == 4
