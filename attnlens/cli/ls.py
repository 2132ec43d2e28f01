"""``attnlens ls``: what can be named in a spec or a flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from attnlens.cli.output import out
from attnlens.errors import UnknownName

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["KINDS", "ls"]

Row = tuple[str, str]


def _conditions() -> list[Row]:
    from attnlens.context.prompt import CONDITIONS

    return list(CONDITIONS.items())


def _registered(module: str, name: str) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        import importlib

        registry = getattr(importlib.import_module(module), name)
        return [(entry.name, entry.summary) for entry in registry.entries()]

    return rows


def _models() -> list[Row]:
    return (
        _registered("attnlens.models.registry", "CHECKPOINTS")() + _registered("attnlens.models.registry", "FAMILIES")()
    )


def _plugins(what: str, group: str) -> Callable[[], list[Row]]:
    def rows() -> list[Row]:
        from attnlens.registry import Registry

        return [(entry.name, entry.summary) for entry in Registry[object](what, group=group, builtin={}).entries()]

    return rows


def _published() -> list[Row]:
    from attnlens.run.published.read import PUBLISHED

    return [(f"{name}:{table.name}", table.title) for name in PUBLISHED for table in PUBLISHED[name]().tables.values()]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "models": _models,
    "corpora": _registered("attnlens.run.corpora", "CORPORA"),
    "steps": _registered("attnlens.run.after", "AFTER"),
    "templates": _registered("attnlens.context.templates", "TEMPLATES"),
    "conditions": _conditions,
    "retrievers": _registered("attnlens.context.retrieval", "RETRIEVERS"),
    "controls": _registered("attnlens.context.controls", "CONTROLS"),
    "normalisers": _registered("attnlens.data.normalise", "NORMALISERS"),
    "measures": _registered("attnlens.capture.measures", "MEASURES"),
    "views": _registered("attnlens.traces.views", "VIEWS"),
    "figures": _registered("attnlens.plots.catalogue", "FIGURES"),
    "rules": _registered("attnlens.asr.selection", "RULES"),
    "guards": _registered("attnlens.asr.repetition", "GUARDS"),
    "published": _published,
    "recipes": _plugins("recipe", "attnlens.recipes"),
}


def ls(kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(KINDS)}.", metavar="KIND")]) -> None:
    """List what is registered under a kind of name: built in, or added by installed packages.

    Examples: `attnlens ls models`, `attnlens ls controls --json`
    """
    if kind not in KINDS:
        raise UnknownName.among("kind of name", kind, KINDS)
    rows = KINDS[kind]()

    def render(console: Console) -> None:
        from rich.table import Table

        if not rows:
            console.print(f"no {kind} are registered: none is built in yet, and no installed package adds one")
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        for name, summary in rows:
            table.add_row(name, summary)
        console.print(table)

    out.emit({kind: [{"name": name, "summary": summary} for name, summary in rows]}, render)
