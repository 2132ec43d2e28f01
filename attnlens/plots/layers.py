"""Which modality of the demonstrations each layer prefers, with intervals and its controls beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.bands import LEVEL, Band, band
from attnlens.plots.inputs import Heads, Traces, by_label, only, per_layer
from attnlens.plots.lines import caption, layer_axis, legend, line, several
from attnlens.plots.style import AUDIO, CONTROL, CYCLE, MARKERS, RULE, TEXT, Size, ramp, styled
from attnlens.traces.controls import control_name

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

    from attnlens.plots.drawing import Drawing

__all__ = ["AXIS", "modality_bias"]

By = Literal["none", "shots", "condition", "seed"]
SHORT = {"bias": "bias (of masses,\nnot by length)", "log_ratio": "log ratio\n(mass per token)"}
AXIS = {
    "bias": "bias: (text - audio) / (text + audio)\nof masses, not corrected for length",
    "log_ratio": "log ratio: ln(text / audio)\nof mass per token",
}
"""What the axis says: the view's name and what it is."""


def modality_bias(
    traces: Traces,
    *,
    view: str = "bias",
    by: By = "none",
    heads: Heads = "before",
    condition: str | Sequence[str] | None = None,
    shots: int | Sequence[int] | None = None,
    null: xr.DataArray | None = None,
    size: Size = "page",
) -> Drawing:
    """Show, layer by layer, whether attention prefers the demonstrations' text (up) or their audio (down).

    Parameters
    ----------
    traces
        A trace, or several by label to lay over each other.
    view
        ``bias`` (as the paper) or ``log_ratio`` (corrected for length), or a registered view of the same dims.
    by
        One line for each of these; with ``none`` all items with both modalities are one line.
    heads
        Average heads ``before`` the view, which weighs them by their mass, or ``after`` it.
    condition, shots
        Draw these items alone.
    null
        Draws of a null [draw, layer], such as label nulls; its central 95 % are drawn as a grey band.
    size
        ``column``, ``page`` or ``slide``.

    >>> from attnlens.testing import trace
    >>> figure = modality_bias(trace(items=6, layers=4))
    >>> figure.data[["layer", "n"]].to_numpy().tolist()
    [[0, 6], [1, 6], [2, 6], [3, 6]]
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    if by not in ("none", "shots", "condition", "seed"):
        raise UnknownName.among("grouping", by, ["none", "shots", "condition", "seed"])
    lines: list[tuple[dict[str, Any], Any, Band]] = []
    told: list[str] = []
    without = unmatched = 0
    for label, given in by_label(traces).items():
        dataset = only(given, condition=condition, shots=shots)
        dataset = only(dataset, intervention="none") if "none" in dataset["intervention"].values else dataset
        values = per_layer(dataset, view, heads=heads)
        if set(values.dims) != {"item", "layer"}:
            raise BadInput(
                f"the view {view!r} is no preference: it has a value per source",
                given=f"dims {values.dims}",
                fix="take bias or log_ratio here, and layer_source for the other views",
            )
        values = values.transpose("item", "layer")
        defined = _defined(values)
        without += int((~defined).sum())
        values = values.isel(item=np.flatnonzero(defined))
        before = values.sizes["item"]
        if by in ("none", "seed"):
            values = _comparable(values)
        unmatched += before - values.sizes["item"]
        cells = several(sorted(set(values["shots"].values.tolist())), "shots")
        told += [f"{_said(dataset, label)}, {cells}"]
        if not values.sizes["item"]:
            raise BadInput(
                f"{view} values are undefined for every item: none has demonstrations with audio and text",
                present=several(sorted(set(dataset["condition"].values.tolist())), "condition"),
                fix="trace the condition micl with at least one shot",
            )
        for key, band_ in _bands(values, by, f"{view} values"):
            lines.append(({"trace": label, "view": view, **key}, values["layer"].values, band_))
    rows = [
        {**key, "layer": layer, "estimate": e, "low": low, "high": high, "n": found.units}
        for key, layers, found in lines
        for layer, e, low, high in zip(layers.tolist(), found.estimate, found.low, found.high, strict=True)
    ]
    with styled(size) as width:
        figure = Drawing(
            "modality_bias",
            data=pd.DataFrame(rows),
            caption=_caption(view, heads, told, [found for *_, found in lines], without, unmatched)
            + (" Dashed: controls." if any(key["control"] != "none" for key, *_ in lines) else "")
            + (" Grey band: the null." if null is not None else ""),
            figsize=sized(width, aspect=0.5 if size != "column" else 0.68 + 0.048 * len(lines)),
        )
        axes: Axes = figure.subplots()
        _sides(axes, view, size)
        if null is not None:
            _null(axes, null)
        for (_, layers, found), look in zip(lines, _looks([key for key, *_ in lines], by), strict=True):
            line(axes, layers, found.estimate, found.low, found.high, **look)
        layer_axis(axes, np.unique(np.concatenate([layers for _, layers, _ in lines])))
        _ends(axes, view)
        legend(axes, **({"loc": "upper center", "bbox_to_anchor": (0.5, -0.25)} if size == "column" else {}))
    return figure


def _comparable(values: xr.DataArray) -> xr.DataArray:
    """Keep the conditions and numbers of shots that every line has: a control of 4 shots says nothing about 1 shot."""
    cells = list(zip(values["condition"].values.tolist(), values["shots"].values.tolist(), strict=True))
    by_control: dict[str, set[Any]] = {}
    for control, cell in zip(values["control"].values.astype(str).tolist(), cells, strict=True):
        by_control.setdefault(control_name(control), set()).add(cell)
    common = set.intersection(*by_control.values()) if by_control else set()
    # Controls that share no cell cannot be compared anyway; all is drawn then, and the caption lists the shots.
    return values.isel(item=[place for place, cell in enumerate(cells) if cell in common]) if common else values


def _bands(values: xr.DataArray, by: By, what: str) -> list[tuple[dict[str, Any], Band]]:
    """Give each control, and each value of ``by`` within it, its own mean."""
    found: list[tuple[dict[str, Any], Band]] = []
    kind = np.array([control_name(one) for one in values["control"].values.astype(str)])
    for control in sorted(set(kind.tolist()), key=lambda one: (one != "none", one)):
        inside = kind == control
        groups: list[Any] = [None] if by == "none" else sorted(set(values[by].values[inside].tolist()))
        for group in groups:
            keep = inside if group is None else inside & (values[by].values == group)
            part = values.isel(item=np.flatnonzero(keep))
            made = band(part.values, part["utterance"].values.tolist(), what=what)
            found.append(({"control": control} | ({} if group is None else {by: group}), made))
    return found


def _defined(values: xr.DataArray) -> Any:
    return (~np.isnan(values.values)).any(1)


DASHES = ("--", ":", "-.")


def _looks(keys: list[dict[str, Any]], by: By) -> list[dict[str, Any]]:
    """Controls are dashed in their line's colour, or grey where there is one trace and one line."""
    groups = list(dict.fromkeys((key["trace"], key.get(by)) for key in keys))
    controls = [one for one in dict.fromkeys(key["control"] for key in keys) if one != "none"]
    ordered = by in ("shots", "seed") and len({key["trace"] for key in keys}) == 1
    colours = ramp(len(groups)) if ordered and len(groups) > 1 else [CYCLE[n % len(CYCLE)] for n in range(len(groups))]
    looks = []
    for key in keys:
        place = groups.index((key["trace"], key.get(by)))
        name = " ".join(
            str(part)
            for part in (key["trace"], f"{key[by]} {by}" if by in ("shots", "seed") and by in key else key.get(by))
            if part not in (None, "")
        )
        clean = key["control"] == "none"
        told = (
            (name or "as it is") if clean else " ".join(part for part in (name, f"control: {key['control']}") if part)
        )
        dashes = {"linestyle": DASHES[controls.index(key["control"]) % len(DASHES)]} if not clean else {}
        colour = colours[place]
        if not clean and len(groups) == 1:
            # Three are told apart by their dashes; more need colours.
            colour = (
                CONTROL if len(controls) <= len(DASHES) else CYCLE[(controls.index(key["control"]) + 1) % len(CYCLE)]
            )
        marker = MARKERS[place % len(MARKERS)] if clean else ""
        faint = {} if clean else {"shade": 0.1}
        looks.append({"label": told, "colour": colour, "marker": marker, **dashes, **faint})
    return looks


