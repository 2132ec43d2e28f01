"""``attnlens plan`` and ``attnlens run`` as typed: what they print, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnlens.cli.main import run

TINY = [
    "--model=tiny:qwen3-asr",
    "--corpora=synthetic",
    "--set",
    "execution.after=[]",
]
SMALL = [
    *TINY,
    "--conditions",
    "asr,micl",
    "--shots",
    "0,2",
    "--set",
    "data.limit=2",
    "--set",
    "decoding.max_new_tokens=2",
]
# Slow enough for a signal to arrive in the middle.
LONG = [
    *TINY,
    "--conditions",
    "asr,icl",
    "--shots",
    "0,1,2,3,4",
    "--seeds",
    "0,1,2",
    "--set",
    "decoding.max_new_tokens=60",
]


def ended(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        run(arguments)
    told = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, told.out, told.err


def test_a_plan_says_what_will_be_done_and_what_it_costs(capsys: pytest.CaptureFixture[str]) -> None:
    code, page, _ = ended(["plan", *SMALL], capsys)
    assert code == 0
    assert ["micl", "2", "mismatched-pairs", "2"] in [line.split() for line in page.splitlines()]
    assert "left out: micl at 0 shots is the same prompt as asr (2)" in page
    assert "6 items to do" in page
    assert "time unknown before the model is loaded" in page
    code, page, _ = ended(["plan", *SMALL, "--json"], capsys)
    told = json.loads(page)
    assert (code, told["estimate"]["items"], len(told["items"])) == (0, 6, 6)


def test_a_measured_plan_knows_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, page, _ = ended(["plan", *SMALL, "--set", "data.limit=4", "--measure"], capsys)
    assert code == 0
    assert "memory about" in page
    assert "unknown" not in page


def test_the_answer_is_printed_and_again_on_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, page, remarks = ended(["run", *SMALL], capsys)
    assert code == 0
    for part in ("By layer; micl, 2 shots, 2 utterances", "Error rates and likelihoods", "What the controls changed"):
        assert part in page
    assert "6 of 6 items are finished, in runs/default-" in page
    assert "6 items to do" in remarks
    code, again, remarks = ended(["run", *SMALL], capsys)
    assert (code, again) == (0, page)
    assert "everything is finished already" in remarks
    code, page, remarks = ended(["run", *SMALL, "--json", "--quiet"], capsys)
    assert (code, json.loads(page)["finished"], remarks) == (0, 6, "")


def test_failures_are_told_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ValueError("no [luck]")

    monkeypatch.setattr("attnlens.run.bench.Bench.measure", failing)
    code, page, remarks = ended(["run", *SMALL, "--out", str(tmp_path / "a")], capsys)
    assert code == 3
    assert "0 of 6 items are finished, 6 failed:" in page
    assert "ValueError: no [luck]" in page
    assert "failed: " in remarks
    code, page, _ = ended(["run", *SMALL, "--out", str(tmp_path / "b"), "--fail-fast"], capsys)
    assert (code, "1 failed" in page) == (3, True)


def test_refusals_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = ended(["run", "--executor", "slurm"], capsys)
    assert (code, "dask" in told) == (2, True)
    code, _, told = ended(["run", "--corpora", "nowhere", "--out", str(tmp_path / "a")], capsys)
    assert (code, "unknown corpus 'nowhere'" in told) == (2, True)
    cluster = ["--set", "execution.cluster=dask_nonesuch:Cluster", "--out", str(tmp_path / "b")]
    code, _, told = ended(["run", *SMALL, *cluster], capsys)
    assert (code, "set execution.executor: dask" in told) == (2, True)
    code, _, told = ended(["run", *SMALL, "--executor", "dask", *cluster], capsys)
    assert (code, "dask_nonesuch is not installed" in told) == (2, True)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attnlens", "run", *LONG, "--out", str(tmp_path / "run")]
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Where tests run in the background a shell has their children pass over Ctrl-C; this one must hear it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    signal.signal(signal.SIGINT, before)
    rows = tmp_path / "run" / "rows"
    patience = time.monotonic() + 60
    while not list(rows.glob("*.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    page, remarks = process.communicate(timeout=60)
    assert process.returncode == 130, remarks
    assert "and safe; the same command goes on from there" in page
    assert "Traceback" not in remarks


def test_a_finished_run_is_told_without_loading_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", *SMALL, "--out", str(tmp_path / "run")]
    assert ended(words, capsys)[0] == 0
    script = f"import sys\nfrom attnlens.cli.main import run\ntry:\n    run({words!r})\nexcept SystemExit:\n"
    script += "    print('torch' in sys.modules, 'transformers' in sys.modules)"
    page = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert page.stdout.splitlines()[-1] == "False False"
