"""What a trace is: dimensions, variables, coordinates and attributes, checked on write and on read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, DamagedStore, listing

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ATTRIBUTES", "ITEM_COORDINATES", "MODALITIES", "VARIABLES", "Variable", "validate"]

TOLERANCE = 1e-3
"""How far a row's masses may be from 1: half-precision stores lose this much, a lost source more."""
MODALITIES = ("audio", "text", "label")


@dataclass(frozen=True)
class Variable:
    """One variable of the schema; ``needed`` ones are in every trace."""

    dims: tuple[str, ...]
    kind: str
    needed: bool
    meaning: str


VARIABLES: dict[str, Variable] = {
    "mass": Variable(
        ("item", "layer", "head", "query", "source"),
        "f",
        True,
        "mean over the query's rows of the softmax weights on a source; sums to 1 over sources",
    ),
    "tokens": Variable(("item", "source"), "i", True, "how many positions a source has"),
    "query_tokens": Variable(("item", "query"), "i", True, "how many rows a query span has"),
    "demo_mass": Variable(
        ("item", "layer", "head", "query", "demo", "modality"),
        "f",
        True,
        "the same mass per demonstration and modality; NaN for demonstrations an item does not have",
    ),
    "demo_tokens": Variable(("item", "demo", "modality"), "i", True, "positions of each, 0 where there is none"),
    "demo_start": Variable(("item", "demo", "modality"), "i", True, "first position of each, -1 where there is none"),
    "entropy": Variable(("item", "layer", "head", "query"), "f", False, "mean entropy of the rows, in nats"),
    "max": Variable(("item", "layer", "head", "query"), "f", False, "mean largest weight of the rows"),
    "contribution": Variable(
        ("item", "layer", "head", "query", "source"),
        "f",
        False,
        "mean norm of what a source adds to the attention output, after the output projection",
    ),
    "logit_effect": Variable(
        ("item", "layer", "head", "query", "source"),
        "f",
        False,
        "mean direct effect of that addition on the logit of the token that follows",
    ),
    "nll": Variable(("item",), "f", True, "negative log-likelihood of the output, in nats, first token included"),
    "received": Variable(
        ("item", "layer", "position"),
        "f",
        False,
        "weight that each position receives from the output's rows, mean over rows and heads; NaN past an item's end",
    ),
    "nll_first": Variable(
        ("item",), "f", False, "the part of nll that is the first token's, which the paper leaves out"
    ),
    "n_output_tokens": Variable(("item",), "i", True, "tokens of the output"),
    "n_chars": Variable(("item",), "i", True, "characters of the output"),
    "positions": Variable(("item",), "i", True, "positions of the whole prompt with its output"),
}

ITEM_COORDINATES = ("utterance", "condition", "shots", "control", "seed", "intervention", "prompt")
"""What an item is; coordinates along ``item``, so that ``sel`` and ``groupby`` do what a reader expects."""

ATTRIBUTES = (
    "attnlens_version",
    "torch_version",
    "transformers_version",
    "model",
    "family",
    "dtype",
    "attention",
    "rows",
    "method",
    "site",
)
"""What every trace says about how it was made; no times, so that equal work gives equal traces."""


def validate(dataset: xr.Dataset, *, where: str = "this trace", damaged: bool = False) -> xr.Dataset:
    """Return the dataset when it satisfies the schema; refuse it with every fault named otherwise.

    Parameters
    ----------
    where
        What to call it in the message.
    damaged
        Raise DamagedStore (for something read back from disk) instead of BadInput.

    >>> from attnlens.testing import trace
    >>> validate(trace(items=2)).sizes["item"]
    2
    """
    faults = [*_names(dataset), *_shapes(dataset)]
    if not faults:
        faults = _values(dataset)
    if faults:
        kind = DamagedStore if damaged else BadInput
        raise kind(
            f"{where} does not satisfy the trace schema: {faults[0]}",
            given=listing(faults[1:], at_most=6) or None,
            present=listing(dataset.data_vars),
            fix="see docs/schema.md; attnlens writes traces that pass",
        )
    return dataset


def _names(dataset: xr.Dataset) -> list[str]:
    faults = [f"no variable {name!r}" for name, spec in VARIABLES.items() if spec.needed and name not in dataset]
    faults += [f"no item coordinate {name!r}" for name in ITEM_COORDINATES if name not in dataset.coords]
    faults += [f"no attribute {name!r}" for name in ATTRIBUTES if name not in dataset.attrs]
    faults += [f"unknown variable {name!r}" for name in dataset.data_vars if name not in VARIABLES]
    return faults


def _shapes(dataset: xr.Dataset) -> list[str]:
    faults = []
    for name, spec in VARIABLES.items():
        if name not in dataset:
            continue
        found = dataset[name]
        if found.dims != spec.dims:
            faults.append(f"{name} has dims {found.dims}, not {spec.dims}")
        if found.dtype.kind != spec.kind:
            faults.append(f"{name} is of type {found.dtype}, not {spec.kind}")
    for name, allowed in {"source": SOURCES, "modality": MODALITIES}.items():
        if name in dataset.coords and tuple(dataset[name].values) != allowed:
            faults.append(f"{name} is {listing(dataset[name].values)}, not {listing(allowed)}")
    elsewhere = [one for one in ITEM_COORDINATES if one in dataset.coords and dataset[one].dims != ("item",)]
    return faults + [f"the coordinate {name} is not along item" for name in elsewhere]


def _values(dataset: xr.Dataset) -> list[str]:
    faults = []
    mass: Any = dataset["mass"].values
    if mass.size:
        # An item whose query span is empty has no rows, hence no mass; everything else must be whole.
        rows = dataset["query_tokens"].values[:, None, None, :] > 0
        sums = mass.sum(-1)
        wrong = np.abs(np.where(rows, sums, 1.0) - 1.0)
        if not np.isfinite(wrong).all() or wrong.max() > TOLERANCE:
            faults.append(f"masses do not sum to 1 over sources (off by {np.nanmax(wrong):.2g})")
        absent = (dataset["tokens"].values == 0)[:, None, None, None, :]
        if np.nanmax(np.where(absent, np.abs(mass), 0.0)) > 0:
            faults.append("a source without tokens has mass")
    if (dataset["tokens"].values.sum(-1) != dataset["positions"].values).any():
        faults.append("the sources' tokens do not add up to the positions")
    return faults
