"""What the pages say is what happens: their Python runs, their commands run, their links and names exist."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Snippet:
    """A block of a page: Python or shell that runs, or a file that it needs."""

    language: str
    text: str
    marker: str
    about: str


MARKED = re.compile(r"<!-- (elsewhere|slow|file)(?:: (.*?))? -->\s*\Z")
OUTSIDE = {"make", "git", "cd", "pip", "python3", "apt-get", "accelerate", "sbatch", "pre-commit"}
"""Commands that set a machine up: they are run by people, not by a page's test, and need no mark."""


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = MARKED.search(text[: match.start()])
        marker, about = before.groups() if before else ("", "")
        found.append(Snippet(match[1], match[2], marker or "", about or ""))
    return found


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def runs_here(one: Snippet) -> bool:
    if one.marker == "elsewhere" or one.language not in ("python", "sh"):
        return False
    return one.language == "python" or not all(words[0] in OUTSIDE for words in commands(one.text))


RUNNING = [page for page in PAGES if any(runs_here(one) for one in snippets(page))]
SLOW = [page for page in RUNNING if any(one.marker == "slow" for one in snippets(page))]
QUICK = [page for page in RUNNING if any(runs_here(one) and one.marker != "slow" for one in snippets(page))]


def run_page(page: Path, folder: Path, *, slow: bool) -> None:
    """Do what a page says, in the order it says it, in a folder that holds nothing but the experiments."""
    from attnlens.cli.main import run

    (folder / "experiments").symlink_to(ROOT / "experiments")
    names: dict[str, object] = {"__name__": f"docs.{page.stem}"}
    for one in snippets(page):
        if one.marker == "file":
            (folder / one.about).write_text(one.text, encoding="utf-8")
        if not runs_here(one) or (one.marker == "slow" and not slow):
            continue
        if one.language == "python":
            exec(compile(one.text, page.name, "exec"), names)
            continue
        for words in commands(one.text):
            if words[0] == "python":
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True, env=environment)
                continue
            assert words[0] == "attnlens", f"{page.name}: {shlex.join(words)} is not run; mark its block"
            with pytest.raises(SystemExit) as ended:
                run(words[1:])
            assert ended.value.code == 0, f"{page.name}: {shlex.join(words)}"


@pytest.fixture(autouse=True)
def _registries_as_before() -> Iterator[None]:
    """What a page registers for its process is not there for other tests."""
    from attnlens.context.controls import CONTROLS
    from attnlens.models.registry import FAMILIES

    before = [(one, dict(one._entries)) for one in (CONTROLS, FAMILIES)]
    yield
    for registry, entries in before:
        for name in set(registry._entries) - set(entries):
            del registry._entries[name]
            registry._loaded.pop(name, None)


@pytest.mark.parametrize("page", QUICK, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_runs_to_its_end(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path, slow=True)


def test_every_mark_says_something() -> None:
    for page in PAGES:
        for one in snippets(page):
            assert one.marker != "elsewhere" or one.about, f"{page.name}: elsewhere, but why?"
            assert one.marker != "file" or one.about, f"{page.name}: which file?"
    assert len(QUICK) > 5


def test_the_quick_start_has_enough_in_it() -> None:
    page = ROOT / "docs" / "quickstart.md"
    assert page in QUICK
    assert sum(len(commands(text)) for text in blocks(page, "sh")) >= 5


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


@pytest.mark.slow
def test_the_page_of_gpus_is_what_its_script_writes() -> None:
    made = subprocess.run([sys.executable, "-m", "docs.make_gpu", "--check"], cwd=ROOT, check=False)
    assert made.returncode == 0, "python -m docs.make_gpu"
