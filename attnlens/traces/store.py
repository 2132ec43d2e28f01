"""The files of a store: a zarr v3 group whose chunks are checked as they are read and handed out as they are written.

Only this module knows zarr. What it writes, any zarr reader opens. Who may write when is said in
:mod:`attnlens.traces.writing`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from attnlens.errors import BadInput, DamagedStore, listing
from attnlens.traces.detail import DETAIL
from attnlens.traces.layout import Layout, Place
from attnlens.traces.marks import ARRAY, LOCK, intact, read_mark
from attnlens.traces.schema import ITEM_COORDINATES, VARIABLES

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ABOUT", "DETAILS", "StoreFiles", "about", "blank", "detail_files", "lazy", "lazy_detail", "stored_layout"]

ABOUT = "attnlens_store"
"""The attribute of the group under which a store says what it is."""
DETAILS = "detail"
"""The group that holds a group of token-level detail per chosen item."""
FORMAT = 1
UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError)
"""What zarr, json and xarray raise on metadata that are missing, cut off or not theirs."""
AXES = ("layer", "head", "query", "source", "demo", "modality")
MORE_AXES = {"received": "position"}
"""Axes that only stores with a measure have."""


class _Chunks(LocalStore):
    """A folder whose chunks are verified when read, and whose writes are collected instead of carried out."""

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self.collected: dict[str, bytes] = {}

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        name, _, chunk = key.rpartition("/")
        if not chunk.startswith("c."):
            return found
        # zarr would fill a missing chunk in silence, and say of a damaged one neither where it is nor what to do.
        if found is None and self._due(name, chunk):
            raise _damaged(self.root, key, "is missing")
        if found is not None and byte_range is None and not intact(found.to_bytes()):
            raise _damaged(self.root, key, "is cut off or altered")
        return found

    async def set(self, key: str, value: Buffer) -> None:
        self.collected[key] = value.to_bytes()

    def taken(self) -> dict[str, bytes]:
        """Return what was written since the last call, by file name."""
        files, self.collected = self.collected, {}
        return files

    def _due(self, name: str, chunk: str) -> bool:
        if name == ARRAY:
            return False
        if name not in VARIABLES:
            return True
        # Straight from the file: zarr cannot be asked from inside its own event loop.
        attributes = json.loads((self.root / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        size = int(about(attributes, self.root)["region"])
        return bool(read_mark(self.root, int(chunk.split(".")[1]), size).any())


class StoreFiles:
    """The arrays of one store, by region."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._chunks = _Chunks(path, read_only=False)
        self._layout = layout
        group = _group(path, self._chunks)
        self._arrays = {name: _array(group, name) for name in layout.places}

    def read(self, region: int) -> dict[str, NDArray[Any]]:
        """Return all variables of a region, [items of the region, ...] each, finished or not."""
        rows = self._layout.region_rows(region)
        return {name: np.asarray(array[rows.start : rows.stop]) for name, array in self._arrays.items()}

    def encoded(self, region: int, values: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
        """Return the files that hold a region's values, [items of the region, ...] each."""
        rows = self._layout.region_rows(region)
        for name, array in self._arrays.items():
            array[rows.start : rows.stop] = values[name]
        return self._chunks.taken()


def blank(path: Path, layout: Layout) -> dict[str, bytes]:
    """Return the files of a store without finished items: metadata, coordinates, the lock."""
    chunks = _Chunks(path, read_only=False)
    said = {
        "format": FORMAT,
        "spec_hash": layout.spec_hash,
        "precision": layout.precision,
        "region": layout.region,
        "measures": list(layout.measures),
        "detail": list(layout.detail),
    }
    group = zarr.create_group(chunks, zarr_format=3, attributes={**layout.attrs, ABOUT: said})
    for name, place in layout.places.items():
        _make(group, name, place, region=layout.region_size)
    # Uncompressed, so that opening a store with thousands of regions costs one plain read each.
    marks = Place(("item",), (len(layout),), np.dtype("<u8"), 0)
    _make(group, ARRAY, marks, region=layout.region_size, compressed=False)
    for name, coordinate in layout.coordinates().items():
        dims, values = coordinate if isinstance(coordinate, tuple) else (name, coordinate)
        _put(group, name, values, (dims,))
    group.create_group(DETAILS)
    return {**chunks.taken(), LOCK: b""}


def detail_files(path: Path, item: str, detail: xr.Dataset) -> dict[str, bytes]:
    """Return the files that hold the token-level detail of an item."""
    chunks = _Chunks(path, read_only=False)
    within = f"{DETAILS}/{item}"
    group = zarr.create_group(chunks, path=within, zarr_format=3)
    for name in sorted(map(str, [*detail.coords, *detail.data_vars])):
        _put(group, name, detail[name].values, tuple(map(str, detail[name].dims)))
    return {key: content for key, content in chunks.taken().items() if key.startswith(f"{within}/")}


def stored_layout(path: Path) -> Layout:
    """Read back what a store was laid out for; DamagedStore when its metadata do not say."""
    group = _group(path, _Chunks(path))
    said = about(group.attrs, path)
    try:
        layout = Layout(
            items={name: _values(group, name) for name in ("item", *ITEM_COORDINATES)},
            layers=_values(group, "layer"),
            heads=_values(group, "head"),
            queries=_values(group, "query"),
            demos=len(_values(group, "demo")),
            longest=len(_values(group, "position")) if "received" in said["measures"] else 0,
            measures=said["measures"],
            attrs={name: value for name, value in group.attrs.asdict().items() if name != ABOUT},
            spec_hash=said["spec_hash"],
            precision=said["precision"],
            region=said["region"],
            detail=said["detail"],
        )
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    for name, place in layout.places.items():
        if (found := _array(group, name)).shape != place.shape:
            raise _unreadable(path, f"{name} has the shape {found.shape}, not {place.shape}")
    return layout


def about(attrs: Any, path: Path) -> dict[str, Any]:
    """Return what a store says about itself in the attributes of its group."""
    said = dict(attrs).get(ABOUT)
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise DamagedStore(
            f"{path} is no trace store of this version",
            given=f"{ABOUT} = {said!r}",
            present=f"format {FORMAT}",
            fix="pass the folder that `attnlens run` wrote, usually traces.zarr",
        )
    return said


def lazy(path: Path) -> xr.Dataset:
    """Return everything in a store, finished or not, as a dataset that reads chunks when values are asked for."""
    import xarray as xr

    chunks = _Chunks(path)
    group = _group(path, chunks)
    measures = about(group.attrs, path)["measures"]
    axes = (*AXES, *(axis for measure, axis in MORE_AXES.items() if measure in measures))
    # xarray would go without an array whose metadata are lost.
    for name in ("item", *axes, *ITEM_COORDINATES, *(n for n in VARIABLES if VARIABLES[n].needed), *measures):
        _array(group, name)
    try:
        dataset = xr.open_zarr(chunks, chunks=None, consolidated=False, zarr_format=3, drop_variables=[ARRAY])
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    # In the schema's order, not the folder's, which differs between file systems.
    dataset = dataset.set_coords(list(ITEM_COORDINATES))
    ordered = dataset[[name for name in VARIABLES if name in dataset]]
    return ordered.assign_coords({name: ordered[name] for name in ("item", *axes, *ITEM_COORDINATES)})


def lazy_detail(path: Path, item: str) -> xr.Dataset:
    """Return the token-level detail of an item, read when values are asked for."""
    import xarray as xr

    try:
        within = f"{DETAILS}/{item}"
        found = xr.open_zarr(_Chunks(path), group=within, chunks=None, consolidated=False, zarr_format=3)
    except UNREADABLE as error:
        raise _unreadable(path, f"the detail of {item!r}: {error}") from error
    found = found.set_coords([name for name in found.data_vars if name not in DETAIL])
    return found[[name for name in DETAIL if name in found]]


def _group(path: Path, chunks: _Chunks) -> zarr.Group:
    if not path.is_dir():
        here = sorted(one.name for one in path.parent.glob("*")) if path.parent.is_dir() else []
        raise BadInput(f"there is no store at {path}", present=listing(here) or "nothing", fix="check the path")
    if (path / "traces.zarr").is_dir():
        raise BadInput(f"{path} is a run directory, and its store lies in it", fix=f"pass {path / 'traces.zarr'}")
    try:
        group = zarr.open_group(chunks, mode="r" if chunks.read_only else "r+", zarr_format=3, use_consolidated=False)
        about(group.attrs, path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    path = cast("LocalStore", group.store).root
    try:
        found = group[name]
    except UNREADABLE as error:
        raise _unreadable(path, f"{name}: {error}") from error
    if not isinstance(found, zarr.Array):
        raise _unreadable(path, f"{name} is no array")
    # What zarr leaves out because it equals the fill value could not be told from what was lost.
    return found.with_config({"write_empty_chunks": True})


def _values(group: zarr.Group, name: str) -> Any:
    return np.asarray(_array(group, name)[:]).tolist()


def _make(
    group: zarr.Group, name: str, place: Place, *, region: int | None, compressed: bool = True
) -> zarr.Array[Any]:
    chunks = place.shape if region is None else (region, *place.shape[1:])
    # Weights are noise in their low bits; bit-shuffled their high ones still shrink by a seventh at no cost in time.
    blosc = [BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")] if compressed else []
    return group.create_array(
        name,
        shape=place.shape,
        chunks=tuple(max(size, 1) for size in chunks),
        dtype=place.dtype,
        fill_value=place.fill,
        dimension_names=place.dims,
        # One folder per variable, not one per dimension of every chunk.
        chunk_key_encoding={"name": "default", "separator": "."},
        compressors=[*blosc, Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def _put(group: zarr.Group, name: str, values: NDArray[Any], dims: Sequence[str]) -> None:
    text = values.dtype.kind in "UOT"
    place = Place(tuple(dims), values.shape, str if text else values.dtype, "" if text else 0)
    _make(group, name, place, region=None)[...] = values.astype(object) if text else values


def _damaged(root: Path, key: str, what: str) -> DamagedStore:
    return DamagedStore(
        f"the chunk {key} {what}",
        given=root,
        fix=f"run `attnlens traces validate --redo {root}`, then resume: only what is damaged is measured again",
    )


def _unreadable(path: Path, why: object) -> DamagedStore:
    return DamagedStore(
        f"the metadata of the store {path} cannot be read: {why}",
        fix="restore its zarr.json files from a copy, or remove the store and run again",
    )
