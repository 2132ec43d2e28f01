"""Registries: lazy, open to other packages, clear about clashes."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from attnlens.errors import BadInput, UnknownName
from attnlens.registry import Registry


def registry() -> Registry[object]:
    return Registry("thing", group="attnlens.test_things", builtin={"path": ("pathlib:Path", "a path")})


def plugin(folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """Install a package into a folder of its own, as pip would lay it out."""
    (folder / "attnlens_extra.py").write_text("LOADED = True\nclass Thing: pass\n", encoding="utf-8")
    info = folder / "attnlens_extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attnlens-extra\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[attnlens.test_things]\n{entry}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "attnlens_extra", raising=False)


def test_listing_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, monkeypatch, "extra = attnlens_extra:Thing")
    things = registry()
    assert [(one.name, one.origin) for one in things.entries()] == [("extra", "attnlens-extra"), ("path", "attnlens")]
    assert "extra" in things
    assert things.require("extra").target == "attnlens_extra:Thing"
    assert "attnlens_extra" not in sys.modules
    assert things["extra"].__name__ == "Thing"  # type: ignore[attr-defined]
    assert "attnlens_extra" in sys.modules


def test_a_package_cannot_take_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, monkeypatch, "path = attnlens_extra:Thing")
    with pytest.raises(BadInput, match="two things are named 'path'") as refusal:
        registry().entries()
    assert "attnlens-extra" in str(refusal.value)


@pytest.mark.parametrize("target", ["attnlens_nowhere:Thing", "pathlib:Pth"])
def test_a_target_that_does_not_load_is_named(target: str) -> None:
    things: Registry[object] = Registry("thing", group="attnlens.test_things", builtin={"broken": (target, "broken")})
    with pytest.raises(BadInput, match="'broken' could not be loaded") as refusal:
        things["broken"]
    assert target in str(refusal.value)


def test_a_registry_is_a_mapping() -> None:
    things = registry()
    assert things.get("nothing") is None
    assert dict(things) == {"path": Path}
    assert len(things) == 1
    assert "nothing" not in things
    with pytest.raises(UnknownName, match="did you mean 'path'"):
        things["paht"]


def test_groups_named_in_the_docs_are_those_of_the_code() -> None:
    from attnlens.cli.ls import KINDS

    page = (Path(__file__).parents[1] / "docs" / "errors" / "unknown-name.md").read_text(encoding="utf-8")
    for kind in set(KINDS) - {"conditions", "published"}:
        assert f"`attnlens.{kind}`" in page
    assert metadata.version("attnlens")
