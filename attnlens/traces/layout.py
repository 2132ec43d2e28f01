"""What a store will hold, said before anything is measured: its items, its sizes, how it was made."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.traces.schema import ATTRIBUTES, ITEM_COORDINATES, MODALITIES, VARIABLES

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["COUNTED", "Layout", "Place", "Precision"]

Precision = Literal["float32", "float16"]
COUNTED = ("shots", "seed")
"""Item coordinates that are numbers; the others are text."""
HALVED = ("mass", "demo_mass", "max", "received")
"""What half precision halves: weights between 0 and 1. Norms and logit effects would overflow it."""
RESERVED = ("spec_hash", "precision", "items", "items_finished", "items_planned")
"""Attributes that an opened store adds, so that saving what was opened does not pass them on."""
CHUNK_BYTES = 4 * 2**20
MOST_IN_A_REGION = 64
FEWEST_REGIONS = 64


@dataclass(frozen=True)
class Place:
    """Where and as what a variable is stored."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | type[str]
    fill: float | str


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Describe a store completely before its first item exists, so that every item has its place from the start.

    Parameters
    ----------
    items
        One column per name: ``item`` (unique ids) and every item coordinate of the schema.
    layers, heads, queries
        The coordinates of these dims.
    demos
        The largest number of demonstrations of any item.
    longest
        The largest number of positions of any item; needed with the measure ``received``.
    attrs
        Every attribute of the schema and whatever else should stay with the numbers; plain JSON, no times.
    spec_hash
        Names the spec that these results belong to.
    measures
        The optional variables of the schema that every item brings.
    precision
        ``float16`` halves ``mass``, ``demo_mass`` and ``max``; weights below 3e-8 become 0 then. All else, and all
        with ``float32``, is kept as it was measured. bfloat16 is never stored: other readers cannot open it.
    region
        Neighbouring items that share their chunks; None chooses by size. Processes that write items of different
        regions never touch the same file.
    detail
        Ids of the items that bring token-level detail as well.

    >>> from attnlens.testing import trace
    >>> layout = Layout.like(trace(items=3), spec_hash="6f1d")
    >>> len(layout), layout.ids, layout.measures
    (3, ('item-0', 'item-1', 'item-2'), ('entropy',))
    """

    items: Mapping[str, Sequence[Any]]
    layers: Sequence[int]
    heads: Sequence[int]
    demos: int
    attrs: Mapping[str, Any]
    spec_hash: str
    queries: Sequence[str] = ("output",)
    measures: Sequence[str] = ("entropy",)
    precision: Precision = "float32"
    region: int | None = None
    detail: Sequence[str] = ()
    longest: int = 0

    def __post_init__(self) -> None:
        columns = {name: tuple(self.items[name]) for name in ("item", *ITEM_COORDINATES) if name in self.items}
        self._columns_fit(columns)
        plain = {name: tuple(map(int if name in COUNTED else str, values)) for name, values in columns.items()}
        self._set("items", plain)
        for name, kind in {"layers": int, "heads": int, "queries": str, "measures": str, "detail": str}.items():
            self._set(name, tuple(map(kind, getattr(self, name))))
        optional = [name for name, spec in VARIABLES.items() if not spec.needed]
        unknown = [name for name in self.measures if name not in VARIABLES]
        if unknown:
            raise UnknownName.among("measure", unknown[0], optional)
        self._set("measures", tuple(name for name in optional if name in self.measures))
        self._set("attrs", self._plain_attrs())
        if self.precision not in ("float32", "float16"):
            raise UnknownName.among("precision", str(self.precision), ["float32", "float16"])
        if "received" not in self.measures:
            self._set("longest", 0)
        elif self.longest < 1:
            raise BadInput("the measure 'received' has a place for every position", fix="pass longest= to the layout")
        if self.region is None:
            self._set("region", self._region())
        if self.region_size < 1:
            raise BadInput("a region holds at least one item", given=self.region)
        self.rows(self.detail)

    @classmethod
    def like(cls, dataset: xr.Dataset, *, spec_hash: str, **changes: Any) -> Self:
        """Return the layout of a trace that is there already; ``changes`` are fields of the layout."""
        fields: dict[str, Any] = {
            "items": {name: dataset[name].values.tolist() for name in ("item", *ITEM_COORDINATES)},
            "layers": dataset["layer"].values,
            "heads": dataset["head"].values,
            "queries": dataset["query"].values,
            "demos": dataset.sizes["demo"],
            "longest": dataset.sizes.get("position", 0),
            "attrs": dataset.attrs,
            "measures": [name for name, spec in VARIABLES.items() if not spec.needed and name in dataset],
        }
        return cls(**(fields | {"spec_hash": spec_hash} | changes))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The items' ids, in the order of the item axis."""
        return tuple(self.items["item"])

    @property
    def region_size(self) -> int:
        """How many neighbouring items share their chunks."""
        return int(self.region or 0)

    def __len__(self) -> int:
        return len(self.items["item"])

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Return where items stand on the item axis; unknown and repeated ids are refused."""
        unknown = [name for name in ids if name not in self._row_of]
        if unknown:
            raise UnknownName.among("item", str(unknown[0]), self.ids)
        if len(set(ids)) != len(ids):
            raise BadInput("an item is given twice", given=listing(_repeated(ids)))
        return [self._row_of[name] for name in ids]

    def regions(self) -> list[tuple[str, ...]]:
        """Return the ids by region; hand whole regions to processes that write side by side."""
        count = (len(self) + self.region_size - 1) // self.region_size
        return [tuple(self.ids[row] for row in self.region_rows(region)) for region in range(count)]

    def region_rows(self, region: int) -> range:
        """Return a region's rows on the item axis."""
        return range(region * self.region_size, min((region + 1) * self.region_size, len(self)))

    @cached_property
    def places(self) -> dict[str, Place]:
        """Every variable that each item brings, in the schema's order."""
        sizes = {
            "item": len(self),
            "layer": len(self.layers),
            "head": len(self.heads),
            "query": len(self.queries),
            "source": len(SOURCES),
            "demo": self.demos,
            "modality": len(MODALITIES),
            "position": self.longest,
        }
        places = {}
        for name, spec in VARIABLES.items():
            if spec.needed or name in self.measures:
                half = self.precision == "float16" and name in HALVED
                kind = "<i4" if spec.kind == "i" else "<f2" if half else "<f4"
                shape = tuple(sizes[dim] for dim in spec.dims)
                places[name] = Place(spec.dims, shape, np.dtype(kind), -1 if spec.kind == "i" else np.nan)
        return places

    def coordinates(self, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """Return the coordinates of a dataset of these rows; of all rows by default."""
        pick = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        along: dict[str, Any] = {name: ("item", np.asarray(values)[pick]) for name, values in self.items.items()}
        return {
            **along,
            "layer": np.asarray(self.layers),
            "head": np.asarray(self.heads),
            "query": np.asarray(self.queries),
            "source": np.asarray(SOURCES),
            "demo": np.arange(self.demos),
            "modality": np.asarray(MODALITIES),
            **({"position": np.arange(self.longest)} if self.longest else {}),
        }

    def dataset(self, arrays: Mapping[str, NDArray[Any]], rows: Sequence[int]) -> xr.Dataset:
        """Put stored arrays, [rows, ...] each, back together as a trace."""
        import xarray as xr

        variables = {name: (self.places[name].dims, values) for name, values in arrays.items()}
        return xr.Dataset(variables, coords=self.coordinates(rows), attrs=dict(self.attrs))

    def differences(self, other: Layout) -> list[str]:
        """Say in which of the things that decide a result two layouts differ, items left aside."""
        names = ("spec_hash", "layers", "heads", "queries", "demos", "longest", "measures", "precision")
        said = [
            f"{name}: {getattr(self, name)!r}, not {getattr(other, name)!r}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
        keys = sorted(self.attrs.keys() | other.attrs.keys())
        return said + [
            f"{key}: {self.attrs.get(key)!r}, not {other.attrs.get(key)!r}"
            for key in keys
            if self.attrs.get(key) != other.attrs.get(key)
        ]

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _region(self) -> int:
        widest = max(np.dtype(place.dtype).itemsize * math.prod(place.shape[1:]) for place in self.places.values())
        size = min(CHUNK_BYTES // max(widest, 1), MOST_IN_A_REGION, len(self) // FEWEST_REGIONS)
        return 1 << max(size.bit_length() - 1, 0)

    def _columns_fit(self, columns: Mapping[str, tuple[Any, ...]]) -> None:
        missing = [name for name in ("item", *ITEM_COORDINATES) if name not in columns]
        lengths = {name: len(values) for name, values in columns.items()}
        ids = [str(name) for name in columns.get("item", ())]
        unsafe = [name for name in ids if not name or "/" in name or name.startswith(".")]
        if missing or len(set(lengths.values())) != 1 or not ids:
            raise BadInput(
                "the items of a store need ids and every item coordinate, one value per item",
                given=f"without {listing(missing)}" if missing else listing(f"{n}: {k}" for n, k in lengths.items()),
                fix=f"pass columns named item, {', '.join(ITEM_COORDINATES)}",
            )
        if len(set(ids)) != len(ids) or unsafe:
            raise BadInput(
                "item ids are distinct, not empty and usable as file names",
                given=repr(unsafe[0]) if unsafe else listing(_repeated(ids)),
                fix="use a content hash of what determines the item's result",
            )

    def _plain_attrs(self) -> dict[str, Any]:
        missing = [name for name in ATTRIBUTES if name not in self.attrs]
        if missing:
            raise BadInput("a store says how its numbers were made", given=f"attrs without {listing(missing)}")
        try:
            # Through JSON and back, so that what is compared later is what will be read from disk.
            plain: dict[str, Any] = json.loads(json.dumps(dict(self.attrs), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"attributes of a store are plain JSON values: {error}",
                fix="turn paths, arrays and times into text or leave them out",
            ) from error
        return {name: value for name, value in plain.items() if name not in RESERVED}


def _repeated(ids: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(ids).items() if times > 1]
