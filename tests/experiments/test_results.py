"""The pages of results: verdicts by stated rules, and nothing said about what was not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnlens.cli.options import changes_of
from attnlens.run.kinds import read_any_spec
from attnlens.run.published.read import find_table
from attnlens.train.recipe import require_options
from attnlens.train.spec import TrainSpec
from experiments import pages, results
from experiments.adapters import ADAPTERS, ROWS
from experiments.claims import CLAIMS, Asked, helps, interval


def test_verdicts_follow_the_interval() -> None:
    assert Asked(1.0, 0.5, 1.5, 9, "").verdict == "holds"
    assert Asked(-1.0, -1.5, -0.5, 9, "").verdict == "does not hold"
    assert Asked(0.1, -0.5, 0.7, 9, "").verdict == "undecided"
    assert Asked(0.1, float("nan"), float("nan"), 2, "").verdict == "undecided"


def test_a_ratio_of_sums_has_its_interval() -> None:
    found = interval(np.array([1.0, 2.0, 3.0, 2.0, 1.0, 3.0]), per=np.full(6, 4.0), unit="x", scale=100)
    assert found.estimate == pytest.approx(50)
    assert found.low < 50 < found.high
    assert np.isnan(interval(np.array([1.0]), unit="x").low)


def test_what_was_not_run_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "OUT", tmp_path)
    page = "\n".join(pages.index_page())
    assert page.count("not run: ") == len(CLAIMS)
    assert "**holds**" not in page
    assert "Not run: " in "\n".join(pages.paper_page({}))


def test_every_spec_is_a_step_and_every_adapter_is_made_before_it_is_used() -> None:
    steps = list(results.steps())
    names = [name for name, _ in steps]
    assert len(names) == len(set(names))
    words = {word for _, some in steps for word in some}
    assert {str(path) for path in (*results.PAPER.glob("*.yaml"), *pages.OWN.glob("*.yaml"))} <= words
    for row in (row for some in ROWS.values() for row in some):
        assert f"paper/{row.name}" in names
        if row.adapter is not None:
            assert names.index(f"adapters/{row.adapter}") < names.index(f"paper/{row.name}")


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_a_recipe_that_reads(name: str) -> None:
    recipe, *changes = ADAPTERS[name].words()
    kind, spec = read_any_spec(pages.ROOT / recipe, changes_of([one for one in changes if one != "--set"]))
    assert kind == "train"
    assert isinstance(spec, TrainSpec)
    assert spec.steps == 60
    require_options(spec.recipe, spec.options)


@pytest.mark.parametrize("table", ROWS)
def test_a_row_names_printed_cells(table: str) -> None:
    _, printed = find_table(f"paper:{table}")
    for row in ROWS[table]:
        if printed.cells:
            assert any(all(cell.where.get(key) == value for key, value in row.only.items()) for cell in printed.cells)


def test_a_claim_over_two_runs_pairs_their_utterances(tmp_path: Path) -> None:
    head = "status,corpus,utterance,condition,shots_asked,control,nll,n_chars\n"
    for folder, nats in (("base", 4.0), ("tuned", 3.0)):
        (tmp_path / folder).mkdir()
        rows = [f"finished,xx,u{number},micl,10,none,{nats + number},2" for number in range(8)]
        rows.append(f"finished,xx,only-{folder},micl,10,none,99,2")
        (tmp_path / folder / "items.csv").write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    found = helps(tmp_path / "base", tmp_path / "tuned")
    assert found.n == 8
    assert found.estimate == pytest.approx(0.5)
