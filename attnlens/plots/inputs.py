"""What figures take: traces that hold what is to be drawn, tables with the columns due; the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from attnlens.errors import BadInput, UnknownName, listing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Heads", "Traces", "by_label", "columns", "only", "per_layer", "table", "values_of"]

Traces: TypeAlias = "xr.Dataset | Mapping[str, xr.Dataset]"
"""One trace, or several by the names they should have in the legend."""
Heads = Literal["before", "after"]
"""Whether heads are averaged before a view is taken (weighing them by their mass) or after it (all alike)."""


def by_label(traces: Traces) -> dict[str, xr.Dataset]:
    """Return the traces by label, each with at least one item, layer and head.

    >>> from attnlens.testing import trace
    >>> list(by_label(trace()))
    ['']
    >>> by_label(trace().isel(item=slice(0)))
    Traceback (most recent call last):
    attnlens.errors.BadInput: there is nothing to draw: the trace has no item
      present: item 0, layer 3, head 4, query 1, source 10, demo 2, modality 3
      fix:     pass a trace of finished items
    """
    import xarray as xr

    given = traces if isinstance(traces, Mapping) and not isinstance(traces, xr.Dataset) else {"": traces}
    if not given:
        raise BadInput("there is nothing to draw: no trace is given", fix="pass a trace, or several by label")
    found: dict[str, xr.Dataset] = {}
    for label, dataset in given.items():
        named = f"the trace {label!r}" if label else "the trace"
        if not isinstance(dataset, xr.Dataset):
            raise BadInput(
                f"{named} is no xarray Dataset",
                given=type(dataset).__name__,
                fix="pass what lens.trace or open_traces returns",
            )
        for dim in ("item", "layer", "head"):
            if not dataset.sizes.get(dim):
                raise BadInput(
                    f"there is nothing to draw: {named} has no {dim}",
                    present=listing(f"{name} {size}" for name, size in dataset.sizes.items()),
                    fix="pass a trace of finished items",
                )
        found[str(label)] = dataset
    return found


def only(dataset: xr.Dataset, **wanted: Any) -> xr.Dataset:
    """Return the items whose coordinates are as wanted; None wants all. Refuse when none is left.

    >>> from attnlens.testing import trace
    >>> only(trace(items=3), condition="micl", shots=None).sizes["item"]
    3
    """
    keep = np.ones(dataset.sizes["item"], dtype=bool)
    for name, value in wanted.items():
        if value is None:
            continue
        there = dataset[name].values
        now = np.isin(there, np.atleast_1d(value))
        if not now.any():
            raise BadInput(
                f"no item has {name} {value!r}",
                present=listing(sorted(set(there.tolist()))),
                fix=f"pass a {name} that was run",
            )
        keep &= now
    if not keep.any():
        said = ", ".join(f"{name} {value!r}" for name, value in wanted.items() if value is not None)
        raise BadInput(f"no item has all of {said}", fix="ask for a combination that was run")
    return dataset if keep.all() else dataset.isel(item=np.flatnonzero(keep))


def values_of(dataset: xr.Dataset, name: str, *, query: str = "output") -> xr.DataArray:
    """Return a variable of the trace or a view of it by name, at one query span.

    >>> from attnlens.testing import trace
    >>> values_of(trace(), "bias").dims, values_of(trace(), "mass").dims
    (('item', 'layer', 'head'), ('item', 'layer', 'head', 'source'))
    """
    from attnlens.traces.views import VIEWS, view

    if name in VIEWS:
        found = view(dataset, name)
    elif name in dataset and "layer" in dataset[name].dims:
        found = dataset[name]
    else:
        there = [str(one) for one in dataset.data_vars if "layer" in dataset[one].dims]
        raise UnknownName.among("view or measure", name, [*VIEWS, *there])
    if "query" in found.dims:
        if query not in found["query"].values:
            raise UnknownName.among("query span", query, [str(one) for one in found["query"].values])
        found = found.sel(query=query, drop=True)
    return found


def per_layer(dataset: xr.Dataset, view: str, *, heads: Heads = "before", query: str = "output") -> xr.DataArray:
    """Return a view with its heads averaged, dims item, layer and what else the view has.

    >>> from attnlens.testing import trace
    >>> per_layer(trace(), "bias").dims
    ('item', 'layer')
    """
    from attnlens.traces.views import VIEWS

    if heads not in ("before", "after"):
        raise UnknownName.among("order of averaging", heads, ["before", "after"])
    if heads == "before" and view in VIEWS:
        with_head = [name for name in dataset.data_vars if "head" in dataset[name].dims]
        # The other variables know of no heads and would be averaged away with their dtype.
        mean = dataset.assign({name: dataset[name].mean("head", keep_attrs=True) for name in with_head})
        return values_of(mean, view, query=query).compute()
    return values_of(dataset, view, query=query).mean("head", keep_attrs=True).compute()


def table(given: pd.DataFrame | Mapping[str, Sequence[Any]], *, needs: Sequence[str], what: str) -> pd.DataFrame:
    """Return a table that has rows and the columns a figure needs.

    >>> table({"n": [1, 2], "wer": [0.5, 0.4]}, needs=["n", "wer"], what="an oracle curve")["wer"].tolist()
    [0.5, 0.4]
    """
    import pandas as pd

    frame = given if isinstance(given, pd.DataFrame) else pd.DataFrame(given)
    missing = [name for name in needs if name not in frame.columns]
    if missing:
        raise BadInput(
            f"{what} needs the column{'s' * (len(missing) > 1)} {listing(missing)}",
            present=listing(frame.columns) or "no column",
            fix=f"pass a table with {listing(needs)}",
        )
    if not len(frame):
        raise BadInput(f"there is nothing to draw: the table for {what} has no rows", fix="pass at least one row")
    return frame.reset_index(drop=True)


def columns(frame: pd.DataFrame, names: Sequence[str], *, what: str) -> None:
    """Refuse columns that hold something other than finite numbers; interval ends may be absent (NaN)."""
    for name in names:
        if name not in frame.columns:
            continue
        if frame[name].dtype.kind not in "iuf":
            raise BadInput(
                f"the column {name!r} of {what} holds no numbers",
                given=f"{frame[name].dtype}, such as {frame[name].iloc[0]!r}",
                fix="convert it to numbers",
            )
        if name in ("low", "high"):
            continue
        bad = ~np.isfinite(frame[name].to_numpy(dtype=np.float64))
        if bad.any():
            raise BadInput(
                f"the column {name!r} of {what} holds {int(bad.sum())} values that are not finite",
                given=f"row {int(np.flatnonzero(bad)[0])}: {frame[name].to_numpy()[bad][0]}",
                fix="leave out the rows without a value and say so",
            )
