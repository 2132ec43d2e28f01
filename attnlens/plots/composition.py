"""Where attention goes at all: the sources of a prompt as stacked shares, and its demonstrations by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.bands import LEVEL, band
from attnlens.plots.inputs import by_label, only
from attnlens.plots.lines import caption, layer_axis, legend, line, several
from attnlens.plots.style import AUDIO, SOURCE_COLOURS, TEXT, Size, styled

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.plots.drawing import Drawing

__all__ = ["demo_position", "source_composition"]


def source_composition(
    dataset: xr.Dataset,
    *,
    sink: Literal["shown", "left-out"] = "shown",
    condition: str | Sequence[str] | None = None,
    shots: int | Sequence[int] | None = None,
    control: str | None = "none",
    size: Size = "page",
) -> Drawing:
    """Show how each layer's attention is shared between the sources of the prompt; the areas add up to 1.

    ``sink="left-out"`` leaves out the first token, which takes most of the mass of most layers, and shares the rest.

    >>> from attnlens.testing import trace
    >>> data = source_composition(trace(layers=3)).data
    >>> bool(np.allclose(data.groupby("layer")["share"].sum(), 1))
    True
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    if sink not in ("shown", "left-out"):
        raise UnknownName.among("way with the sink", sink, ["shown", "left-out"])
    dataset = next(iter(by_label(dataset).values()))
    control = control if control in dataset["control"].values else None
    dataset = only(dataset, condition=condition, shots=shots, control=control)
    rows = dataset["query_tokens"].sel(query="output") > 0
    mean = dataset["mass"].sel(query="output").mean("head").where(rows).mean("item").compute()
    mean = mean.transpose("source", "layer")
    mean = mean.isel(source=np.flatnonzero((mean.fillna(0) > 0).any("layer").values))
    if sink == "left-out":
        mean = mean.drop_sel(source="sink", errors="ignore")
        mean = mean / mean.sum("source")
    if not np.isfinite(mean.values).all():
        raise BadInput(
            "masses are undefined in some layers",
            given=several(mean["layer"].values[np.isnan(mean.values).any(0)].tolist(), "layer"),
            fix="leave out items without output, or these layers",
        )
    layers, names = mean["layer"].values, [str(one) for one in mean["source"].values]
    rows_ = [
        {"layer": layer, "source": name, "share": float(mean.values[place, at])}
        for at, layer in enumerate(layers.tolist())
        for place, name in enumerate(names)
    ]
    with styled(size) as width:
        text = caption(
            "share of each layer's attention on the sources of the prompt, heads and items averaged"
            + (", the first token (sink) left out" if sink == "left-out" else ""),
            f"model {dataset.attrs.get('model', 'unknown')}, {dataset.sizes['item']} items",
            several(sorted(set(dataset["condition"].values.tolist())), "condition"),
            several(sorted(set(dataset["shots"].values.tolist())), "shots"),
            "not corrected for length",
        )
        figure = Drawing("source_composition", data=pd.DataFrame(rows_), caption=text, figsize=sized(width, aspect=0.5))
        axes = figure.subplots()
        # A layer is a step, not a point on a line: nothing lies between two layers.
        edges = np.append(layers - 0.5, layers[-1] + 0.5)
        base = np.zeros(len(layers))
        for name, values in zip(names, mean.values, strict=True):
            top = base + values
            axes.stairs(
                top,
                edges,
                baseline=base,
                fill=True,
                color=SOURCE_COLOURS[name],
                label=name.replace("_", " "),
                linewidth=0,
            )
            base = top
        layer_axis(axes, layers)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of attention" + (" without the sink" if sink == "left-out" else ""))
        handles, labels = axes.get_legend_handles_labels()
        legend_ = axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1.0))
        legend_.set_in_layout(True)
    return figure


