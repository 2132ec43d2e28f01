"""The command line as a person uses it: from a shell, piped, on a dumb terminal, as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnlens import __version__
from attnlens.cli.ls import KINDS
from attnlens.cli.main import run
from attnlens.run.spec import RunSpec


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 0, captured.err
    return captured.out


def shell(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "attnlens", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["--version"], capsys) == f"attnlens {__version__}\n"


def test_help_shows_every_command_with_examples() -> None:
    page = shell("--help")
    assert page.returncode == 0
    commands = [
        "run",
        "compare",
        "plan",
        "plot",
        "report",
        "ls",
        "validate",
        "data",
        "prompt",
        "doctor",
        "train",
        "traces",
    ]
    for word in [*commands, "Examples", "--json", "Exit codes"]:
        assert word in page.stdout


COMMANDS = "run, compare, plan, plot, report, ls, validate, doctor, train, data check, prompt show, traces info"


@pytest.mark.parametrize("command", [words.split() for words in COMMANDS.split(", ")], ids=" ".join)
def test_every_command_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "Example" in told([*command, "--help"], capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_ls(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(told(["ls", kind, "--json"], capsys))[kind]
    page = told(["ls", kind], capsys)
    for row in rows:
        assert row["name"] in page
        assert row["summary"], f"{row['name']} has no summary"
    assert rows or kind == "recipes"


def test_validate_prints_what_it_resolves_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("context:\n  shots: [0, 2]\nseeds: 0,1\n", encoding="utf-8")
    arguments = ["validate", str(path), "--shots", "4", "--set", "context.order=random", "--set", "context.shots=[8]"]
    out = json.loads(told([*arguments, "--json"], capsys))
    assert out["spec"]["context"]["shots"] == [8], "--set wins over the flag, the flag over the file"
    assert out["spec"]["context"]["order"] == "random"
    assert out["spec"]["seeds"] == [0, 1]
    page = told(arguments, capsys)
    assert out["hash"] in page
    again = tmp_path / "again.yaml"
    again.write_text(page, encoding="utf-8")
    assert json.loads(told(["validate", str(again), "--json"], capsys))["hash"] == out["hash"]


def test_named_flags_are_the_keys_they_stand_for(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--model",
        "tiny:voxtral",
        "--corpora",
        "a,b",
        "--conditions",
        "micl",
        "--shots",
        "1",
        "--retriever",
        "first",
    ]
    out = json.loads(told(["validate", *flags, "--controls", "", "--seeds", "7", "--json"], capsys))
    expected = RunSpec(
        model={"name": "tiny:voxtral"},
        data={"corpora": ["a", "b"]},
        context={"conditions": ["micl"], "shots": [1], "retriever": "first", "controls": []},
        seeds=(7,),
    )
    assert out["hash"] == expected.hash


def test_the_doctor_prints_its_table_with_times_and_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    page = told(["doctor", "tiny:qwen3-asr", "--device", "cpu"], capsys)
    for words in ("masses equal eager attention", "bit-identical", "seconds", " MB on the device", "a batch of two"):
        assert words in page
    table = json.loads(told(["doctor", "tiny:qwen3-asr", "--json"], capsys))
    assert table["passed"]
    assert table["peak_mb"] > 0
    assert all(finding["passed"] and finding["seconds"] > 0 for finding in table["findings"])


def test_a_doctor_that_finds_a_fault_ends_with_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attnlens.models import self_check

    monkeypatch.setitem(self_check.LIMITS, "torch.float32", -1.0)
    with pytest.raises(SystemExit) as ended:
        run(["doctor", "tiny:qwen3-asr"])
    assert ended.value.code == 3
    assert "FAILS" in capsys.readouterr().out


def test_dumb_terminal_and_pipe_get_plain_text() -> None:
    for variables in [{"TERM": "dumb"}, {"TERM": "xterm-256color"}]:
        page = shell("ls", "conditions", **variables)
        assert page.returncode == 0
        assert "\x1b" not in page.stdout
        assert "audio-text pairs" in page.stdout


def test_a_closed_pipe_is_no_failure() -> None:
    line = f"{sys.executable} -m attnlens ls controls | head -n 1"
    page = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)
    assert "Traceback" not in page.stderr


def test_the_exit_code_of_a_refusal_reaches_the_shell() -> None:
    page = shell("ls", "modles")
    assert page.returncode == 2
    assert page.stderr.count("\n") == 3
