"""What the statistics take: finite numbers, paired items, options that make sense; the rest is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlens.errors import BadInput, UnknownName, listing

__all__ = [
    "counted",
    "finite",
    "generator",
    "one_of",
    "paired",
    "places",
    "probability",
    "row_blocks",
    "shape_name",
    "whole",
]

BLOCK_BYTES = 16 * 2**20
"""How much one block of resamples may take: large enough for fast products, small beside the data."""
FIRST = 3


def finite(values: ArrayLike, name: str, *, axes: int = 1) -> NDArray[Any]:
    """Return the array behind ``values`` when it has ``axes`` leading axes, is not empty and is finite throughout.

    >>> finite([0.1, float("nan")], "values")
    Traceback (most recent call last):
    attnlens.errors.BadInput: values holds 1 number that is not finite
      given:   nan at [1]
      present: 2 numbers, 1 of them NaN
      fix:     leave the items without a value out of every array, and report how many
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadInput(f"{name} is not an array: {error}", fix="give every item the same number of values") from error
    if array.dtype.kind not in "biuf":
        raise BadInput(f"{name} holds something other than real numbers", given=f"dtype {array.dtype}")
    if array.ndim < axes:
        leading = "[items, ...]" if axes == 1 else "[seeds, items, ...]"
        raise BadInput(f"{name} has too few axes", given=f"shape {array.shape}", present=f"expected {leading}")
    if not array.size:
        raise BadInput(f"{name} is empty", given=f"shape {array.shape}", fix="pass at least one item and one value")
    good = np.isfinite(array)
    if not good.all():
        places = np.argwhere(~good)
        shown = [f"{array[tuple(place)]} at {place.tolist()}" for place in places[:FIRST]]
        more = f" and {len(places) - FIRST:,} more" if len(places) > FIRST else ""
        raise BadInput(
            f"{name} holds {counted(len(places), 'number')} that {'is' if len(places) == 1 else 'are'} not finite",
            given=", ".join(shown) + more,
            present=f"{array.size:,} numbers, {int(np.isnan(array).sum()):,} of them NaN",
            fix="leave the items without a value out of every array, and report how many",
        )
    return array


def paired(values: NDArray[Any], other: ArrayLike, name: str, *, axes: int = 1) -> NDArray[Any]:
    """Return ``other`` when it holds the same items and cells as ``values``, so that one is the other's partner."""
    array = finite(other, name, axes=axes)
    if array.shape != values.shape:
        same = array.shape[:axes] == values.shape[:axes]
        raise BadInput(
            f"{name} has other axes than the values" if same else "the items are not paired",
            given=f"values of shape {values.shape}, {name} of shape {array.shape}",
            fix="bring both into the same order by utterance id, and leave out what only one of them has",
        )
    return array


def whole(value: int, name: str, *, at_least: int, why: str) -> int:
    """Return a count when it is large enough; ``why`` says for what."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise BadInput(f"{name} must be a whole number of at least {at_least:,} {why}", given=repr(value))
    return int(value)


def probability(value: float, name: str) -> float:
    """Return a number that lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise BadInput(f"{name} must lie between 0 and 1, both excluded", given=value, fix="for 95 % pass 0.95")
    return float(value)


def one_of(value: str, literal: object, what: str) -> None:
    """Refuse a word that is not among a Literal's, with the closest one."""
    allowed = get_args(literal)
    if value not in allowed:
        raise UnknownName.among(what, str(value), allowed)


def generator(seed: int) -> np.random.Generator:
    """Return the random numbers of a seed."""
    return np.random.default_rng(whole(seed, "seed", at_least=0, why="so that a result can be had again"))


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Cut ``rows`` rows of ``width`` float64 numbers into blocks of bounded size."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def shape_name(shape: tuple[int, ...]) -> str:
    """Say a shape as people do.

    >>> shape_name((48, 32))
    '48 x 32'
    """
    return " x ".join(f"{size:,}" for size in shape)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "item"), counted(1200, "item")
    ('1 item', '1,200 items')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def places(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> str:
    """Name the cells where a flat mask is set, for a note; nothing when there is only one cell.

    >>> places(np.array([False, True, False, True]), (2, 2))
    ' in 2 cells of 4: [0, 1], [1, 1]'
    """
    if not shape:
        return ""
    found = [str(list(map(int, np.unravel_index(cell, shape)))) for cell in np.flatnonzero(mask)]
    return f" in {counted(len(found), 'cell')} of {mask.size:,}: {listing(found, at_most=FIRST)}"
