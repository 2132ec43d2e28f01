"""The paper's corpora as folders: cleaned, with what is left out counted, ready for its specs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from attnlens.data.read import read_corpus
from attnlens.run.stand_in import find_or_stand_in
from experiments.paper import corpora


def clip(seconds: float) -> dict[str, Any]:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.2 * np.sin(np.arange(int(16000 * seconds)) / 11), 16000, format="WAV")
    return {"bytes": buffer.getvalue(), "path": None}


def dataset(**splits: list[dict[str, Any]]) -> Any:
    datasets = pytest.importorskip("datasets")
    made = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    return datasets.DatasetDict({name: one.cast_column("audio", datasets.Audio()) for name, one in made.items()})


def test_a_target_becomes_a_folder_that_specs_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"audio": clip(1.0), "transcript": text, "speaker_id": "s"} for text in ("Kana, Mina!", "Zubi?")]
    corpora.target(dataset(train=rows, test=rows[:1]), "khinalug", tmp_path / "corpora" / "khinalug")
    monkeypatch.chdir(tmp_path)
    (found,), remarks = find_or_stand_in(["corpora/khinalug"])
    assert not remarks
    assert found.language == "kjj"
    assert [one.text for one in found.pool] == ["kana mina", "zubi"]


def test_other_languages_are_limited_as_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"fine": ("[aaa] Kana.", 1.0), "short": ("[aaa] mina", 0.2), "long": ("[aaa] " + "na " * 90, 1.0)}
    rows = [{"id": name, "audio": clip(s), "text": text, "language": "aaa"} for name, (text, s) in texts.items()]
    rows.append({"id": "other", "audio": clip(1.0), "text": "[bbb] zubi", "language": "bbb"})
    corpora.others(dataset(train=rows, dev=[{**rows[0], "id": "d"}]), tmp_path)
    assert [one.text for one in read_corpus(tmp_path / "aaa").pool] == ["kana"]
    assert [one.text for one in read_corpus(tmp_path / "bbb").pool] == ["zubi"]
    assert "left out: 1 short, 1 long" in capsys.readouterr().out
