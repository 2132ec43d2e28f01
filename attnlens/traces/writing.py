"""Writing traces: item by item, by several processes, each item finished only once it is safe on disk."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, DamagedStore, listing
from attnlens.traces.detail import validate_detail
from attnlens.traces.durable import commit, locked
from attnlens.traces.incoming import fitted
from attnlens.traces.layout import Layout
from attnlens.traces.marks import LOCK, digests, mark_file, read_mark, read_marks, written
from attnlens.traces.store import DETAILS, StoreFiles, blank, detail_files, stored_layout

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TraceStore", "save"]

Details = Mapping[str, "xr.Dataset"]


class TraceStore:
    """Write traces so that a crash costs at most the items in hand, and go on where the last process stopped.

    Make one with :meth:`create` or :meth:`open`. Several processes may write at once: an item belongs to the first
    that finishes it.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> made = trace(items=3)
    >>> store = TraceStore.create(tempfile.mkdtemp() + "/traces.zarr", Layout.like(made, spec_hash="6f1d"))
    >>> store.write(made.isel(item=[1]), items=["item-1"])
    ('item-1',)
    >>> store.finished(), store.unfinished()
    (('item-1',), ('item-0', 'item-2'))
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout

    @classmethod
    def create(cls, path: str | Path, layout: Layout) -> Self:
        """Lay out an empty store where nothing is yet; it appears whole or not at all."""
        path = Path(path)
        if path.exists():
            raise BadInput(
                f"there is something at {path} already",
                fix="open the store to go on with it, or choose another path; nothing is overwritten",
            )
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            commit(temporary, blank(temporary, layout))
            temporary.rename(path)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise BadInput(
                f"no store can be made at {path}: {error.strerror or error}",
                fix="choose a folder that you may write to and that has room",
            ) from error
        return cls(path, layout)

    @classmethod
    def open(cls, path: str | Path, *, expect: Layout | None = None) -> Self:
        """Open a store to go on writing; with ``expect``, only if it is the one that this layout describes."""
        store = cls(Path(path), stored_layout(Path(path)))
        if expect is not None:
            _same(store, expect)
        return store

    def __reduce__(self) -> tuple[object, ...]:
        # Open files do not travel: a worker opens the store itself.
        return type(self).open, (self.path,)

    def __repr__(self) -> str:
        return f"TraceStore({str(self.path)!r}, {len(self.layout)} items planned)"

    def finished(self) -> tuple[str, ...]:
        """Return the ids of the items whose values are on disk at this moment, in the order of the item axis."""
        marks = read_marks(self.path, len(self.layout), self.layout.region_size)
        return tuple(name for name, mark in zip(self.layout.ids, marks.tolist(), strict=True) if mark)

    def unfinished(self) -> tuple[str, ...]:
        """Return the ids of the items that are still due."""
        done = set(self.finished())
        return tuple(name for name in self.layout.ids if name not in done)

    def write(
        self,
        dataset: xr.Dataset,
        *,
        items: Sequence[str],
        details: Details | None = None,
        on_finished: Literal["refuse", "keep"] = "refuse",
    ) -> tuple[str, ...]:
        """Store traces of planned items; when this returns they are on disk and marked as finished.

        Several items of one region at once cost little more than one.

        Parameters
        ----------
        dataset
            A trace that satisfies the schema and was made as the store's attributes say.
        items
            The planned ids of the dataset's items, in its order.
        details
            Token-level detail by id, for exactly those of the items that the layout chose.
        on_finished
            What happens to an item that is finished with *other* values: refused, or kept as it was. Equal values are
            recognised and not written again.

        Returns
        -------
        tuple of str
            The ids that were newly written, in the order given.
        """
        rows = self.layout.rows(items)
        arrays = fitted(dataset, self.layout, rows)
        told = self._chosen(items, details or {})
        size = self.layout.region_size
        new: set[str] = set()
        for region in sorted({row // size for row in rows}):
            here = [place for place, row in enumerate(rows) if row // size == region]
            part = {name: values[here] for name, values in arrays.items()}
            try:
                new |= self._write(region, [rows[place] for place in here], part, told, on_finished)
            except OSError as error:
                raise self._interrupted(error, items) from error
        return tuple(name for name in items if name in new)

    def redo(self, items: Iterable[str]) -> None:
        """Take the marks off items, so that they count as unfinished and a resumed run measures them again."""
        rows = self.layout.rows(list(items))
        size = self.layout.region_size
        for region in sorted({row // size for row in rows}):
            try:
                with locked(self.path / LOCK, region):
                    try:
                        marks = read_mark(self.path, region, size)
                    except DamagedStore:
                        marks = np.zeros(size, dtype=np.uint64)
                    marks[[row % size for row in rows if row // size == region]] = 0
                    commit(self.path, {mark_file(region): written(marks)})
            except OSError as error:
                raise self._interrupted(error, [self.layout.ids[row] for row in rows]) from error

    def load(self, region: int) -> tuple[list[int], dict[str, NDArray[Any]]]:
        """Return a region's finished rows and their values, [finished rows, ...] each; refuse values that changed."""
        rows, values, altered = self.examine(region)
        if altered:
            raise DamagedStore(
                f"stored values are not those that were measured: {listing(altered)}",
                given=self.path,
                fix=f"run `attnlens traces validate --redo {self.path}`, then resume the run",
            )
        return rows, values

    def examine(self, region: int) -> tuple[list[int], dict[str, NDArray[Any]], list[str]]:
        """Return a region's finished rows, their values, and the ids of those whose values are not as written."""
        rows = self.layout.region_rows(region)
        marks = read_mark(self.path, region, self.layout.region_size)[: len(rows)]
        done = np.flatnonzero(marks)
        if not len(done):
            return [], {}, []
        values = {name: array[done] for name, array in self._files.read(region).items()}
        altered = [self.layout.ids[rows[place]] for place in done[digests(values) != marks[done]]]
        return [rows[place] for place in done], values, altered

    @cached_property
    def _files(self) -> StoreFiles:
        return StoreFiles(self.path, self.layout)

    def _write(
        self, region: int, rows: list[int], arrays: dict[str, NDArray[Any]], details: Details, on_finished: str
    ) -> set[str]:
        size = self.layout.region_size
        places = np.asarray(rows) % size
        content = digests(arrays)
        with locked(self.path / LOCK, region):
            marks = read_mark(self.path, region, size)
            before = marks[places]
            other = [self.layout.ids[rows[k]] for k in np.flatnonzero((before != 0) & (before != content))]
            if other and on_finished == "refuse":
                raise BadInput(
                    f"finished items are not overwritten with other values: {listing(other)}",
                    present=f"{int((marks != 0).sum())} finished items in region {region} of {self.path}",
                    fix="call redo() on them first, or pass on_finished='keep' to leave them as they are",
                )
            due = before == 0
            if not due.any():
                return set()
            names = [self.layout.ids[rows[k]] for k in np.flatnonzero(due)]
            whole = self._beside_finished(region)
            for name, values in whole.items():
                values[places[due]] = arrays[name][due]
            files = self._files.encoded(region, whole)
            for name in names:
                if name in details:
                    # A killed process or an earlier round may have left other variables there.
                    shutil.rmtree(self.path / DETAILS / name, ignore_errors=True)
                    files |= detail_files(self.path, name, details[name])
            commit(self.path, files)
            marks[places[due]] = content[due]
            # Only now, when all of the above is on disk, may the items call themselves finished.
            commit(self.path, {mark_file(region): written(marks)})
        return set(names)

    def _beside_finished(self, region: int) -> dict[str, NDArray[Any]]:
        """Return a region's values with everything unfinished blank, whatever a killed process left there."""
        rows = self.layout.region_rows(region)
        done, values = self.load(region)
        whole = {}
        for name, place in self.layout.places.items():
            whole[name] = np.full((len(rows), *place.shape[1:]), place.fill, dtype=place.dtype)
            if done:
                whole[name][np.asarray(done) - rows.start] = values[name]
        return whole

    def _chosen(self, items: Sequence[str], details: Details) -> Details:
        chosen = set(self.layout.detail) & set(items)
        if chosen != set(details):
            raise BadInput(
                "token-level detail is due for exactly the items that the layout chose",
                given=listing(sorted(details)) or "none",
                present=listing(sorted(chosen)) or "none of these items",
                fix="name the items in Layout(detail=...) and bring their detail when they are written",
            )
        return {name: validate_detail(detail, item=name) for name, detail in details.items()}

    def _interrupted(self, error: OSError, items: Sequence[str]) -> BadInput:
        try:
            done = set(self.finished())
            kept = f"{len(done)} of {len(self.layout)} items are finished and safe"
            kept += f", of these {sum(name in done for name in items)}"
        except (OSError, DamagedStore):
            kept = "finished items are untouched"
        return BadInput(
            f"the store {self.path} could not be written: {error.strerror or error}",
            given=listing(items, at_most=6),
            present=kept,
            fix="make room or restore access, then run the same command again: it goes on from there",
        )


def save(dataset: xr.Dataset, path: str | Path, *, spec_hash: str = "none", **changes: Any) -> TraceStore:
    """Keep a trace that is whole in memory; ``changes`` are fields of the layout, such as ``precision``.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> len(save(trace(items=2), tempfile.mkdtemp() + "/traces.zarr").finished())
    2
    """
    layout = Layout.like(dataset, spec_hash=spec_hash, **changes)
    store = TraceStore.create(path, layout)
    try:
        store.write(dataset, items=layout.ids)
    except BaseException:
        # Ctrl-C too: in memory it is still whole, so half of it on disk helps nobody and would stand in the way.
        shutil.rmtree(store.path, ignore_errors=True)
        raise
    return store


def _same(store: TraceStore, expected: Layout) -> None:
    found = store.layout
    differences = found.differences(expected)
    gone = set(found.ids) - set(expected.ids)
    new = set(expected.ids) - set(found.ids)
    differences += [f"{len(gone)} items are not planned any more, such as {min(gone)}"] if gone else []
    differences += [f"{len(new)} items have no place, such as {min(new)}"] if new else []
    for name, column in found.items.items() if not differences else ():
        if column != expected.items[name]:
            differences.append(f"{name}: the items stand in another order or say something else")
    if differences:
        raise DamagedStore(
            f"the store {store.path} belongs to another plan",
            given=listing(differences, at_most=6),
            fix="resume with the spec and versions that it was made with, or write to another path",
        )