def _sides(axes: Axes, view: str, size: Size) -> None:
    axes.axhline(0.0, color=RULE, linewidth=1.0, zorder=0)
    names = SHORT if size == "column" else AXIS
    axes.set_ylabel(names.get(view, view.replace("_", " ")))


def _ends(axes: Axes, view: str) -> None:
    low, high = axes.get_ylim()
    reach = max(abs(low), abs(high), 0.05)
    # Both sides are there even when all lines are on one of them.
    low, high = min(low, -0.35 * reach), max(high, 0.35 * reach)
    edge = 1.02 if view == "bias" else np.inf
    axes.set_ylim(max(low * 1.08, -edge), min(high * 1.08, edge))
    for y, va, said, colour in ((0.98, "top", "text preferred", TEXT), (0.02, "bottom", "audio preferred", AUDIO)):
        axes.text(0.985, y, said, transform=axes.transAxes, ha="right", va=va, color=colour, alpha=0.9)


def _null(axes: Axes, null: xr.DataArray) -> None:
    if set(null.dims) != {"draw", "layer"}:
        raise BadInput("a null has draws of every layer", given=f"dims {null.dims}", fix="pass dims draw and layer")
    low, high = np.quantile(null.transpose("draw", "layer").values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    axes.fill_between(null["layer"].values, low, high, color=RULE, alpha=0.6, linewidth=0, label="null, central 95 %")


def _said(dataset: xr.Dataset, label: str) -> str:
    model = f"model {dataset.attrs.get('model', 'unknown')}"
    return f"{label}: {model}" if label else model


def _caption(view: str, heads: Heads, told: list[str], bands: list[Band], *left: int) -> str:
    without, unmatched = left
    notes = [note for found in bands for note in found.notes]
    units = sorted({found.units for found in bands})
    ends = f"; bands are {100 * LEVEL:g} % bootstrap intervals over utterances"
    return caption(
        f"preference of each layer for the demonstrations' text or audio, view `{view}`, heads averaged {heads} it",
        "; ".join(told),
        f"{' or '.join(map(str, units))} utterances a line{ends if any(one.has_interval for one in bands) else ''}",
        f"{without} items without demonstrations of both modalities are not in it" if without else None,
        f"{unmatched} items of shots that not every line has are not in it either" if unmatched else None,
        *dict.fromkeys(notes),
    )
