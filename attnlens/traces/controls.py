"""Controls as a dimension: every clean item beside the same item under each control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName, listing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PAIRING", "by_control", "control_name"]

PAIRING = ("utterance", "condition", "shots", "seed", "intervention")
"""What a controlled item shares with the clean one it is compared with."""
UNIMPORTANT = "unchanged="


def control_name(control: str) -> str:
    """Return what a control is, without its seed and without what it noted.

    >>> control_name("word-shuffle@7:unchanged=1"), control_name("gold-inserted@0:slot=2+order-reversed@0")
    ('word-shuffle', 'gold-inserted:slot=2+order-reversed')
    """
    names = []
    for one in control.split("+"):
        name, _, rest = one.partition("@")
        options = [part for part in rest.partition(":")[2].split(",") if part and not part.startswith(UNIMPORTANT)]
        names.append(f"{name}:{','.join(options)}" if options else name)
    return "+".join(names)


def by_control(dataset: xr.Dataset, *, on_unpaired: Literal["refuse", "drop"] = "refuse") -> xr.Dataset:
    """Give controls a dimension of their own, ``none`` first, so that a comparison is a subtraction.

    Returns the items' variables with the dims ``control`` and ``item``, where an item is now a clean one; NaN where a
    control was not run or has no meaning. ``on_unpaired`` says what happens to controlled items without a clean
    partner: they are refused, or dropped and counted in the attribute ``unpaired``.

    >>> import xarray as xr
    >>> from attnlens.testing import trace
    >>> clean, other = trace(items=5, seed=1), trace(items=5, seed=2)
    >>> other = other.assign_coords(control=("item", ["mismatched-pairs@0"] * 5))
    >>> found = by_control(xr.concat([clean, other], "item"))
    >>> found.nll.dims, found.control.values.tolist()
    (('control', 'item'), ['none', 'mismatched-pairs'])
    >>> costs = found.nll.sel(control="mismatched-pairs") - found.nll.sel(control="none")
    """
    import xarray as xr

    if on_unpaired not in ("refuse", "drop"):
        raise UnknownName.among("choice for unpaired items", on_unpaired, ["refuse", "drop"])
    controls = [control_name(str(one)) for one in dataset["control"].values.tolist()]
    keys = list(zip(*(dataset[name].values.tolist() for name in PAIRING), strict=True))
    clean = [place for place, control in enumerate(controls) if control == "none"]
    if not clean:
        raise BadInput(
            "there is no clean item to compare with",
            present=listing(sorted(set(controls))),
            fix="run the same prompts without a control as well",
        )
    row = {keys[place]: number for number, place in enumerate(clean)}
    names = ["none", *dict.fromkeys(one for one in controls if one != "none")]
    places = np.full((len(names), len(clean)), -1, dtype=np.int64)
    places[0] = clean
    unpaired = []
    for place, control in enumerate(controls):
        if control == "none":
            continue
        number = row.get(keys[place])
        if number is None:
            unpaired.append(place)
        elif places[names.index(control), number] >= 0:
            raise BadInput(
                f"the control {control!r} was run twice for the same clean item",
                given=listing(keys[place]),
                fix="choose one, or give the repetitions different seeds",
            )
        else:
            places[names.index(control), number] = place
    if unpaired and on_unpaired == "refuse":
        raise BadInput(
            f"{len(unpaired)} controlled items have no clean partner",
            given=f"{controls[unpaired[0]]} of {listing(keys[unpaired[0]])}",
            present=f"pairs share {listing(PAIRING)}",
            fix="run those without a control as well, or pass on_unpaired='drop'",
        )
    parts = []
    for rows in places:
        there = xr.DataArray(rows >= 0, dims="item")
        part = dataset.isel(item=np.maximum(rows, 0)).drop_vars(["control", "prompt"])
        part = part.assign_coords({name: ("item", dataset[name].values[places[0]]) for name in ("item", *PAIRING)})
        parts.append(part if there.all() else part.where(there.drop_vars("item", errors="ignore")))
    joined = xr.concat(
        parts, xr.Variable("control", names), coords="minimal", compat="override", combine_attrs="override"
    )
    return joined.assign_attrs(unpaired=len(unpaired))
