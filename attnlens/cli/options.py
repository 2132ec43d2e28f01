"""From flags to a spec: named flags for what is changed often, ``--set`` for anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.run.spec import RunSpec

__all__ = ["Conditions", "Controls", "Corpora", "Model", "Retriever", "Seeds", "Set", "Shots", "SpecFile", "resolve"]

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

KEYS = {
    "model": "model.name",
    "corpora": "data.corpora",
    "conditions": "context.conditions",
    "shots": "context.shots",
    "retriever": "context.retriever",
    "controls": "context.controls",
    "seeds": "seeds",
}


def resolve(path: Path | None, *, sets: list[str] | None, **flags: str | None) -> RunSpec:
    """Read the file, then apply named flags, then ``--set``: the later wins."""
    from attnlens.mapping import parse_value
    from attnlens.run.load import load_spec
    from attnlens.run.spec import RunSpec

    changes: dict[str, Any] = {KEYS[flag]: value for flag, value in flags.items() if value is not None}
    for item in sets or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise BadInput("--set takes key=value", given=item, fix="write for instance --set context.order=random")
        changes[key] = parse_value(value)
    spec = RunSpec() if path is None else load_spec(path)
    return spec.updated(changes) if changes else spec