def demo_position(
    dataset: xr.Dataset,
    *,
    shots: int | None = None,
    control: str | None = "none",
    thirds: Literal["layers", "none"] = "layers",
    size: Size = "page",
) -> Drawing:
    """Show how attention on demonstrations depends on their place in the prompt, for their audio and their text.

    Shares are within the modality: 1/k each is no preference for a place. ``thirds="layers"`` draws the first, middle
    and last third of the layers apart. ``shots`` is the largest number that was run, unless given.

    >>> from attnlens.testing import trace
    >>> data = demo_position(trace(items=5, layers=3, demos=3), thirds="none").data
    >>> data["place"].tolist()
    [1, 2, 3, 1, 2, 3]
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    if thirds not in ("layers", "none"):
        raise UnknownName.among("way to divide layers", thirds, ["layers", "none"])
    dataset = next(iter(by_label(dataset).values()))
    with_demos = dataset["demo_tokens"].sel(modality=["audio", "text"]).sum(("demo", "modality")).values > 0
    if not with_demos.any():
        raise BadInput("no item has demonstrations", fix="take items with at least one shot")
    dataset = dataset.isel(item=np.flatnonzero(with_demos))
    dataset = only(dataset, control=control if control in dataset["control"].values else None)
    shots = int(dataset["shots"].max()) if shots is None else shots
    dataset = only(dataset, shots=shots).isel(demo=slice(shots))
    groups = _thirds(dataset["layer"].values) if thirds == "layers" else {"all layers": dataset["layer"].values}
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for told, layers in groups.items():
        for modality in ("audio", "text"):
            mass = (
                dataset["demo_mass"]
                .sel(query="output", modality=modality, layer=layers)
                .mean(("layer", "head"))
                .compute()
            )
            total = mass.sum("demo")
            share = (mass / total.where(total > 0)).transpose("item", "demo").values
            there = np.isfinite(share).any(1)
            if not there.any():
                continue
            names = dataset["utterance"].values[there].tolist()
            found = band(share[there], names, what=f"shares of {modality}")
            notes += found.notes
            for place in range(shots):
                ends = {"estimate": found.estimate[place], "low": found.low[place], "high": found.high[place]}
                rows.append({"layers": told, "modality": modality, "place": place + 1, **ends, "n": found.units})
    frame = pd.DataFrame(rows)
    with styled(size) as width:
        text = caption(
            f"share of the attention on demonstrations' audio (text) that falls on each of {shots}, in prompt order",
            f"model {dataset.attrs.get('model', 'unknown')}, {int(frame['n'].max())} utterances",
            f"bands are {100 * LEVEL:g} % bootstrap intervals over utterances" if frame["low"].notna().any() else None,
            "grey: no preference for a place",
            *dict.fromkeys(notes),
        )
        figure = Drawing("demo_position", data=frame, caption=text, figsize=sized(width, aspect=0.38))
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, told in zip(panels, groups, strict=True):
            axes.axhline(1 / shots, color="#cdd1d8", linewidth=1.0, zorder=0)
            for modality, colour, marker in (("audio", AUDIO, "o"), ("text", TEXT, "s")):
                part = frame[(frame["layers"] == told) & (frame["modality"] == modality)]
                if len(part):
                    look: dict[str, Any] = {"label": modality, "colour": colour, "marker": marker}
                    line(axes, part["place"], part["estimate"], part["low"], part["high"], **look)
            axes.set_title(told)
            axes.set_xticks(range(1, shots + 1, max(1, shots // 8)))
            axes.set_ylim(bottom=0)
        panels[len(panels) // 2].set_xlabel("place of the demonstration (1 stands first)")
        panels[0].set_ylabel("share within the modality")
        legend(panels[-1])
    return figure


def _thirds(layers: Any) -> dict[str, Any]:
    if len(layers) < 3:  # noqa: PLR2004 - thirds
        return {"all layers": layers}
    return {f"layers {part[0]}-{part[-1]}": part for part in np.array_split(layers, 3)}
