"""What training changed: the preference of each layer under several adapters, and the differences to the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.errors import BadInput
from attnlens.plots.bands import LEVEL, Band, band
from attnlens.plots.inputs import by_label, only, per_layer
from attnlens.plots.layers import AXIS
from attnlens.plots.lines import caption, layer_axis, legend, line
from attnlens.plots.style import CYCLE, MARKERS, RULE, Size, styled

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.plots.drawing import Drawing

__all__ = ["bias_change"]

PAIRED = ("utterance", "condition", "shots", "seed")


def bias_change(traces: Mapping[str, xr.Dataset], *, view: str = "bias", size: Size = "page") -> Drawing:
    """Show the preference of each layer under several adapters of one model, and how each differs from the first.

    The same prompts are compared: items without controls, paired by utterance, condition, shots and seed.

    >>> from attnlens.testing import trace
    >>> figure = bias_change({"base": trace(items=6), "xft": trace(items=6, seed=1)})
    >>> figure.data["panel"].unique().tolist(), sorted(figure.data["adapter"].unique())
    (['preference', 'difference'], ['base', 'xft'])
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    values = _paired(by_label(traces), view)
    first, *others = values
    layers = values[first]["layer"].values
    owners = values[first]["utterance"].values.tolist()
    base = values[first].values
    drawn: list[tuple[str, str, Band]] = [
        ("preference", name, band(one.values, owners, what=f"{view} values")) for name, one in values.items()
    ]
    drawn += [
        ("difference", name, band(values[name].values, owners, minus=base, what=f"{view} values")) for name in others
    ]
    rows = [
        {"panel": panel, "adapter": name, "view": view, "layer": layer, "estimate": e, "low": low, "high": high}
        | {"n": found.units}
        for panel, name, found in drawn
        for layer, e, low, high in zip(layers.tolist(), found.estimate, found.low, found.high, strict=True)
    ]
    said = caption(
        f"preference of each layer for the demonstrations' text or audio, view `{view}`, with each adapter (left), and "
        f"the same prompts' difference to {first} (right)",
        f"{drawn[0][2].units} utterances, {len(base)} prompts",
        f"bands are {100 * LEVEL:g} % bootstrap intervals over utterances" if drawn[0][2].has_interval else None,
        *dict.fromkeys(note for *_, found in drawn for note in found.notes),
    )
    with styled(size) as width:
        figure = Drawing("bias_change", data=pd.DataFrame(rows), caption=said, figsize=sized(width, aspect=0.4))
        left, right = figure.subplots(1, 2)
        for axes, panel in ((left, "preference"), (right, "difference")):
            axes.axhline(0.0, color=RULE, linewidth=1.0, zorder=0)
            for kind, name, found in drawn:
                place = list(values).index(name)
                look: dict[str, Any] = {"colour": CYCLE[place % len(CYCLE)], "marker": MARKERS[place % len(MARKERS)]}
                if kind == panel:
                    line(axes, layers, found.estimate, found.low, found.high, label=name, **look)
            layer_axis(axes, layers)
        left.set_ylabel(AXIS.get(view, view))
        right.set_ylabel(f"difference to {first}")
        legend(right if len(others) > 1 else left, loc="best", bbox_to_anchor=None)
    return figure


def _paired(traces: Mapping[str, xr.Dataset], view: str) -> dict[str, xr.DataArray]:
    """Return a view [item, layer] of the items that all traces have, in one order."""
    if len(traces) < 2:  # noqa: PLR2004
        raise BadInput("a change has two sides", given=f"{len(traces)} traces", fix="pass the traces of two adapters")
    found: dict[str, xr.DataArray] = {}
    keys: dict[str, list[tuple[Any, ...]]] = {}
    for name, dataset in traces.items():
        clean = only(dataset, control="none")
        values = per_layer(clean, view, heads="before").transpose("item", "layer")
        found[name] = values.isel(item=np.flatnonzero(np.isfinite(values.values).all(1)))
        columns = [found[name][one].values.tolist() for one in PAIRED]
        keys[name] = list(zip(*columns, strict=True))
    shared = set.intersection(*map(set, keys.values()))
    order = [key for key in next(iter(keys.values())) if key in shared]
    if not order:
        raise BadInput(
            f"the traces share no prompt with a defined {view}",
            given=", ".join(traces),
            fix="trace the condition micl with at least one shot, on the same utterances",
        )
    return {name: found[name].isel(item=[keys[name].index(key) for key in order]) for name in found}
