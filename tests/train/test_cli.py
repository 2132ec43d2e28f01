from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from attnlens.cli.main import run


def spec(folder: Path, **changes: object) -> Path:
    fields = {
        "recipe": "organism-discrete",
        "steps": 4,
        "evaluate_every": 2,
        "options": {
            "stages": [{"phones": 3, "word": [1, 1], "shots": [2, 2]}],
            "batch_size": 2,
            "dev_lessons": 2,
            "size": {"width": 32, "layers": 2, "heads": 2, "encoder_width": 16, "encoder_layers": 1, "channels": 4},
        },
        **changes,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return path


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["train", *arguments])
    return int(ended.value.code or 0)


def test_a_spec_is_trained_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert called(str(spec(tmp_path)), "--out", out, "--device", "cpu", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["ended"]) == (4, "all steps done")
    assert called(str(spec(tmp_path)), "--out", out, "--device", "cpu", "--quiet") == 0
    assert "finished before" in capsys.readouterr().out


def test_a_changed_spec_is_refused_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert called(str(spec(tmp_path)), "--out", out, "--quiet") == 0
    assert called(str(spec(tmp_path, seed=3)), "--out", out, "--quiet") == 2
    assert "another spec" in capsys.readouterr().err
    assert called(str(tmp_path / "absent.yaml"), "--out", out) == 2
    assert "no spec file" in capsys.readouterr().err
