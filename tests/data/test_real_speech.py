"""The commands on real recordings, fetched by the script that the documentation names: `pytest -m slow`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnlens.cli.main import run
from attnlens.data.read import read_corpus

SCRIPT = Path(__file__).parents[2] / "experiments" / "corpora" / "telephone_prompts.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="the recordings are Debian packages"),
]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("telephone")
    subprocess.run([sys.executable, str(SCRIPT), str(folder), "--language", "en"], check=True, capture_output=True)
    return folder / "manifest.jsonl"


def said(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    told = capsys.readouterr()
    assert ended.value.code == code, told.err
    return told.out


def test_check_finds_what_is_wrong_and_fix_leaves_the_rest(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = manifest.with_name("clean.jsonl")
    report = json.loads(said(["data", "check", str(manifest), "--fix", str(clean), "--json"], capsys, code=3))
    kinds = {problem["kind"] for problem in report["problems"]}
    assert {"silent-audio", "too-long", "text-in-two-splits"} <= kinds
    corpus, fixed = read_corpus(manifest), read_corpus(clean)
    assert len(corpus) > 350
    assert 300 < len(fixed) < len(corpus)
    said(["data", "check", str(clean), "--json"], capsys)


@pytest.mark.parametrize("model", ["tiny:phi4-multimodal", "tiny:qwen3-omni", "tiny:qwen2-audio"])
def test_prompts_of_real_recordings(manifest: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--shots", "3", "--retriever", "text", "--hypothesis", "please enter your password", "--json"]
    shown = json.loads(said(["prompt", "show", str(manifest), "--model", model, *words], capsys))
    clips = [span for span in shown["spans"] if span["seconds"] is not None]
    assert len(clips) == 4
    rate = {"tiny:phi4-multimodal": 12.5, "tiny:qwen3-omni": 13.0, "tiny:qwen2-audio": 25.0}[model]
    for clip in clips:
        assert abs(clip["tokens"] - rate * clip["seconds"]) <= 4
