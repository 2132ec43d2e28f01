"""Token-level detail of a chosen item: which token, which second of which clip, how much attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, listing
from attnlens.traces.schema import TOLERANCE, Variable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DETAIL", "validate_detail"]

DETAIL: dict[str, Variable] = {
    "token_mass": Variable(
        ("layer", "head", "token", "source"), "f", False, "softmax weights on a source, per output token; sums to 1"
    ),
    "received": Variable(
        ("layer", "head", "key"), "f", False, "mean softmax weight that a position receives from the output's rows"
    ),
    "weights": Variable(
        ("layer", "head", "token", "key"), "f", False, "softmax weights on a position, per output token; sums to 1"
    ),
    "effects": Variable(
        ("layer", "head", "token", "key"),
        "f",
        False,
        "direct effect of what a position adds on the logit of the output token",
    ),
    "token_text": Variable(("token",), "U", False, "the output's tokens as strings"),
    "key_text": Variable(("key",), "U", False, "the prompt's tokens as strings; audio positions hold a placeholder"),
    "key_label": Variable(("key",), "U", False, "whose position it is, such as `demo_audio 2`"),
    "seconds": Variable(("key",), "f", False, "middle of the frame within its clip; NaN where not audio"),
}
"""The variables of a detail group; ``token`` are output tokens, ``key`` positions of the prompt with its output."""
MEASURED = {"token_mass", "received", "weights"}
SAYS = {"token": "token_text", "key": "key_text"}


def validate_detail(dataset: xr.Dataset, *, item: str) -> xr.Dataset:
    """Return the token-level detail of an item when it can be read without guessing; refuse it otherwise.

    >>> import xarray as xr
    >>> received = np.full((1, 1, 2), 0.5, dtype=np.float32)
    >>> detail = xr.Dataset(
    ...     {"received": (("layer", "head", "key"), received), "key_text": ("key", ["<s>", "ka"])},
    ...     coords={"layer": [0], "head": [0]},
    ... )
    >>> validate_detail(detail, item="a").sizes["key"]
    2
    """
    faults = _faults(dataset)
    if faults:
        raise BadInput(
            f"the detail of item {item!r} cannot be stored: {faults[0]}",
            given=listing(faults[1:], at_most=6) or None,
            present=listing(dataset.data_vars),
            fix="see docs/schema.md, token-level detail",
        )
    return dataset


def _faults(dataset: xr.Dataset) -> list[str]:
    faults = [f"unknown variable {name!r}" for name in dataset.data_vars if name not in DETAIL]
    if not MEASURED & set(dataset.data_vars):
        faults.append(f"none of {listing(sorted(MEASURED))} is there")
    for name, spec in DETAIL.items():
        if name in dataset:
            found = dataset[name]
            if found.dims != spec.dims:
                faults.append(f"{name} has dims {found.dims}, not {spec.dims}")
            if found.dtype.kind not in (("U", "O", "T") if spec.kind == "U" else spec.kind):
                faults.append(f"{name} is of type {found.dtype}, not {spec.kind}")
    faults += [f"no {text!r} says what the {dim}s are" for dim, text in SAYS.items() if _lacks(dataset, dim, text)]
    faults += [f"no coordinate {dim!r}" for dim in ("layer", "head") if dim in dataset.dims and dim not in dataset]
    if "source" in dataset.dims and ("source" not in dataset or tuple(dataset["source"].values) != SOURCES):
        faults.append("the sources are not those of the schema")
    faults += [f"the dim {dim!r} is empty" for dim, size in dataset.sizes.items() if size == 0]
    for name, over in {"token_mass": "sources", "weights": "positions"}.items():
        if not faults and name in dataset:
            sums: Any = dataset[name].values.astype(np.float32).sum(-1)
            if not (np.abs(sums - 1) < TOLERANCE).all():
                faults.append(f"{name.replace('_', ' ')} do not sum to 1 over {over}")
    return faults


def _lacks(dataset: xr.Dataset, dim: str, text: str) -> bool:
    return dim in dataset.dims and text not in dataset
