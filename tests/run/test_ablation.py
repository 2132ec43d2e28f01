from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.catalogue import draw_figures
from attnlens.plots.findings import findings_of
from attnlens.plots.source import Source
from attnlens.run.ablation import run_ablation
from attnlens.run.ablation_spec import AblationSpec, read_ablation_spec
from attnlens.stats.findings import Findings
from attnlens.traces.reading import open_traces

SMALL = {
    "model": "tiny:qwen3-asr",
    "corpora": ["synthetic"],
    "shots": 2,
    "retriever": "random",
    "edges": ["output -> demo_text"],
    "windows": 2,
    "ablations": ["icl", "patch:demo_text"],
    "controls": ["equal-count"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ablation") / "out"
    told: list[str] = []
    found = run_ablation(
        AblationSpec(**{**SMALL, "model_null": "on", "transcribe": "on", "limit": 2}), made, tell=told.append
    )
    assert len(told) > 4
    assert Findings.read(made) == found.findings
    return made


def test_a_spec_leaves_tables_findings_and_traces(folder: Path) -> None:
    tables = {path.stem: pd.read_csv(path) for path in (folder / "tables").glob("*.csv")}
    due = {"ablation", "knockout", "head_effects", "cumulative", "faithfulness", "sinks", "model_null", "label_nulls"}
    due |= {"cut_errors"}
    assert set(tables) == due
    assert tables["knockout"]["window"].tolist() == ["0-1", "2", "all"]
    assert tables["ablation"]["depth"].tolist() == ["attention"] * 3 + ["prompt", "representation"]
    assert open_traces(folder / "traces.zarr").sizes["item"] == 2
    assert read_ablation_spec(folder / "spec.yaml").windows == 2
    assert tables["cut_errors"]["edge"].tolist() == ["none", "output -> demo_text"]
    assert tables["cut_errors"]["difference"][0] == 0
    source = Source.open(folder)
    drawn = draw_figures(source, None, names=["knockout_grid", "cumulative_ablation", "layer_source"])
    assert "Spearman rho" in drawn.figures["layer_source"].caption
    assert {one.verdict for one in findings_of(source)} == {"inconclusive"}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"edges": ["output demo_text"]}, BadInput, "no edge"),
        ({"ablations": ["nothing"]}, BadInput, "no ablation"),
        ({"retriever": "nearest"}, UnknownName, "retriever"),
        ({"controls": ["equal-size"]}, BadInput, "controls"),
        ({"edge": ["output -> sink"]}, BadInput, "unknown key 'edge'"),
        ({"model": "organisms"}, UnknownName, "model"),
    ],
)
def test_bad_specs_are_refused_before_anything_is_loaded(
    changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        AblationSpec(**{**SMALL, **changes})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="not empty"):
        run_ablation(AblationSpec(**SMALL), tmp_path)


def test_nothing_to_ablate(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing is to be ablated"):
        run_ablation(AblationSpec(**{**SMALL, "edges": [], "ablations": [], "limit": 1}), tmp_path / "out")


def test_the_command_tells_the_table_and_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from attnlens.cli.main import run

    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps({**SMALL, "heads": "off", "sinks": "off"}), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["ablate", str(spec), "--out", str(tmp_path / "out"), "--limit", "2", "--no-report"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "output -> demo_text" in told
    assert "inconclusive" in told
    with pytest.raises(SystemExit) as ended:
        run(["ablate", str(spec), "--out", str(tmp_path / "out"), "--limit", "3"])
    assert ended.value.code == 2


def test_a_stopped_run_goes_on_and_another_spec_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = AblationSpec(**{**SMALL, "model_null": "on", "transcribe": "on", "limit": 2})
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("attnlens.run.ablation._heads", lambda *_given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_ablation(spec, out)
    told: list[str] = []
    run_ablation(spec, out, tell=told.append)
    assert any("going on" in one for one in told)
    for table in (folder / "tables").glob("*.csv"):
        assert (out / "tables" / table.name).read_bytes() == table.read_bytes()
    with pytest.raises(BadInput, match="begun with another spec") as refused:
        run_ablation(AblationSpec(**{**SMALL, "limit": 3}), out)
    assert "limit: 2 then, 3 now" in str(refused.value)
