"""YAML files that hold a mapping, read without YAML's surprises: what every kind of spec is read from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from attnlens.errors import BadInput, UnknownName

__all__ = ["parse_named", "parse_value", "put_dotted", "read_mapping"]


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


def read_mapping(path: Path | str, *, keys: Iterable[str], example: str, what: str = "file") -> dict[str, Any]:
    """Read a YAML file as a mapping of keys to values; an empty file is an empty one.

    Parameters
    ----------
    keys
        What may stand there, for the refusal of a file that holds something else.
    example
        A line that might stand there, for the same.
    what
        What the file is called where there is none.
    """
    path = Path(path)
    text = _text(path, what)
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
            present=", ".join(keys),
            fix=f"write for instance `{example}`",
        )
    return fields


def parse_value(text: str) -> Any:
    """Read a value as a spec file would: ``[0, 1]``, ``true``, ``null``, ``3`` or a word."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError:
        raise BadInput("this value is no readable YAML", given=text, fix="quote it") from None


def put_dotted(fields: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put values at dotted keys of nested mappings, in place; a section that is not there is refused.

    >>> put_dotted({"context": {"shots": 1}}, {"context.shots": 4})
    {'context': {'shots': 4}}
    """
    for key, value in changes.items():
        *parents, last = key.split(".")
        part: Any = fields
        for depth, parent in enumerate(parents):
            if not isinstance(part.get(parent), dict):
                sections = [one for one, inner in part.items() if isinstance(inner, dict)]
                raise UnknownName.among("section", ".".join(parents[: depth + 1]), sections)
            part = part[parent]
        part[last] = value
    return fields


def parse_named(text: str, *, what: str, example: str) -> tuple[str, dict[str, Any]]:
    """Read a name with its options from one word, ``name:key=value:key=value``, as specs and flags hold it.

    ``what`` is the kind of thing in the singular, for the refusal of what is written otherwise.

    >>> parse_named("kl:variant=js", what="retriever", example="kl:variant=js")
    ('kl', {'variant': 'js'})
    """
    name, *parts = text.split(":")
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key or not value or key in options:
            raise BadInput(
                f"options of a {what} are written name:key=value:key=value, each key once, not {text!r}",
                given=part,
                fix=f"write for instance {example}",
            )
        options[key] = parse_value(value)
    return name, options


def _text(path: Path, what: str) -> str:
    if path.is_dir():
        specs = sorted(one.name for one in path.glob("*.yaml"))
        raise BadInput(
            f"{path} is a directory, a spec file is due",
            present=", ".join(specs) or "no *.yaml in it",
            fix=f"pass {path / specs[0]}" if specs else "pass a YAML file",
        )
    if not path.exists():
        near = sorted(one.name for one in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise BadInput(f"there is no {what} {path}", present=", ".join(near) or None, fix="check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text", fix="save it as UTF-8") from None
