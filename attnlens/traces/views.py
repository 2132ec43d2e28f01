"""Views of a trace: how masses are normalised before they are compared, what that corrects and what it does not.

``docs/views.md`` has a section per view. All are pure functions of a dataset, work on any dims it has left (average the
heads before a view or after it, the two differ for ratios) and stay lazy where the dataset is chunked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from attnlens.errors import BadInput, listing
from attnlens.registry import Registry

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VIEWS", "View", "bias", "density", "log_ratio", "raw", "sinkless", "view"]

AUDIO, TEXT = "demo_audio", "demo_text"
SEES_ALL_DEMOS = ("output", "target_audio", "task")
"""Query spans behind the last demonstration; the others see only part of what `tokens` counts."""


class View(Protocol):
    """What a view is: a trace in, an array with the attributes ``view`` and ``formula`` out."""

    def __call__(self, dataset: xr.Dataset, /) -> xr.DataArray:
        """Return the view."""


def raw(dataset: xr.Dataset) -> xr.DataArray:
    """Return the masses as they were measured, to see where attention went at all, the sink included.

    Corrects nothing: long sources collect more than short ones, and most goes to the first token.

    >>> from attnlens.testing import trace
    >>> raw(trace()).attrs["formula"]
    'mass'
    """
    return _named(_mass(dataset), "raw", "mass")


def sinkless(dataset: xr.Dataset) -> xr.DataArray:
    """Return how the mass on demonstrations is shared between their audio and their text; the two add up to 1.

    Corrects for the sink, the frame of the prompt, the labels and the target, whose masses drown those of the
    demonstrations. Does not correct for length. NaN where there are no demonstrations or nothing falls on them.

    >>> from attnlens.testing import trace
    >>> shares = sinkless(trace())
    >>> shares.sizes["source"], bool(np.allclose(shares.sum("source"), 1))
    (2, True)
    """
    parts = _pair(_mass(dataset))
    total = parts.sum("source")
    return _named(parts / total.where(total > 0), "sinkless", "mass / (mass of demo_audio + mass of demo_text)")


def density(dataset: xr.Dataset) -> xr.DataArray:
    """Return the mass per token over what a head that spreads evenly would give: 1 is even, above 1 is sought out.

    Corrects for length, exactly: each row of the output sees one position more than the row before. Does not correct
    for distance, nor for the sink, which makes all else less than even. NaN where a source has no tokens, and
    for query spans other than ``output``, of whose rows a trace does not say how much they saw.

    >>> from attnlens.testing import trace
    >>> bool((density(trace()).sel(source="system") >= 0).all())
    True
    """
    queries = np.atleast_1d(_needed(dataset, "query").values)
    if "output" not in queries:
        raise BadInput(
            "density is defined for the rows of the output",
            present=listing(queries),
            fix="trace with queries=['output']",
        )
    tokens, rows = _needed(dataset, "tokens"), _needed(dataset, "query_tokens")
    rows = rows.sel(query="output", drop=True) if "query" in rows.dims else rows
    before = _needed(dataset, "positions") - tokens.sel(source="output", drop=True)
    # Row k of n sees every position before the output and k tokens of it, or k + 1 of them when it stands on its token.
    own = 1 if dataset.attrs.get("rows") == "reading" else 0
    inverse = _mean_inverse(before + own, rows)
    expected = tokens * inverse
    expected = expected.where(expected["source"] != "output", 1 - before * inverse)
    mass = _mass(dataset)
    found = mass / expected.where((tokens > 0) & (expected > 0)).astype(mass.dtype)
    formula = "mass / (tokens * mean over rows of 1 / positions seen)"
    return _named(found.where(dataset["query"] == "output"), "density", formula)


def log_ratio(dataset: xr.Dataset) -> xr.DataArray:
    """Return ln of the density of the demonstrations' text over that of their audio: 0 is no preference per token.

    Corrects for length; what a head that spreads evenly prefers is nothing. Does not correct for distance. Infinite
    where one side has tokens and no mass, NaN where one has no tokens, neither has mass, or the query
    stands among the demonstrations, which it then sees in part.

    >>> from attnlens.testing import trace
    >>> log_ratio(trace()).dims
    ('item', 'layer', 'head', 'query')
    """
    mass, tokens = _pair(_mass(dataset)), _pair(_needed(dataset, "tokens"))
    density = mass / tokens.where(tokens > 0).astype(mass.dtype)
    audio, text = (density.sel(source=one, drop=True) for one in (AUDIO, TEXT))
    found = _log(text) - _log(audio)
    found = found.where(~((text == 0) & (audio > 0)), -np.inf).where(~((text > 0) & (audio == 0)), np.inf)
    found = found.where(_needed(dataset, "query").isin(SEES_ALL_DEMOS))
    return _named(found, "log_ratio", "ln((text mass / text tokens) / (audio mass / audio tokens))")


def bias(dataset: xr.Dataset) -> xr.DataArray:
    """Return (text - audio) / (text + audio) of the demonstrations' masses, between -1 and 1, as the paper reports it.

    Corrects for how much falls on demonstrations at all. Does not correct for length: audio spans are several
    times as long as their texts, so an even head is far below 0. NaN where one of the two has no tokens, since there is
    nothing to compare, or where nothing falls on either.

    >>> from attnlens.testing import trace
    >>> bool(abs(bias(trace())).max() <= 1)
    True
    """
    mass, tokens = _pair(_mass(dataset)), _pair(_needed(dataset, "tokens"))
    audio, text = (mass.sel(source=one, drop=True) for one in (AUDIO, TEXT))
    compared = (tokens > 0).all("source") & (text + audio > 0)
    return _named((text - audio) / (text + audio).where(compared), "bias", "(text - audio) / (text + audio), of masses")


VIEWS: Registry[View] = Registry(
    "view",
    group="attnlens.views",
    builtin={
        name: (f"attnlens.traces.views:{name}", summary)
        for name, summary in {
            "raw": "masses as measured",
            "sinkless": "shares of the demonstrations' audio and text, all else left out",
            "density": "mass per token over the even expectation",
            "log_ratio": "ln of text density over audio density; corrects for length",
            "bias": "(text - audio) / (text + audio) of masses; as the paper, not corrected for length",
        }.items()
    },
)
"""All views by name; packages add theirs through the entry-point group ``attnlens.views``."""


def view(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """Return a view by its name, for specs and command lines.

    >>> from attnlens.testing import trace
    >>> view(trace(), "log_ratio").name
    'log_ratio'
    >>> view(trace(), "baias")
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown view 'baias'
      present: bias, density, log_ratio, raw, sinkless
      fix:     did you mean 'bias'?
    """
    return VIEWS[name](dataset)


def _needed(dataset: xr.Dataset, name: str) -> xr.DataArray:
    if name not in dataset.variables:
        raise BadInput(
            f"this view needs {name!r}",
            present=listing([*dataset.data_vars, *dataset.coords]),
            fix="take views of a trace, before its variables are selected or reduced away",
        )
    return dataset[name]


def _mass(dataset: xr.Dataset) -> xr.DataArray:
    mass = _needed(dataset, "mass")
    # Sums and quotients of halves would lose what half precision had kept.
    return mass.astype(np.float32) if mass.dtype == np.float16 else mass


def _pair(values: xr.DataArray) -> xr.DataArray:
    pair = values.sel(source=[AUDIO, TEXT])
    # Every selection from an array on disk reads its chunks again; this one is read once.
    return pair if pair.chunks is not None else pair.load()


def _log(values: xr.DataArray) -> xr.DataArray:
    return cast("xr.DataArray", np.log(values.where(values > 0)))


def _mean_inverse(first: xr.DataArray, rows: xr.DataArray) -> xr.DataArray:
    """Return the mean of 1 / (first + k) over k below rows: what one position gets from an even head."""
    import xarray as xr

    def reckoned(first: Any, rows: Any) -> Any:
        known = (first > 0) & (rows > 0)
        start, count = np.where(known, first, 1).astype(np.int64), np.where(known, rows, 1).astype(np.int64)
        sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int((start + count).max(initial=1)) + 1))])
        return np.where(known, (sums[start + count - 1] - sums[start - 1]) / count, np.nan)

    found = xr.apply_ufunc(reckoned, first, rows, dask="parallelized", output_dtypes=[np.float64])
    return cast("xr.DataArray", found)


def _named(values: xr.DataArray, name: str, formula: str) -> xr.DataArray:
    return values.rename(name).assign_attrs(view=name, formula=formula, long_name=name.replace("_", " "))
