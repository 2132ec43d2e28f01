"""Traces for other programs: one netCDF-4 file, written some items at a time."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput
from attnlens.traces.blocks import block_items
from attnlens.traces.reading import open_details, open_traces

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["export_netcdf"]


def export_netcdf(path: str | Path, out: str | Path, *, items: Literal["finished", "all"] = "finished") -> Path:
    """Write a store as one netCDF-4 file, which R, Julia, MATLAB and ncview read; return where it is.

    Values are unchanged, but that half precision becomes single, which the format lacks. Token-level detail
    goes into groups ``detail/ITEM``. ``items`` is as in :func:`attnlens.traces.reading.open_traces`.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> folder = Path(tempfile.mkdtemp())
    >>> export_netcdf(save(trace(), folder / "traces.zarr").path, folder / "traces.nc").name
    'traces.nc'
    """
    out = Path(out)
    if out.exists():
        raise BadInput(f"there is something at {out} already", fix="choose another path; nothing is overwritten")
    dataset = open_traces(path, items=items, lazy="zarr")
    if not dataset.sizes["item"]:
        raise BadInput(f"no item of {path} is finished, so there is nothing to export", fix="run it first")
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        _write(dataset, temporary)
        for name, node in open_details(path).children.items():
            node.to_dataset().load().to_netcdf(temporary, mode="a", group=f"detail/{name}", engine="h5netcdf")
        temporary.replace(out)
    except OSError as error:
        raise BadInput(
            f"the file {out} could not be written: {error.strerror or error}",
            fix="choose a folder that you may write to and that has room",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return out


def _write(dataset: xr.Dataset, out: Path) -> None:
    import h5netcdf

    step = block_items(dataset)
    # An empty file by xarray, so that names, coordinates and attributes are as xarray reads them; then the values.
    blank = dataset.isel(item=slice(0)).drop_encoding()
    blank.attrs = {name: _attribute(value) for name, value in dataset.attrs.items()}
    encoding: dict[str, dict[str, Any]] = {}
    halves = [name for name, values in blank.data_vars.items() if values.dtype == np.float16]
    blank = blank.assign({name: blank[name].astype(np.float32) for name in halves})
    for name, column in blank.data_vars.items():
        chunk = tuple(min(step, 64) if dim == "item" else size for dim, size in column.sizes.items())
        encoding[str(name)] = {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunk}
    blank.to_netcdf(out, engine="h5netcdf", unlimited_dims=["item"], encoding=encoding)
    along = [str(name) for name, values in dataset.variables.items() if "item" in values.dims]
    with h5netcdf.File(out, "r+") as file:
        file.resize_dimension("item", dataset.sizes["item"])
        for start in range(0, dataset.sizes["item"], step):
            part = slice(start, min(start + step, dataset.sizes["item"]))
            for name in along:
                values = dataset[name].isel(item=part).values
                file.variables[name][part] = values.astype(object) if values.dtype.kind == "U" else values


def _attribute(value: Any) -> str | int | float:
    # netCDF knows no lists of texts, no nesting, no truth values and no null.
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value if plain else json.dumps(value)
