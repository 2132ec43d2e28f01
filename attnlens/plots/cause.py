"""What a cut changes: knockout grids, mass against effect, and controls against the clean run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.bands import LEVEL
from attnlens.plots.curves import Table
from attnlens.plots.inputs import Heads, by_label, columns, per_layer, table
from attnlens.plots.lines import caption, legend
from attnlens.plots.style import CONDITION_COLOURS, CYCLE, MARKERS, RULE, Size, heat, signed, styled
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.rank import rank_correlation
from attnlens.traces.controls import control_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from attnlens.plots.drawing import Drawing

__all__ = ["control_comparison", "knockout_grid", "mass_against_effect"]

FEWEST = 4


def knockout_grid(given: Table, *, unit: str = "nats per token", size: Size = "page") -> Drawing:
    """Show what cutting each edge (from whom to whom) in each window of layers costs the output.

    Columns: ``edge`` (such as ``output -> demo_audio``), ``window`` (such as ``0-3``), ``estimate``, and if known
    ``low``, ``high``: cells whose interval contains 0 are printed in grey.

    >>> grid = {"edge": ["output -> demo_text"] * 2, "window": ["0-3", "4-7"], "estimate": [0.1, 1.2]}
    >>> [text.get_text() for text in knockout_grid(grid).axes[0].texts]
    ['0.10', '1.20']
    """
    from attnlens.plots.drawing import Drawing

    frame = table(given, needs=["edge", "window", "estimate"], what="a knockout grid")
    columns(frame, ["estimate", "low", "high"], what="a knockout grid")
    twice = frame.duplicated(["edge", "window"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise BadInput(
            "a cell of the knockout grid is given twice",
            given=f"{first['edge']} in {first['window']}",
            fix="average over what differs, or draw one grid for each",
        )
    edges = list(dict.fromkeys(frame["edge"].astype(str)))
    windows = list(dict.fromkeys(frame["window"].astype(str)))
    cells = np.full((len(edges), len(windows)), np.nan)
    sure = np.ones_like(cells, dtype=bool)
    for row in frame.to_dict("records"):
        place = edges.index(str(row["edge"])), windows.index(str(row["window"]))
        cells[place] = row["estimate"]
        low, high = row.get("low", math.nan), row.get("high", math.nan)
        sure[place] = not low <= 0 <= high
    top = float(np.nanmax(np.abs(cells))) or 1.0
    with styled(size) as width:
        said = caption(
            f"change of the output's negative log-likelihood ({unit}) when an edge is cut in a window of layers",
            "positive: the cut hurts",
            "grey numbers: the interval contains 0" if not sure.all() else None,
            "hatched: not measured" if np.isnan(cells).any() else None,
        )
        height = 0.9 + 0.36 * len(edges) * width / 6.9
        figure = Drawing("knockout_grid", data=frame, caption=said, figsize=(width, height))
        axes = figure.subplots()
        axes.patch.set(hatch="////", edgecolor=RULE, linewidth=0.0)
        mesh = axes.imshow(
            np.ma.masked_invalid(cells), cmap=signed("effect").reversed(), vmin=-top, vmax=top, aspect="auto"
        )
        for (down, across), value in np.ndenumerate(cells):
            if np.isfinite(value):
                strong = abs(value) > 0.7 * top
                colour = "white" if strong else ("#23262b" if sure[down, across] else "#5c6370")
                axes.text(across, down, f"{value:.2f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(windows)), windows)
        axes.set_yticks(range(len(edges)), [one.replace("_", " ").replace("->", "→") for one in edges])
        axes.set_xlabel("layers cut")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.colorbar(mesh, ax=axes, label=f"change of NLL\n({unit})", pad=0.02).outline.set_visible(False)
    return figure


def mass_against_effect(
    mass: xr.DataArray,
    effect: xr.DataArray,
    *,
    measure: str = "mass",
    name: int = 5,
    size: Size = "column",
) -> Drawing:
    """Show whether the heads that look are those that matter: one point per head, with their rank correlation.

    Parameters
    ----------
    mass, effect
        Dims layer and head, both with or both without item; with items the interval is over utterances.
    measure
        What the first one is called.
    name
        So many heads of the largest effect are named.

    >>> import xarray as xr
    >>> mass = xr.DataArray(np.arange(8.0).reshape(2, 4), dims=("layer", "head"))
    >>> "rho = 1.00" in mass_against_effect(mass, mass**2).axes[0].get_title("left")
    True
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    dims = ("item", "layer", "head") if "item" in mass.dims and "item" in effect.dims else ("layer", "head")
    for told, given in (("mass", mass), ("effect", effect)):
        if set(given.dims) != set(dims):
            fix = "pass both with the dims layer and head, or both with item as well"
            raise BadInput(f"{told} is no map over layers and heads", given=f"dims {given.dims}", fix=fix)
    first, second = mass.transpose(*dims), effect.transpose(*dims)
    if first.shape != second.shape:
        raise BadInput("mass and effect are of different heads or items", given=f"{first.shape} and {second.shape}")
    drawn: Literal["items", "cells"] = "items" if "item" in dims and first.shape[0] >= FEWEST else "cells"
    if "item" in dims and drawn == "cells":
        first, second = first.mean("item"), second.mean("item")
    found = rank_correlation(first.values, second.values, drawn=drawn, resamples=2_000, draws=1_999)
    flat = [one.mean("item") if "item" in one.dims else one for one in (first, second)]
    layers = flat[0]["layer"].values if "layer" in flat[0].coords else np.arange(flat[0].sizes["layer"])
    heads = flat[0]["head"].values if "head" in flat[0].coords else np.arange(flat[0].sizes["head"])
    where = [(layer, head) for layer in layers.tolist() for head in heads.tolist()]
    x, y = (one.values.ravel().astype(np.float64) for one in flat)
    frame = pd.DataFrame({"layer": [a for a, _ in where], "head": [b for _, b in where], measure: x, "effect": y})
    rho = f"rho = {found.rho:.2f} [{found.interval.low:.2f}, {found.interval.high:.2f}], p = {found.test.p:.3g}"
    with styled(size) as width:
        over = f"utterances, {first.sizes['item']} of them" if drawn == "items" else "heads"
        said = caption(
            f"each point is a head: its {measure} against the effect of cutting it",
            f"Spearman {rho}; interval over {over}",
            "a mass plot says where heads look; how well that predicts use is this correlation",
        )
        figure = Drawing("mass_against_effect", data=frame, caption=said, figsize=sized(width, aspect=0.8))
        axes = figure.subplots()
        axes.axhline(0, color=RULE, linewidth=1.0, zorder=0)
        points = axes.scatter(x, y, c=[a for a, _ in where], cmap=heat(), s=12, linewidths=0.3, edgecolors="white")
        for place in np.argsort(-np.abs(y))[: max(name, 0)]:
            layer, head = where[int(place)]
            axes.annotate(
                f"{layer}.{head}", (x[place], y[place]), xytext=(3, 3), textcoords="offset points", fontsize=6
            )
        axes.set_xlabel(measure)
        axes.set_ylabel("effect of cutting the head\n(change of NLL)")
        axes.set_title(rho, loc="left")
        figure.colorbar(points, ax=axes, label="layer", pad=0.02).outline.set_visible(False)
    return figure


