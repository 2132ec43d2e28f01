"""Heat maps over layers: heads, sources, or the demonstrations of a prompt, as in the paper's Figures 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.inputs import by_label, only, per_layer, values_of
from attnlens.plots.lines import caption, several
from attnlens.plots.style import AUDIO, RULE, SOURCE_NAMES, TEXT, Size, heat, signed, styled
from attnlens.traces.controls import control_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from attnlens.plots.drawing import Drawing

__all__ = ["layer_demo", "layer_head", "layer_source"]

SIGNED = ("bias", "log_ratio")
MOST_TICKS = 16
X_NAMES = {"head": "head", "source": "", "slot": "audio (A) and text (T) of the demonstrations, in prompt order"}
MODALITY_NAMES = {"audio": "A", "text": "T"}
Panels = Literal["shots", "control", "condition", "none"]


def layer_head(
    traces: xr.Dataset | xr.DataArray,
    *,
    what: str = "mass",
    source: str | None = None,
    control: str | None = "none",
    title: str | None = None,
    size: Size = "page",
) -> Drawing:
    """Show one number per layer and head, averaged over items: a mass, a view, a contribution or an effect.

    Parameters
    ----------
    traces
        A trace; or an array with dims layer and head (and item), such as the effect of cutting each head.
    what
        A view or measure of the trace; what it is called, for an array.
    source
        Which source, for what has one value per source; ``demo_text`` by default.
    control
        Items of this control; None takes all.

    >>> from attnlens.testing import trace
    >>> figure = layer_head(trace(layers=3, heads=4), what="mass", source="demo_audio")
    >>> len(figure.data), figure.data.columns.tolist()
    (12, ['layer', 'head', 'mass'])
    """
    import xarray as xr

    if isinstance(traces, xr.DataArray):
        values, items = traces, traces.sizes.get("item")
    else:
        dataset = next(iter(by_label(traces).values()))
        dataset = only(dataset, control=control if control in dataset["control"].values else None)
        values, items = values_of(dataset, what), dataset.sizes["item"]
        if "source" in values.dims:
            source = source or "demo_text"
            if source not in values["source"].values:
                raise UnknownName.among("source", source, [str(one) for one in values["source"].values])
            values = values.sel(source=source, drop=True)
    extra = set(values.dims) - {"item", "layer", "head"}
    if extra or not {"layer", "head"} <= set(values.dims):
        raise BadInput(
            "a map has a value per layer and head", given=f"dims {values.dims}", fix="select or average the rest"
        )
    mean = _mean(values, what).transpose("layer", "head")
    told = f"{what}{f' on {SOURCE_NAMES.get(source, source)}' if source else ''}"
    frame = _frame(mean, ("layer", "head"), what)
    signs = what in SIGNED or bool((mean.values[np.isfinite(mean.values)] < 0).any())
    kind: Literal["modality", "effect"] = "modality" if what in SIGNED else "effect"
    return _panels(
        "layer_head",
        [(title or "", mean)],
        data=frame,
        text=caption(f"{told}, by layer and head", f"mean of {items} items" if items else None, _undefined(mean)),
        label=told,
        colours=signed(kind) if signs else heat(),
        signs=signs,
        size=size,
        x="head",
    )


def layer_source(
    dataset: xr.Dataset,
    *,
    view: str = "raw",
    condition: str | Sequence[str] | None = None,
    shots: int | Sequence[int] | None = None,
    panels: Panels = "condition",
    size: Size = "page",
) -> Drawing:
    """Show how much each layer draws from each source of the prompt, one panel per condition, control or shots.

    >>> from attnlens.testing import trace
    >>> sorted(layer_source(trace(layers=2)).data["source"].unique())[:3]
    ['demo_audio', 'demo_label', 'demo_text']
    """
    import pandas as pd

    dataset = only(next(iter(by_label(dataset).values())), condition=condition, shots=shots)
    shown, frames = [], []
    for told, part in _split(dataset, panels):
        values = per_layer(part, view)
        if "source" not in values.dims:
            raise BadInput(f"the view {view!r} has no sources", fix="take raw, sinkless or density")
        mean = _mean(values, view).transpose("layer", "source")
        present = (part["tokens"].sel(source=mean["source"]) > 0).any("item").values
        mean = mean.isel(source=np.flatnonzero(present))
        frames.append(_frame(mean, ("layer", "source"), view).assign(**({panels: told} if panels != "none" else {})))
        shown.append((told, mean))
    return _panels(
        "layer_source",
        shown,
        data=pd.concat(frames, ignore_index=True),
        text=caption(
            f"attention of each layer on each source, view `{view}`, heads and items averaged", _about(dataset)
        ),
        label=f"{view}",
        colours=heat(),
        signs=False,
        size=size,
        x="source",
    )


def layer_demo(
    dataset: xr.Dataset,
    *,
    shots: int | Sequence[int] | None = None,
    panels: Panels = "shots",
    condition: str | Sequence[str] | None = None,
    per: Literal["span", "token"] = "span",
    size: Size = "page",
) -> Drawing:
    """Show how much each layer draws from the audio (A) and text (T) of each demonstration, first to last.

    The paper's Figure 1 with ``panels="shots"``, its Figure 2 with ``panels="control"``. ``per="token"`` divides by the
    length of the span, which the paper does not.

    >>> from attnlens.testing import trace
    >>> layer_demo(trace(demos=2), shots=2).data["slot"].unique().tolist()
    ['A1', 'T1', 'A2', 'T2', 'A*']
    """
    import pandas as pd

    if per not in ("span", "token"):
        raise UnknownName.among("unit", per, ["span", "token"])
    dataset = only(next(iter(by_label(dataset).values())), shots=shots, condition=condition)
    shown, frames = [], []
    for told, part in _split(dataset, panels):
        slots = _slots(part, per)
        if slots is None:
            continue
        frames.append(_frame(slots, ("layer", "slot"), "mass").assign(**({panels: told} if panels != "none" else {})))
        shown.append((told, slots))
    if not shown:
        raise BadInput(
            "no item has demonstrations",
            present=several(sorted(set(dataset["condition"].values.tolist())), "condition"),
            fix="take items with at least one shot",
        )
    unit = "mass per token" if per == "token" else "mass per span\n(not corrected for length)"
    return _panels(
        "layer_demo",
        shown,
        data=pd.concat(frames, ignore_index=True),
        text=caption(
            "attention of each layer on audio (A) and text (T) of each demonstration, and on the target's audio (A*)",
            unit.replace("\n", " "),
            _about(dataset),
        ),
        label=unit,
        colours=heat(),
        signs=False,
        size=size,
        x="slot",
    )


def _slots(dataset: xr.Dataset, per: Literal["span", "token"]) -> xr.DataArray | None:
    import xarray as xr

    mass = dataset["demo_mass"].sel(query="output", modality=["audio", "text"]).mean("head").compute()
    tokens = dataset["demo_tokens"].sel(modality=["audio", "text"])
    mass = mass / tokens.where(tokens > 0) if per == "token" else mass.where(tokens > 0)
    demos = int((tokens.sum("modality") > 0).any("item").sum())
    if demos == 0:
        return None
    mean = mass.isel(demo=slice(demos)).mean("item").transpose("layer", "demo", "modality")
    names = [f"{MODALITY_NAMES[one]}{demo + 1}" for demo in range(demos) for one in ("audio", "text")]
    flat = mean.values.reshape(len(mean["layer"]), -1)
    target = dataset["mass"].sel(query="output", source="target_audio").mean("head").compute()
    length = dataset["tokens"].sel(source="target_audio")
    if bool((length > 0).any()):
        target = target / length.where(length > 0) if per == "token" else target.where(length > 0)
        flat = np.concatenate([flat, target.mean("item").values[:, None]], axis=1)
        names.append("A*")
    there = ~np.isnan(flat).all(0)
    coords = {"layer": mean["layer"].values, "slot": [name for name, keep in zip(names, there, strict=True) if keep]}
    return xr.DataArray(flat[:, there], dims=("layer", "slot"), coords=coords)


def _split(dataset: xr.Dataset, panels: Panels) -> list[tuple[str, xr.Dataset]]:
    if panels not in ("shots", "control", "condition", "none"):
        raise UnknownName.among("panels", panels, ["shots", "control", "condition", "none"])
    if panels != "control" and "none" in dataset["control"].values:
        dataset = only(dataset, control="none")
    if panels == "none":
        return [("", dataset)]
    if panels == "control":
        # Seeds of a control are one control; its settings are others.
        names = [control_name(str(one)) for one in dataset["control"].values.tolist()]
        dataset = dataset.assign_coords(control=("item", names))
    values = dataset[panels].values.tolist()
    order = sorted(set(values), key=lambda one: (one != "none", one) if isinstance(one, str) else (False, one))
    named = {
        one: f"{one} shots" if panels == "shots" else "as it is" if one == "none" else str(one).replace(":", "\n")
        for one in order
    }
    return [(named[one], only(dataset, **{panels: one})) for one in order]


def _mean(values: xr.DataArray, what: str) -> xr.DataArray:
    found = (values.mean("item") if "item" in values.dims else values).compute()
    if not np.isfinite(found.values).any():
        raise BadInput(
            f"{what} is undefined everywhere",
            given=f"dims {dict(values.sizes)}",
            fix="take items that have the sources it compares",
        )
    # One infinity would take the whole colour scale; it stays see-through and is counted in the caption.
    return found.where(np.isfinite(found))


def _undefined(mean: xr.DataArray) -> str | None:
    count = int(np.isnan(mean.values).sum())
    return f"{count} cells are undefined and hatched" if count else None


def _about(dataset: xr.Dataset) -> str:
    return f"model {dataset.attrs.get('model', 'unknown')}, {dataset.sizes['item']} items"


def _frame(values: xr.DataArray, dims: tuple[str, ...], name: str) -> pd.DataFrame:
    return values.reset_coords(drop=True).to_dataframe(name).reset_index()[[*dims, name]]


def _panels(
    name: str,
    shown: list[tuple[str, xr.DataArray]],
    *,
    data: pd.DataFrame,
    text: str,
    label: str,
    colours: Colormap,
    signs: bool,
    size: Size,
    x: str,
) -> Drawing:
    from attnlens.plots.drawing import Drawing

    finite = np.concatenate([mean.values[np.isfinite(mean.values)] for _, mean in shown])
    top = float(np.abs(finite).max()) or 1.0
    low, high = (-top, top) if signs else (min(0.0, float(finite.min())), float(finite.max()) or 1.0)
    if "sink" in shown[0][1].coords.get(x, ()):
        # The sink takes most of nearly every layer; scaled to it, all that is asked about would be one colour.
        rest = [float(mean.drop_sel(source="sink").max()) for _, mean in shown if mean.sizes["source"] > 1]
        high = min(high, max(rest, default=high)) or high
    above = "max" if not signs and float(finite.max()) > high else "neither"
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    layers = max(mean.sizes["layer"] for _, mean in shown)
    with styled(size) as width:
        height = width * min(max(0.30, 0.016 * layers), 0.75) * (1.0 if across > 1 else 1.15) + 0.5
        figure = Drawing(name, data=data, caption=text, figsize=(width, height * down))
        widths = [mean.shape[1] + 2 for _, mean in shown] if down == 1 else None
        grid = figure.subplots(down, across, squeeze=False, width_ratios=widths)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for place, (axes, (told, mean)) in enumerate(zip(grid.flat, shown, strict=False)):
            mesh = _map(axes, mean, colours=colours, low=low, high=high, x=x)
            axes.set_title(told)
            if place % across:
                axes.set_ylabel("")
            if across > 1:
                axes.set_xlabel("")
        if across > 1:
            figure.supxlabel(X_NAMES[x], fontsize=grid[0, 0].xaxis.label.get_size())
        figure.colorbar(
            mesh, ax=list(grid.flat[: len(shown)]), label=label, shrink=0.9, pad=0.015, extend=above
        ).outline.set_visible(False)
    return figure


def _map(axes: Axes, mean: xr.DataArray, *, colours: Colormap, low: float, high: float, x: str) -> Any:
    values = np.ma.masked_invalid(mean.values)
    # Hatching behind the map shows where it has nothing to say.
    axes.set_facecolor("none")
    axes.patch.set(hatch="////", edgecolor=RULE, linewidth=0.0)
    axes.patch.set_visible(bool(np.ma.is_masked(values)))
    mesh = axes.imshow(
        values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest", origin="upper"
    )
    layers = mean["layer"].values
    step = max(1, -(-len(layers) // MOST_TICKS))
    axes.set_yticks(range(0, len(layers), step), [str(one) for one in layers[::step]])
    axes.set_ylabel("layer")
    names = mean[mean.dims[1]].values
    every = 1 if x == "source" else max(1, -(-len(names) // MOST_TICKS))
    # Audio and text take turns: an even step would name only one of them.
    every += x == "slot" and every % 2 == 0
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if x == "source" else {}
    shown = [str(one).replace("_", " ") for one in names[::every]]
    axes.set_xticks(range(0, len(names), every), shown, **slanted)
    axes.set_xlabel(X_NAMES[x])
    for tick, said in zip(axes.get_xticklabels(), shown, strict=True):
        if x != "head" and ("audio" in said or said.startswith("A")):
            tick.set_color(AUDIO)
        elif x != "head" and (said == "demo text" or said.startswith("T")):
            tick.set_color(TEXT)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh
