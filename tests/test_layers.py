"""The house keeps its shape: floors, owners and no circles, read from the imports themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"errors"},
    {"mapping", "registry"},
    {"data", "stats"},
    {"context"},
    {"capture", "traces"},
    {"models"},
    {"evidence"},
    {"asr", "train", "plots"},
    {"organism"},
    {"run"},
    {"testing"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# These stand outside the house: the front door opens lazily onto every room, __main__ is a door to the command line.
DOORS = {"attnlens", "attnlens.__main__"}
# Who alone may know a library; None means one module, whichever it is.
OWNERS = {"zarr": "attnlens.traces.store", "nnsight": None}
# Names through which transformers routes attention; only the capture room may say them.
ATTENTION_NAMES = {
    "AttentionInterface",
    "AttentionMaskInterface",
    "ALL_ATTENTION_FUNCTIONS",
    "ALL_MASK_ATTENTION_FUNCTIONS",
}


def modules(package: Path) -> dict[str, ast.Module]:
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(tree: ast.Module, known: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield every imported module, and whether at the top level: circles at run time count only there."""
    deferred = {
        id(node)
        for holder in ast.walk(tree)
        if isinstance(holder, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(holder)
        for node in ast.walk(holder)
    }
    for node in ast.walk(tree):
        top = id(node) not in deferred
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in known else node.module), top


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room(module: str) -> str:
    return module.split(".")[1]


def complaints(package: Path) -> list[str]:
    trees = modules(package)
    known = set(trees)
    found: list[str] = []
    graph: dict[str, set[str]] = {}
    users: dict[str, set[str]] = {library: set() for library in OWNERS}
    for name, tree in trees.items():
        graph[name] = set()
        if name not in DOORS and room(name) not in FLOOR:
            found.append(f"{name} stands on no floor")
            continue
        for imported, top in imports(tree, known):
            library = imported.split(".")[0]
            if library in users:
                users[library].add(name)
            if library != "attnlens" or imported in DOORS or name in DOORS:
                continue
            if top and imported != name:
                graph[name].add(imported)
            if room(imported) != room(name) and FLOOR[room(imported)] >= FLOOR[room(name)]:
                found.append(f"{name} imports {imported}, which is not below it")
        said = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        said |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        said |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if said & ATTENTION_NAMES and room(name) != "capture":
            found.append(f"{name} knows transformers' attention interface")
    for library, owner in OWNERS.items():
        strangers = users[library] - {owner} if owner else sorted(users[library])[1:]
        found += [f"{name} imports {library}, which has one owner" for name in strangers]
    return found + circles(graph)


def circles(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()
    found: list[str] = []

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            found.append("circle: " + " -> ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            for imported in sorted(graph.get(module, ())):
                visit(imported, [*trail, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def test_the_house_keeps_its_shape() -> None:
    assert complaints(ROOT / "attnlens") == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"data/a.py": "from attnlens.context import b", "context/b.py": ""}, "not below"),
        ({"data/a.py": "def f():\n    import attnlens.run.b", "run/b.py": ""}, "not below"),
        ({"stats/a.py": "import attnlens.data.b", "data/b.py": ""}, "not below"),
        ({"data/a.py": "from attnlens.data import b", "data/b.py": "import attnlens.data.a"}, "circle"),
        ({"traces/views.py": "import zarr"}, "one owner"),
        ({"capture/a.py": "import nnsight", "models/b.py": "import nnsight"}, "one owner"),
        ({"models/a.py": "from transformers import AttentionInterface"}, "attention interface"),
        ({"models/a.py": "import transformers as t\nt.AttentionInterface"}, "attention interface"),
        ({"attic/a.py": ""}, "no floor"),
    ],
)
def test_the_guard_sees_each_fault(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    package = tmp_path / "attnlens"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert any(complaint in one for one in complaints(package))


def test_every_room_says_what_belongs_in_it() -> None:
    for path in (ROOT / "attnlens").rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree)
        assert docstring, f"{path} has no docstring"
    rooms = [one for one in (ROOT / "attnlens").iterdir() if (one / "__init__.py").exists()]
    for one in rooms:
        assert len([module for module in one.rglob("*.py") if module.name != "__init__.py"]) > 0, f"{one} is empty"


def test_architecture_page_draws_the_same_floors() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```floors\n(.*?)```", page, re.DOTALL)
    assert block
    drawn = [set(re.findall(r"\w+", line)) for line in reversed(block.group(1).strip().splitlines())]
    assert drawn == FLOORS


def test_no_module_is_a_storey_of_its_own() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "attnlens").rglob("*.py")}
    assert not {path.name: length for path, length in lengths.items() if length > 400}
