"""The pages of results: verdicts by stated rules, and nothing said about what was not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments import results
from experiments.claims import CLAIMS, Asked, interval


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
    monkeypatch.setattr(results, "OUT", tmp_path)
    page = "\n".join(results.index_page())
    assert page.count("not run: ") == len(CLAIMS)
    assert "**holds**" not in page
    assert "Not run: " in "\n".join(results.paper_page({}))


def test_every_spec_is_a_step() -> None:
    names = [name for name, _ in results.steps()]
    assert len(names) == len(set(names))
    wanted = {f"paper/{path.stem}" for path in results.PAPER.glob("*.yaml")} - {"paper/table13"}
    wanted |= {f"own/{path.stem}" for path in results.OWN.glob("*.yaml")}
    assert wanted <= set(names)
