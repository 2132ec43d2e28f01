"""Published numbers and ours side by side, cell by cell, with what was computed differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput, UnknownName, listing
from attnlens.run.published.measured import Ends, Found, find_measured, kind_of, left_out
from attnlens.run.published.read import Cell, Publication, PublishedTable, find_table

__all__ = ["Beside", "Line", "put_beside"]

ALIGNED = ("condition", "shots", "control", "segment", "system", "retriever")
"""Coordinates that both sides know; the others of a printed cell only say which of its rows it is."""


@dataclass(frozen=True)
class Line:
    """A cell of the published table with one of our numbers.

    ``printed`` holds one value where the language is the same, all of the paper's languages where ours is another one.
    """

    measure: str
    where: Mapping[str, str]
    printed: Mapping[str, float]
    corpus: str
    utterances: int
    as_published: Ends | None
    default: Ends | None
    inside: bool | None
    """Whether the printed value lies inside the interval of ours as published (or by default); None if not the same."""


@dataclass(frozen=True)
class Beside:
    """A comparison: lines, what differs between the two, and what is not known."""

    table: PublishedTable
    publication: Publication
    lines: tuple[Line, ...]
    same_languages: tuple[str, ...]
    differs: tuple[str, ...]
    remarks: tuple[str, ...]
    missing: int
    """Printed cells that have no number of ours beside them."""
    left_out: tuple[str, ...] = ()
    """What no row holds, and how much that is of ours."""

    def by_measure(self) -> Iterator[tuple[str, list[Line], list[str], list[str]]]:
        """Yield each measure that has lines, its lines, the names of what tells them apart, and the languages."""
        for measure in self.table.measures:
            lines = [line for line in self.lines if line.measure == measure]
            if lines:
                keys = list(dict.fromkeys(key for line in lines for key in line.where))
                yield measure, lines, keys, list(dict.fromkeys(name for line in lines for name in line.printed))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "table": self.table.name,
            "title": self.table.title,
            "source": f"{self.publication.source}; {self.table.source}",
            "lines": [asdict(line) for line in self.lines],
            "same_languages": list(self.same_languages),
            "differs": list(self.differs),
            "left_out": list(self.left_out),
            "remarks": list(self.remarks),
            "says": list(self.table.says),
            "missing": self.missing,
        }


def put_beside(folder: Path | str, name: str, *, only: Mapping[str, str] | None = None) -> Beside:
    """Put what a run or a re-ranking measured beside a printed table.

    A language that both have is compared with itself; otherwise every corpus of ours stands beside all the paper's
    languages, and only directions can be compared.

    Parameters
    ----------
    name
        ``publication:table``, such as ``paper:table6``; ``attnlens ls published`` lists them.
    only
        Coordinates that printed cells must have, such as ``{"model": "xft"}``.
    """
    folder = Path(folder)
    publication, table = find_table(name)
    kind = kind_of(folder)
    cells = _chosen(table, only or {})
    retriever = _spec(folder)["selector" if kind == "rerank" else "context"].get("retriever", "")
    lines: list[Line] = []
    met: set[int] = set()
    same: dict[str, None] = {}
    for measure in dict.fromkeys(cell.measure for cell in cells):
        ours = find_measured(folder, measure)
        called = {one.corpus: publication.language(one.corpus, one.language) for one in ours}
        asked = {cell.where.get("language") for cell in cells}
        shared = {corpus: code for corpus, code in called.items() if code is not None and code in asked}
        same |= dict.fromkeys(shared.values())
        for group in _groups([cell for cell in cells if cell.measure == measure], apart=bool(shared)):
            for one in ours:
                if shared and shared.get(one.corpus) != group[0].where.get("language"):
                    continue
                if _stands_beside(group[0], one, table, retriever):
                    lines.append(_line(group, one, same=bool(shared)))
                    met.update(id(cell) for cell in group)
    if table.cells and not lines:
        raise BadInput(
            f"nothing of {folder} stands in {name}",
            given=f"a {kind} with {listing(_has(folder, table))}",
            present=f"{name} needs {listing(_needs(cells))}",
            fix="see experiments/paper for a spec that measures it",
        )
    return Beside(
        table,
        publication,
        tuple(lines),
        tuple(same),
        tuple(_differs(folder, kind, table, publication, bool(same))),
        tuple(dict.fromkeys(remark for measure in table.measures for remark in _remarks(folder, measure))),
        len(cells) - len(met),
        tuple(one for measure in table.measures for one in _left_out(folder, measure)),
    )


def _chosen(table: PublishedTable, only: Mapping[str, str]) -> list[Cell]:
    known = dict.fromkeys(key for cell in table.cells for key in cell.where)
    for key, value in only.items():
        if key not in known:
            raise UnknownName.among(f"coordinate of {table.name}", key, list(known))
        values = dict.fromkeys(cell.where[key] for cell in table.cells if key in cell.where)
        if value not in values:
            raise UnknownName.among(f"{key} of {table.name}", value, list(values))
    return [cell for cell in table.cells if all(cell.where.get(key) == value for key, value in only.items())]


def _groups(cells: Sequence[Cell], *, apart: bool) -> list[list[Cell]]:
    """Return printed cells one by one, or those that differ in their language alone together."""
    if apart:
        return [[cell] for cell in cells]
    found: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        place = tuple((key, value) for key, value in cell.where.items() if key != "language")
        found.setdefault(place, []).append(cell)
    return list(found.values())


def _stands_beside(cell: Cell, one: Found, table: PublishedTable, retriever: str) -> bool:
    ours = {**one.where, "retriever": retriever}
    if "control" not in cell.where and ours.get("control", "none") != "none":
        return False
    for key in ALIGNED:
        wanted = cell.where.get(key)
        if key == "system" and wanted is not None:
            wanted = table.counterparts.get(wanted, wanted)
        if wanted is not None and key in ours and ours[key] != wanted:
            return False
    return "system" not in ours or "system" in cell.where


def _line(group: Sequence[Cell], one: Found, *, same: bool) -> Line:
    cell = group[0]
    printed = {each.where.get("language", "all"): float(each.value) for each in group}
    where = {key: value for key, value in cell.where.items() if key != "language"}
    where |= {
        key: value for key, value in one.where.items() if key not in where and (key, value) != ("control", "none")
    }
    inside = None
    if same:
        nearest = one.published or one.default
        inside = None if nearest is None else nearest.holds(float(cell.value))
    return Line(cell.measure, where, printed, one.corpus, one.utterances, one.published, one.default, inside)


def _spec(folder: Path) -> dict[str, Any]:
    from attnlens.mapping import read_mapping

    fields = read_mapping(folder / "spec.yaml", keys=(), example="name: default")
    return {"context": {}, "selector": {}} | {key: value or {} for key, value in fields.items()}


def _differs(folder: Path, kind: str, table: PublishedTable, publication: Publication, same: bool) -> list[str]:
    fields = _spec(folder)
    model, told = "", []
    if kind == "run":
        model, context = fields["model"]["name"], fields["context"]
        if fields["convention"] != "paper" and any("share" in measure for measure in table.measures):
            told.append(
                "rows of attention: positions that predict (ours), that read (published); "
                "run with convention: paper for the second"
            )
    else:
        context = fields["selector"]
        model = context.get("model", "none")
    if not same:
        told.append("languages: none of ours is one of theirs, so numbers are not comparable, only directions")
    told.append(
        f"model: {model}"
        + ("" if not fields["model" if kind == "run" else "selector"].get("adapter") else " with an adapter")
    )
    if context.get("template", "default") not in ("paper", "paper-code"):
        told.append(f"template: {context.get('template', 'default')} (ours), `paper` and `paper-code` are theirs")
    for key, theirs in {"retriever": "text", "order": "nearest-first"}.items():
        if context.get(key, theirs) != theirs and not any(key in cell.where for cell in table.cells):
            told.append(f"{key}: {context[key]} (ours), {theirs} (published)")
    told += [f"{measure} as published: {publication.measures[measure]}" for measure in table.measures]
    told += [DEFAULTS[measure] for measure in table.measures]
    return [*told, *table.differs]


DEFAULTS = {
    "perplexity": "perplexity by default: exp of all nats over all tokens, the first included",
    "wer": "error rates by default: all edits over all words; for selection, weights tuned on dev",
    "share": "shares by default: raw mass in percent, labels apart, nothing scaled",
    "demo-share": "shares of demonstrations by default: labels left out",
    "tokens": "tokens by default: labels left out",
}


WITHOUT = {
    "share": "shares as published are without {what}, scaled to 100; by default nothing is scaled",
    "demo-share": "shares of demonstrations are of their audio and text alone; no row has {what}",
    "tokens": "lengths count audio and text of demonstrations; no row has {what}",
}


def _left_out(folder: Path, measure: str) -> list[str]:
    """Say which tokens stand in no row of a measure, and how much of ours that is."""
    if measure not in WITHOUT:
        return []
    of = "positions" if measure == "tokens" else "attention"
    known = left_out(folder, measure)
    told = {
        "other": "tokens that are neither audio nor text (`other`: markup, separators)",
        "output": "the answer's own tokens (`output`)",
    }
    parts = []
    for name, words in told.items():
        ends = known.get(name)
        interval = "" if ends is None or ends.low is None else f" [{ends.low:.1f}, {ends.high:.1f}]"
        parts.append(words if ends is None else f"{words}, {ends.estimate:.1f} %{interval} of our {of}")
    return [WITHOUT[measure].format(what=" and ".join(parts))]


def _remarks(folder: Path, measure: str) -> list[str]:
    return [remark for one in find_measured(folder, measure) for remark in one.remarks]


def _has(folder: Path, table: PublishedTable) -> list[str]:
    found = {
        f"{key} {value}"
        for name in table.measures
        for one in find_measured(folder, name)
        for key, value in one.where.items()
    }
    return sorted(found) or ["none of its measures"]


def _needs(cells: Sequence[Cell]) -> list[str]:
    return sorted({f"{key} {value}" for cell in cells for key, value in cell.where.items() if key in ALIGNED})
