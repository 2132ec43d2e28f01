"""Names for things that other packages may add to: models, templates, retrievers, controls, measures, recipes.

A registry holds targets, not objects: nothing is imported until a name is asked for, so listing stays instant.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar, cast

from attnlens.errors import BadInput, UnknownName

__all__ = ["Entry", "Registry"]

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One registered name: where it lives and what it is for."""

    name: str
    target: str | object
    summary: str
    origin: str = "attnlens"


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping from names to lazily imported objects.

    Parameters
    ----------
    what
        The kind of thing in the singular, as error messages say it.
    group
        The entry-point group through which installed packages add names.
    builtin
        ``name: (target, summary)``, a target being ``"module:object"``.

    >>> shapes = Registry("shape", group="example.shapes", builtin={"path": ("pathlib:Path", "a file path")})
    >>> shapes["path"].__name__
    'Path'
    >>> shapes["pth"]
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown shape 'pth'
      present: path
      fix:     did you mean 'path'?
    """

    def __init__(self, what: str, *, group: str, builtin: Mapping[str, tuple[str, str]]) -> None:
        self.what = what
        self.group = group
        self._entries = {name: Entry(name, target, summary) for name, (target, summary) in builtin.items()}
        self._loaded: dict[str, T] = {}
        self._discovered = False

    def register(self, name: str, target: str | T, *, summary: str) -> None:
        """Add a name for this process; to add one for every process, declare an entry point in ``self.group``.

        >>> shapes = Registry("shape", group="example.shapes", builtin={})
        >>> shapes.register("dot", object(), summary="nothing around a point")
        >>> list(shapes)
        ['dot']
        """
        self._add(Entry(name, target, summary, origin="this process"))

    def entries(self) -> list[Entry]:
        """Return what is registered, sorted by name, without importing any of it."""
        self._discover()
        return [self._entries[name] for name in sorted(self._entries)]

    def require(self, name: str) -> Entry:
        """Return the entry of a name, or refuse an unknown one; imports nothing, so a spec can be checked at once."""
        self._discover()
        if name not in self._entries:
            raise UnknownName.among(self.what, name, sorted(self._entries))
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        entry = self.require(name)
        if name not in self._loaded:
            self._loaded[name] = self._load(entry)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        # Mapping's own __contains__ would import the target to answer a question about its name.
        self._discover()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    def _add(self, entry: Entry) -> None:
        present = self._entries.get(entry.name)
        if present is not None:
            raise BadInput(
                f"two {self.what}s are named {entry.name!r}",
                given=f"{entry.target} from {entry.origin}",
                present=f"{present.target} from {present.origin}",
                fix="rename one of them",
            )
        self._entries[entry.name] = entry

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        for point in metadata.entry_points(group=self.group):
            package = point.dist.name if point.dist else "an installed package"
            self._add(Entry(point.name, point.value, f"from the package {package}", origin=package))

    def _load(self, entry: Entry) -> T:
        if not isinstance(entry.target, str):
            return cast(T, entry.target)
        module, _, attribute = entry.target.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
            for part in attribute.split("."):
                loaded = getattr(loaded, part)
        except (ImportError, AttributeError) as error:
            raise BadInput(
                f"the {self.what} {entry.name!r} could not be loaded: {error}",
                given=f"{entry.target} from {entry.origin}",
                fix=f"install or repair the package that provides it ({entry.origin})",
            ) from error
        return cast(T, loaded)
