"""What others printed: tables as cells with coordinates, read from data files that name their source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput, UnknownName
from attnlens.mapping import read_mapping
from attnlens.registry import Registry

__all__ = ["PUBLISHED", "Cell", "Publication", "PublishedCorpus", "PublishedTable", "find_table", "read_publication"]

PARTED = " / "
TOP = ("name", "source", "url", "languages", "corpora", "unknown", "measures", "tables")

Value = int | float


@dataclass(frozen=True)
class Cell:
    """One printed number: where it stands, what it measures, what it says."""

    where: Mapping[str, str]
    measure: str
    value: Value


@dataclass(frozen=True)
class PublishedTable:
    """One table or figure as it was printed."""

    name: str
    title: str
    source: str
    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    """Where its numbers were computed otherwise than a careful reader would think."""
    unknown: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    """What a figure shows, where there are no numbers."""
    look: str | None = None
    """Our figure of the same kind."""
    counterparts: Mapping[str, str] = field(default_factory=dict)
    """Which of our systems stands beside which of theirs."""

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured, in order."""
        return tuple(dict.fromkeys(cell.measure for cell in self.cells))


@dataclass(frozen=True)
class PublishedCorpus:
    """How large a corpus was: hours of its pool and of dev and test together, a clip's seconds and characters."""

    name: str
    language: str
    pool_hours: float
    other_hours: float
    seconds: float
    characters: int


@dataclass(frozen=True)
class Publication:
    """A paper's tables and figures, with what it calls its languages and how it computed its measures."""

    name: str
    source: str
    url: str
    languages: Mapping[str, tuple[str, ...]]
    """Other names and codes by the paper's name of a language."""
    measures: Mapping[str, str]
    """How each measure was computed."""
    unknown: tuple[str, ...]
    tables: Mapping[str, PublishedTable]
    corpora: Mapping[str, PublishedCorpus] = field(default_factory=dict)

    def language(self, *names: str) -> str | None:
        """Return the paper's language that goes by one of these names."""
        told = {name.lower() for name in names}
        return next((own for own, others in self.languages.items() if told & {own, *others}), None)


PUBLISHED: Registry[Callable[[], Publication]] = Registry(
    "publication",
    group="attnlens.published",
    builtin={"paper": ("attnlens.run.published.read:_paper", "Li and Niehues 2026, multimodal in-context learning")},
)
"""Functions without arguments that return a publication, by name."""


def find_table(name: str) -> tuple[Publication, PublishedTable]:
    """Return a publication and one of its tables by ``publication:table``.

    >>> publication, table = find_table("paper:table6")
    >>> table.title, [cell.value for cell in table.cells][:3]
    ('Error rates of hypotheses chosen from lists of ten', [42.1, 17.3, 31.4])
    """
    which, colon, wanted = name.partition(":")
    publication = PUBLISHED[which]()
    if not colon or wanted not in publication.tables:
        tables = [f"{which}:{one}" for one in publication.tables]
        raise UnknownName.among("published table", name, tables, fix="pass one of these")
    return publication, publication.tables[wanted]


def read_publication(path: Path | str) -> Publication:
    """Read a data file of printed numbers; what does not add up in it is refused.

    >>> from importlib.resources import files
    >>> read_publication(str(files("attnlens.run.published") / "paper.yaml")).language("kjj")
    'khinalug'
    """
    fields = read_mapping(path, keys=TOP, example="name: paper", what="file of published numbers")
    try:
        return Publication(
            name=fields["name"],
            source=fields["source"],
            url=fields["url"],
            languages={name: tuple(others) for name, others in fields["languages"].items()},
            measures=fields["measures"],
            unknown=tuple(fields["unknown"]),
            tables={name: _table(name, table, fields["measures"]) for name, table in fields["tables"].items()},
            corpora={name: _corpus(name, one) for name, one in fields.get("corpora", {}).items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} does not read as published numbers: {type(error).__name__}: {error}",
            fix="see attnlens/run/published/paper.yaml for the form",
        ) from None


def _corpus(name: str, fields: Mapping[str, Any]) -> PublishedCorpus:
    hours = fields["hours"]
    return PublishedCorpus(
        name,
        fields["language"],
        pool_hours=float(hours["pool"]),
        other_hours=float(hours["others"]),
        seconds=float(fields["seconds"]),
        characters=int(fields["characters"]),
    )


def _table(name: str, fields: Mapping[str, Any], measures: Mapping[str, str]) -> PublishedTable:
    cells = tuple(cell for grid in fields.get("grids", ()) for cell in _cells(name, grid, measures))
    listed = {key: tuple(fields.get(key, ())) for key in ("notes", "differs", "unknown", "says")}
    return PublishedTable(
        name,
        fields["title"],
        fields["source"],
        cells,
        **listed,
        look=fields.get("look"),
        counterparts=fields.get("counterparts", {}),
    )


def _cells(name: str, grid: Mapping[str, Any], measures: Mapping[str, str]) -> Iterator[Cell]:
    fixed = {key: str(value) for key, value in grid.get("fixed", {}).items()}
    measure = grid["measure"]
    if measure not in measures:
        raise ValueError(f"{name} measures {measure!r}, which is not explained")
    for row, values in grid["rows"].items():
        places = str(row).split(PARTED)
        where = fixed | dict(zip(grid["down"], places, strict=True))
        if "across" not in grid:
            yield Cell(where, measure, values)
            continue
        for column, value in zip(grid["columns"], values, strict=True):
            yield Cell(where | {grid["across"]: str(column)}, measure, value)


def _paper() -> Publication:
    return read_publication(Path(__file__).parent / "paper.yaml")