def control_comparison(
    dataset: xr.Dataset,
    *,
    metric: Literal["nll", "bias", "log_ratio"] = "nll",
    heads: Heads = "before",
    size: Size = "page",
) -> Drawing:
    """Show what each control changes, as paired differences to the clean run of the same utterances.

    ``nll`` is in nats per output token (positive: the output became less likely); a view is averaged over layers. A
    control that should destroy an effect and changes nothing refutes it.

    >>> import xarray as xr
    >>> from attnlens.testing import trace
    >>> clean, other = trace(items=5, seed=1), trace(items=5, seed=2)
    >>> other = other.assign_coords(control=("item", ["mismatched-pairs@0"] * 5))
    >>> control_comparison(xr.concat([clean, other], "item")).data[["control", "n"]].values.tolist()
    [['mismatched-pairs', 5]]
    """
    from attnlens.plots.drawing import Drawing

    if metric not in ("nll", "bias", "log_ratio"):
        raise UnknownName.among("metric", metric, ["nll", "bias", "log_ratio"])
    frame = _differences(next(iter(by_label(dataset).values())), metric, heads)
    unit = "nats per token" if metric == "nll" else f"{metric}, mean over layers"
    with styled(size) as width:
        said = caption(
            f"difference of each control to the clean run of the same utterances ({unit})",
            f"bars are {100 * LEVEL:g} % BCa bootstrap intervals over utterances"
            if frame["low"].notna().any()
            else None,
            f"{frame['n'].min()} to {frame['n'].max()} utterances"
            if frame["n"].nunique() > 1
            else f"{frame['n'].iloc[0]} utterances",
            f"no interval where fewer than {FEWEST} utterances are" if frame["low"].isna().any() else None,
        )
        names = list(dict.fromkeys(frame["control"]))
        height = width * 0.16 + 0.3 * width / 6.9 * len(frame)
        figure = Drawing(f"control_comparison_{metric}", data=frame, caption=said, figsize=(width, height))
        axes = figure.subplots()
        axes.axvline(0, color=RULE, linewidth=1.0, zorder=0)
        groups = sorted({(row["condition"], row["shots"]) for row in frame.to_dict("records")})
        spread = 0.7 / max(len(groups), 1)
        told: set[str] = set()
        for row in frame.sort_values(["condition", "shots"]).to_dict("records"):
            place = groups.index((row["condition"], row["shots"]))
            y = names.index(row["control"]) + (place - (len(groups) - 1) / 2) * spread
            colour = CONDITION_COLOURS.get(row["condition"], CYCLE[0])
            label = f"{row['condition']}, {row['shots']} shots"
            axes.hlines(y, row["low"], row["high"], color=colour, linewidth=1.6)
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(row["estimate"], y, marker, color=colour, label=None if label in told else label, markersize=5)
            told.add(label)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel(f"control minus clean ({unit})")
        legend(axes)
    return figure


