"""`attnlens plot` and `attnlens report` as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnlens.cli.main import run
from attnlens.testing import trace
from attnlens.traces.writing import save


def told(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == code, captured.err
    return captured.out if code == 0 else captured.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a run directory with a store and nothing else."""
    save(trace(items=4), tmp_path / "mine" / "traces.zarr")
    save(trace(items=4, seed=1), tmp_path / "other" / "traces.zarr")
    return tmp_path


def test_plot_draws_what_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = told(["plot", str(folder / "mine"), "modality_bias", "--format", "svg", "--view", "log_ratio"], capsys)
    assert "modality_bias.svg" in page
    assert "log ratio" in (folder / "mine" / "figures" / "modality_bias.svg").read_text(encoding="utf-8")


def test_plot_lays_stores_over_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [str(folder / name / "traces.zarr") for name in ("mine", "other")]
    arguments = ["plot", stores[0], "modality_bias", "--beside", stores[1], "--format", "svg"]
    out = json.loads(told([*arguments, "--out", str(folder / "out"), "--json"], capsys))
    assert out["figures"]["modality_bias"] == [str(folder / "out" / f"modality_bias.{end}") for end in ("svg", "csv")]
    assert "pass --out" in told(arguments, capsys, code=2)


def test_plot_refuses_before_it_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = str(folder / "mine")
    assert "did you mean 'modality_bias'" in told(["plot", mine, "modality_bais"], capsys, code=2)
    assert "did you mean 'bias'" in told(["plot", mine, "--view", "bais"], capsys, code=2)
    assert "figure format 'jpg'" in told(["plot", mine, "modality_bias", "--format", "jpg"], capsys, code=2)
    assert "neither a run directory" in told(["plot", str(folder)], capsys, code=2)
    assert not (folder / "mine" / "figures").exists()


def test_report_writes_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = json.loads(told(["report", str(folder / "mine"), "--json"], capsys))
    assert out["page"] == str(folder / "mine" / "report.html")
    assert out["skipped"]["oracle_curve"]
    assert "has no spec" in told(["report", str(folder / "mine"), "--tokens", "2"], capsys, code=2)
