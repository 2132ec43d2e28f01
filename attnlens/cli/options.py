"""From flags to a spec: named flags for what is changed often, ``--set`` for anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.run.kinds import AnySpec, Kind
    from attnlens.run.spec import RunSpec

__all__ = [
    "Conditions",
    "Controls",
    "Corpora",
    "Model",
    "Retriever",
    "Seeds",
    "Set",
    "Shots",
    "SpecFile",
    "changes_of",
    "resolve",
    "resolve_any",
]

SpecFile = Annotated[
    Path | None, typer.Argument(metavar="[SPEC.yaml]", help="A spec file; without one, the default run.")
]
Model = Annotated[str | None, typer.Option(help="Registered name, checkpoint folder or hub name.")]
Corpora = Annotated[str | None, typer.Option("--corpora", help="Names or paths, separated by commas.")]
Conditions = Annotated[str | None, typer.Option(help="For instance asr,micl.")]
Shots = Annotated[str | None, typer.Option(help="For instance 0,1,4.")]
Retriever = Annotated[str | None, typer.Option(help="How demonstrations are chosen.")]
Controls = Annotated[str | None, typer.Option(help="Names separated by commas.")]
Seeds = Annotated[str | None, typer.Option(help="For instance 0,1,2.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the spec, as context.order=random.")
]

KEYS: dict[Kind, dict[str, str]] = {
    "run": {
        "model": "model.name",
        "corpora": "data.corpora",
        "conditions": "context.conditions",
        "shots": "context.shots",
        "retriever": "context.retriever",
        "controls": "context.controls",
        "seeds": "seeds",
    },
    "rerank": {
        "model": "selector.model",
        "corpora": "corpora",
        "conditions": "selector.condition",
        "shots": "selector.shots",
        "retriever": "selector.retriever",
        "controls": "selector.controls",
        "seeds": "seeds",
    },
    "ablate": {
        "model": "model",
        "corpora": "corpora",
        "conditions": "condition",
        "shots": "shots",
        "retriever": "retriever",
        "seeds": "seed",
    },
    "train": {"model": "options.model", "corpora": "options.corpora", "seeds": "seed"},
}
"""Which key of each kind of spec a flag changes."""
LISTS = ("corpora", "controls")
NUMBERS = ("shots", "seeds")


def resolve(
    path: Path | None, *, sets: list[str] | None, also: Mapping[str, Any] | None = None, **flags: str | None
) -> RunSpec:
    """Read the file, then apply named flags, what a command has ``also`` by key, then ``--set``: the later wins."""
    from attnlens.run.load import load_spec
    from attnlens.run.spec import RunSpec

    changes: dict[str, Any] = {KEYS["run"][flag]: value for flag, value in flags.items() if value is not None}
    changes |= {**(also or {}), **changes_of(sets)}
    spec = RunSpec() if path is None else load_spec(path)
    return spec.updated(changes) if changes else spec


def resolve_any(path: Path, *, sets: list[str] | None, **flags: str | None) -> tuple[Kind, AnySpec]:
    """Read a spec of any kind, with flags and ``--set`` applied where they mean something in it."""
    from attnlens.mapping import read_mapping
    from attnlens.run.kinds import kind_of_spec, read_any_spec

    kind = kind_of_spec(read_mapping(path, keys=(), example="name: default", what="spec file"), name=str(path))
    if kind == "run":
        return kind, resolve(path, sets=sets, also=None, **flags)
    changes: dict[str, Any] = {}
    for flag, value in flags.items():
        if value is None:
            continue
        if flag not in KEYS[kind]:
            known = ", ".join(f"--{one}" for one in KEYS[kind])
            raise BadInput(f"--{flag} means nothing in a spec of the kind {kind!r}", given=value, present=known)
        key = KEYS[kind][flag]
        if key == "seeds":
            changes[key] = [number(flag, one) for one in value.split(",")]
        else:
            changes[key] = value.split(",") if flag in LISTS else number(flag, value)
    return read_any_spec(path, changes | changes_of(sets))


def number(flag: str, value: str) -> Any:
    """Return a value as a whole number where a kind of spec has one there."""
    if flag not in NUMBERS:
        return value
    if not value.isdigit():
        raise BadInput(f"--{flag} takes one number in a spec of this kind", given=value)
    return int(value)


def changes_of(sets: list[str] | None) -> dict[str, Any]:
    """Return what ``--set`` says, by dotted key."""
    from attnlens.mapping import parse_value

    changes: dict[str, Any] = {}
    for item in sets or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput("--set takes key=value", given=item, fix="write for instance --set context.order=random")
        changes[key] = parse_value(value)
    return changes