def _differences(dataset: xr.Dataset, metric: str, heads: Heads) -> pd.DataFrame:
    import pandas as pd

    if metric == "nll":
        values = dataset["nll"].values.astype(np.float64)
        per = dataset["n_output_tokens"].values.astype(np.float64)
    else:
        values = per_layer(dataset, metric, heads=heads).mean("layer").values.astype(np.float64)
        per = np.ones_like(values)
    items = pd.DataFrame(
        {name: dataset[name].values.tolist() for name in ("utterance", "condition", "shots", "seed", "intervention")}
        | {
            "control": [control_name(str(one)) for one in dataset["control"].values.tolist()],
            "value": values,
            "per": per,
        }
    )
    pairing = ["utterance", "condition", "shots", "seed", "intervention"]
    clean = items[items["control"] == "none"].set_index(pairing)
    if not len(clean) or (items["control"] == "none").all():
        raise BadInput(
            "there is nothing to compare: controls and clean items are both due",
            present=", ".join(sorted(set(items["control"]))),
            fix="run with context.controls, which always includes the clean run",
        )
    rows: list[dict[str, Any]] = []
    changed = items[(items["control"] != "none") & np.isfinite(items["value"])]
    for (control, condition, shots), part in changed.groupby(["control", "condition", "shots"], sort=True):
        paired = part.join(clean[["value"]].rename(columns={"value": "value_clean"}), on=pairing, how="inner").dropna()
        if not len(paired):
            continue
        difference, length = (paired["value"] - paired["value_clean"]).to_numpy(), paired["per"].to_numpy()
        names = paired["utterance"].tolist()
        ends: dict[str, float] = {"estimate": difference.sum() / length.sum(), "low": math.nan, "high": math.nan}
        if len(set(names)) >= FEWEST:
            clusters = None if len(set(names)) == len(names) else names
            found = bootstrap(difference, per=length, clusters=clusters)
            ends = {"estimate": float(found.estimate), "low": float(found.low), "high": float(found.high)}
        rows.append({"control": control, "condition": condition, "shots": shots, **ends, "n": len(set(names))})
    if not rows:
        raise BadInput(
            "no item of a control has a clean partner with a value",
            fix="compare items of the same utterance, condition, shots and seed",
        )
    return pd.DataFrame(rows)
