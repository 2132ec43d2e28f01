"""Bad input on the command line: one block that names the thing, says what is allowed, and suggests; exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnlens.cli.main import run


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    told = capsys.readouterr()
    assert ended.value.code == 2, told.err
    assert told.out == ""
    assert "Traceback" not in told.err
    assert told.err.startswith("error[")
    return told.err


CASES = {
    "unknown command": (["vlidate"], ["unknown command 'vlidate'", "did you mean 'validate'?", "data, doctor"]),
    "unknown sub-command": (["data", "chekc"], ["unknown command 'chekc'", "did you mean 'check'?"]),
    "unknown flag": (["validate", "--shotz", "1"], ["unknown flag '--shotz'", "did you mean '--shots'?", "--set"]),
    "unknown kind": (["ls", "modles"], ["unknown kind of name 'modles'", "did you mean 'models'?"]),
    "missing argument": (["ls"], ["missing", "attnlens ls --help"]),
    "flag without value": (["validate", "--shots"], ["option '--shots' requires an argument"]),
    "set without equals": (["validate", "--set", "context.order"], ["--set takes key=value", "context.order"]),
    "set of unknown key": (
        ["validate", "--set", "context.ordre=random"],
        ["'context.ordre'", "did you mean 'context.order'?"],
    ),
    "set of unknown section": (["validate", "--set", "contxt.order=random"], ["'contxt'", "did you mean 'context'?"]),
    "unknown condition": (
        ["validate", "--conditions", "mikl"],
        ["context.conditions", "'mikl'", "did you mean 'micl'?"],
    ),
    "unknown retriever": (["validate", "--retriever", "txet"], ["unknown retriever 'txet'", "did you mean 'text'?"]),
    "unknown control": (["validate", "--controls", "mismatched"], ["unknown control 'mismatched'", "mismatched-pairs"]),
    "unknown model": (["validate", "--model", "tiny:qwen2-adio"], ["'qwen2-adio'", "did you mean 'qwen2-audio'?"]),
    "wrong type": (["validate", "--shots", "few"], ["context.shots", "valid integer", "'few'"]),
    "negative": (["validate", "--seeds=-1"], ["seeds", "greater than or equal to 0"]),
    "truth value": (["validate", "--set", "context.shots=true"], ["context.shots", "not true or false"]),
    "repeated": (["validate", "--shots", "1,1"], ["repeated: 1"]),
    "empty": (["validate", "--shots", ""], ["context.shots", "at least 1"]),
    "not a number flag": (["prompt", "show", ".", "--shots", "two"], ["--shots", "two"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_words(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, said = CASES[case]
    told = refused(arguments, capsys)
    for part in said:
        assert part in told


FILES = {
    "unknown key": ("contexts:\n  shots: [1]\n", ["unknown key 'contexts'", "did you mean 'context'?", "spec.yaml"]),
    "unknown nested key": ("context:\n  shot: [1]\n", ["'context.shot'", "did you mean 'context.shots'?"]),
    "section of wrong type": ("context: 3\n", ["context", "valid dictionary"]),
    "no mapping": ("- 1\n- 2\n", ["no mapping", "list"]),
    "unreadable": ("context: [1,\n", ["no readable YAML", "line"]),
    "tab": ("context:\n\tshots: 1\n", ["no readable YAML", "line 2"]),
    "key twice": ("name: a\nname: b\n", ["'name' stands twice", "line"]),
    "python object": ("name: !!python/object/apply:os.system [ls]\n", ["no readable YAML"]),
    "several faults": ("seeds: [-1]\ncontxt: {}\n", ["2 things are wrong", "seeds", "contxt", "context"]),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = FILES[case]
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    told = refused(["validate", str(path)], capsys)
    for part in said:
        assert part in told


def test_missing_file_and_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.yaml").write_text("{}", encoding="utf-8")
    told = refused(["validate", str(tmp_path / "spec.yaml")], capsys)
    assert "there is no file" in told
    assert "other.yaml" in told
    told = refused(["validate", str(tmp_path)], capsys)
    assert "is a directory" in told
    assert "other.yaml" in told


def test_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes("name: ñ\n".encode("latin-1"))
    assert "not UTF-8" in refused(["validate", str(path)], capsys)


def test_json_errors_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["ls", "modles", "--json"])
    told = json.loads(capsys.readouterr().err)
    assert told["error"]["kind"] == "unknown-name"
    assert told["error"]["fix"] == "did you mean 'models'?"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["ls", "modles", "--debug"])
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.rstrip().endswith("did you mean 'models'?")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnlens.cli import ls

    monkeypatch.setitem(ls.KINDS, "models", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["ls", "models"])
