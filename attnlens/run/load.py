"""Specs in files: YAML read without its surprises, written so that it reads back the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from attnlens.errors import AttnlensError, BadInput
from attnlens.run.spec import RunSpec

__all__ = ["dump_spec", "load_spec", "parse_value", "write_spec"]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads the language code ``no`` as false and keeps the last of two equal keys; we do neither."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = next((key for key in keys if keys.count(key) > 1), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {repeated!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF"))


def load_spec(path: Path | str) -> RunSpec:
    """Read a spec from a YAML file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_spec(RunSpec(seeds=[0, 1]), Path(folder))
    ...     load_spec(path).seeds
    (0, 1)
    """
    path = Path(path)
    text = _text(path)
    try:
        fields = yaml.load(text, _Loader)  # noqa: S506 - _Loader is SafeLoader with fewer implicit types
    except yaml.YAMLError as error:
        place = (
            f", line {error.problem_mark.line + 1}"
            if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark
            else ""
        )
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"{path} is no readable YAML: {problem}", given=f"{path}{place}", fix="mend that line") from None
    if fields is None:
        fields = {}
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise BadInput(
            f"{path} holds no mapping of keys to values",
            given=type(fields).__name__,
            present=", ".join(RunSpec.model_fields),
            fix="write for instance `seeds: [0, 1]`",
        )
    try:
        return RunSpec(**fields)
    except AttnlensError as error:
        error.message = f"{path}: {error.message}"
        raise


def parse_value(text: str) -> Any:
    """Read a value as a spec file would: ``[0, 1]``, ``true``, ``null``, ``3`` or a word."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError:
        raise BadInput("this value is no readable YAML", given=text, fix="quote it") from None


def dump_spec(spec: RunSpec) -> str:
    """Return the resolved spec as YAML, every default spelled out."""
    return yaml.safe_dump(spec.to_dict(), sort_keys=False, allow_unicode=True, width=120)


def write_spec(spec: RunSpec, directory: Path) -> Path:
    """Write ``spec.yaml`` beside a result and return its path."""
    path = directory / "spec.yaml"
    path.write_text(f"# resolved spec, hash {spec.hash}\n{dump_spec(spec)}", encoding="utf-8")
    return path


def _text(path: Path) -> str:
    if path.is_dir():
        specs = sorted(one.name for one in path.glob("*.yaml"))
        raise BadInput(
            f"{path} is a directory, a spec file is due",
            present=", ".join(specs) or "no *.yaml in it",
            fix=f"pass {path / specs[0]}" if specs else "pass a YAML file",
        )
    if not path.exists():
        near = sorted(one.name for one in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise BadInput(f"there is no file {path}", present=", ".join(near) or None, fix="check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text", fix="save it as UTF-8") from None
