"""What the pages say is what happens: their Python runs, their commands run, their links and names exist."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "pycon")], ids=lambda page: page.name)
def test_interpreter_sessions_of_a_page(page: Path) -> None:
    session = "\n".join(blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    assert test.examples
    told: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=told.append)
    assert result.failed == 0, "".join(told)


def test_the_quick_start_runs_as_it_stands(tmp_path: Path) -> None:
    page = ROOT / "docs" / "quickstart.md"
    for code in blocks(page, "python"):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    commands = [line for text in blocks(page, "sh") for line in text.splitlines()]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "attnlens"
        page_told = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ},
        )
        assert page_told.returncode == 0, f"{command}\n{page_told.stdout}{page_told.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http") and not link.startswith("reference/"):
            assert (page.parent / link).exists(), link


def test_commands_named_in_the_readme_exist() -> None:
    from typer.main import get_command

    from attnlens.cli.main import app

    root = get_command(app)
    named = re.findall(r"^attnlens (\w+)", "\n".join(blocks(ROOT / "README.md", "sh")), re.MULTILINE)
    assert named
    assert set(named) <= set(root.commands)  # type: ignore[attr-defined]


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "install.md"):
        for line in re.findall(r"^make ([\w ]+?)(?: *#.*)?$", "\n".join(blocks(page, "sh")), re.MULTILINE):
            for target in line.split():
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
