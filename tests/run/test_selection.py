"""Hypotheses chosen after a run: the same tables as the command alone, for what has an acoustic model."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from attnlens.asr.candidates import Candidates
from attnlens.asr.language_model import TextScore
from attnlens.asr.pooled import pooled
from attnlens.asr.selection import make_rule
from attnlens.asr.tabulate import ListTest, selection_tables
from attnlens.cli.selection import render_selection
from attnlens.errors import BadInput
from attnlens.run.after import AFTER
from attnlens.run.carry_out import run_spec
from attnlens.run.folder import read_table
from attnlens.run.selection import acoustic_name, rerank_spec, select_after_run
from attnlens.run.spec import RunSpec
from attnlens.testing import corpus
from tests.run.conftest import small

FEW = {
    "data.limit": 4,
    "context.conditions": "micl",
    "context.shots": "2",
    "decoding.conditions": [],
    "selection.ngram.joint_weights": [0.5],
    "selection.ngram.joint_bonuses": [0.0],
    "execution.after": ["selection"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default's model and two of its languages, four utterances each."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    spec = RunSpec().updated(FEW | {"data.corpora": "quechua,maori"})
    assert run_spec(spec, folder).ended == "finished"
    return folder


def test_a_run_chooses_hypotheses_of_each_language_and_of_all(run: Path) -> None:
    rows = read_table(run / "tables" / "selection.csv")
    assert list(dict.fromkeys(row["corpus"] for row in rows)) == ["quechua", "maori", "all"]
    wanted = {"acoustic 1-best", "random pick", "LM only", "oracle", "anti-oracle", "joint decoding"}
    wanted |= {"micl interpolated", "micl paper-code", "n-gram interpolated"}
    wanted |= {f"control: mismatched-pairs, {rule}" for rule in ("sum-logprob", "interpolated")}
    for name in ("quechua", "maori", "all"):
        here = {row["system"]: row for row in rows if row["corpus"] == name}
        assert wanted <= set(here)
        assert here["oracle"]["wer"] <= min(row["wer"] for row in here.values())
        assert here["anti-oracle"]["wer"] >= here["random pick"]["wer"]
    whole = [row for row in rows if row["corpus"] == "all"]
    assert {row["utterances"] for row in whole} == {8}
    for row in whole:
        parts = [one for one in rows if one["system"] == row["system"] and one["corpus"] != "all"]
        if row["system"] != "random pick":
            wrong = sum(one["wer"] * one["words"] for one in parts)
            assert row["wer"] == pytest.approx(wrong / sum(one["words"] for one in parts)), row["system"]
    ledger = read_table(run / "tables" / "ledger.csv")
    assert ledger[0]["component"] == "acoustic model"
    assert ledger[0]["text in weights"] == "pool"
    curve = [row for row in read_table(run / "tables" / "oracle.csv") if row["system"] == "oracle"]
    assert [row["estimate"] for row in curve] == sorted((row["estimate"] for row in curve), reverse=True)
    log = (run / "log.txt").read_text()
    assert "times as fast as one by one" in log
    result = json.loads((run / "selection" / "results.json").read_text())
    assert [len(one["weights"]) for one in result["languages"]] == [4, 4]
    assert (run / "selection" / "maori" / "transcripts.jsonl").exists()


def test_what_is_selected_is_told_again_and_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = RunSpec().updated(FEW | {"data.corpora": "quechua,maori"})
    before = (run / "selection" / "results.json").stat().st_mtime_ns
    tables = run_spec(spec, run).tables
    assert (run / "selection" / "results.json").stat().st_mtime_ns == before
    render_selection(Console(width=160), tables["selection"], tables["ledger"])
    told = capsys.readouterr().out
    assert "Hypotheses chosen, all languages together: 8 utterances" in told
    assert "What was seen of the language: acoustic model: audio and text of pool in its weights" in told


def test_a_step_that_was_interrupted_is_taken_when_the_run_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "steps.json").unlink()
    called: list[Path] = []
    monkeypatch.setitem(AFTER._loaded, "selection", called.append)
    spec = RunSpec().updated(FEW | {"data.corpora": "quechua,maori"})
    run_spec(spec, folder)
    run_spec(spec, folder)
    assert called == [folder]


def test_without_an_acoustic_model_the_run_says_so_and_stands(tmp_path: Path, computed: list[str]) -> None:
    assert run_spec(small(execution__after="selection"), tmp_path).ended == "finished"
    told = json.loads((tmp_path / "steps.json").read_text())
    assert told == {"selection": "left out: there is no acoustic model for 'synthetic'"}
    assert not (tmp_path / "selection").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.split": "dev"}, "hypotheses chosen for test"),
        ({"selection.acoustic.model": {"maori": "somewhere"}}, "there is no acoustic model for 'guarani'"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    from attnlens.run.load import write_spec

    write_spec(RunSpec().updated(changes), tmp_path)
    with pytest.raises(BadInput, match=words):
        select_after_run(tmp_path)


def test_selection_means_what_the_run_means() -> None:
    spec = RunSpec().updated(
        {"context.controls": "none,mismatched-pairs,other-language:other=maori", "selection.shots": 3, "seeds": "4,5"}
    )
    found = rerank_spec(spec)
    assert found.selector is not None
    assert (found.selector.shots, found.selector.controls, found.seeds) == (3, ("mismatched-pairs",), (4, 5))
    # Chosen for selection; the order of what is traced is its own.
    assert (found.selector.order, spec.context.order) == ("nearest-last", "nearest-first")
    other = rerank_spec(spec.updated({"selection.order": "random"})).selector
    assert other is not None
    assert other.order == "random"
    assert acoustic_name("mine", corpus()) == "mine"
    assert spec.hash != RunSpec().hash


def test_languages_together_are_their_utterances_together() -> None:
    def test(language: str, right: int) -> ListTest:
        scores = (TextScore(np.array([-9.0]), 0.0), TextScore(np.array([-1.0]), 0.0))
        lists = [Candidates(f"u{n}", ("ka do", "ka to"), np.array([-3.0, -3.5]), scores) for n in range(4)]
        references = ["ka do"] * right + ["ka to"] * (4 - right)
        rules = {"sum": make_rule("sum-logprob")}
        return ListTest(
            language=language, lists=lists, references=references, rules=rules, clusters=["a", "a", "b", "b"]
        )

    tests = [test("xx", 1), test("yy", 3)]
    both = pooled("all", tests, selection_tables(tests, resamples=99, draws=99))
    assert both.clusters is not None
    assert len(set(both.clusters)) == 4, "speakers of two languages are not one"
    [table] = selection_tables([both], resamples=99, draws=99)
    assert (table["acoustic 1-best"].words.rate, table["sum"].words.rate) == (0.25, 0.25)
    assert table["oracle"].words.rate == 0
    assert math.isclose(table["sum"].gap_recovered or 0.0, 0.0)
    with pytest.raises(BadInput, match="every test needs its table"):
        pooled("all", tests, [])
