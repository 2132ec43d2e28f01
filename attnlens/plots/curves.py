"""Curves over a number that was varied: shots, size of the N-best list, heads taken away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.bands import LEVEL, band
from attnlens.plots.inputs import by_label, columns, only, table
from attnlens.plots.lines import caption, legend, line
from attnlens.plots.style import CONDITION_COLOURS, CONTROL, CYCLE, INK, MARKERS, Size, styled
from attnlens.traces.controls import control_name

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from attnlens.plots.drawing import Drawing

__all__ = ["METRICS", "cumulative_ablation", "oracle_curve", "shots_curve"]

Table: TypeAlias = "pd.DataFrame | Mapping[str, Sequence[Any]]"
METRICS = {
    "perplexity": "perplexity per token",
    "bits-per-character": "bits per character",
    "wer": "word error rate",
    "cer": "character error rate",
}
FROM_TRACE = ("perplexity", "bits-per-character")
NBEST = {"oracle": INK, "anti-oracle": "#b3404a", "random": CONTROL}


def shots_curve(
    given: xr.Dataset | Table,
    *,
    metric: Literal["perplexity", "bits-per-character", "wer", "cer"] = "bits-per-character",
    size: Size = "page",
) -> Drawing:
    """Show how a figure of merit changes with the number of demonstrations, one line per condition; controls dashed.

    Perplexity (of the sums, not the mean of the utterances' own) and bits per character come from a trace. Error rates
    come from a table with the columns ``condition``, ``shots``, ``metric``, ``estimate``, and if known ``control``,
    ``low``, ``high``.

    >>> from attnlens.testing import trace
    >>> made = trace(items=4)
    >>> figure = shots_curve(made)
    >>> bool(np.isclose(figure.data["estimate"][0], float(made.nll.sum() / made.n_chars.sum()) / math.log(2)))
    True
    """
    import xarray as xr

    from attnlens.plots.drawing import Drawing, sized

    if metric not in METRICS:
        raise UnknownName.among("metric", metric, METRICS)
    about = None
    if isinstance(given, xr.Dataset):
        if metric not in FROM_TRACE:
            raise BadInput(f"a trace does not hold {METRICS[metric]}s", fix="pass the table of error rates")
        frame = _from_trace(next(iter(by_label(given).values())), metric)
        about = f"model {given.attrs.get('model', 'unknown')}"
    else:
        frame = table(given, needs=["condition", "shots", "metric", "estimate"], what="a curve over shots")
        frame = frame[frame["metric"] == metric]
        if not len(frame):
            present = ", ".join(sorted(set(table(given, needs=[], what="")["metric"].astype(str))))
            raise BadInput(
                f"the table has no rows of the metric {metric!r}", present=present, fix="pass another metric"
            )
        columns(frame, ["shots", "estimate", "low", "high"], what="a curve over shots")
    frame = _filled(frame, {"control": "none"})
    with styled(size) as width:
        said = caption(
            f"{METRICS[metric]} by number of demonstrations; lower is better",
            about,
            _intervals(frame),
            "dashed: controls" if (frame["control"] != "none").any() else None,
        )
        figure = Drawing(
            "shots_" + metric.replace("-", "_"), data=frame, caption=said, figsize=sized(width, aspect=0.5)
        )
        axes = figure.subplots()
        places = {shots: place for place, shots in enumerate(sorted(set(frame["shots"].tolist())))}
        known = list(CONDITION_COLOURS)
        groups = {(str(one), str(other)): part for (one, other), part in frame.groupby(["condition", "control"])}
        controls = sorted({control for _, control in groups} - {"none"})
        order = sorted(
            groups, key=lambda one: (known.index(one[0]) if one[0] in known else 99, one[1] != "none", one[1])
        )
        for condition, control in order:
            part = groups[condition, control].sort_values("shots")
            clean = control == "none"
            number = known.index(condition) if condition in known else -1
            look: dict[str, Any] = {
                "label": condition if clean else f"{condition}, control: {control}",
                "colour": CONDITION_COLOURS.get(condition, CYCLE[0]),
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": "-" if clean else ("--", ":", "-.")[controls.index(control) % 3],
                "shade": 0.16 if clean else 0.07,
            }
            # A little apart, so that the bars of single points do not hide each other.
            at = [
                places[one] + 0.03 * (number if clean else number + 0.5 + controls.index(control))
                for one in part["shots"]
            ]
            line(axes, at, part["estimate"], part["low"], part["high"], **look)
        # Shots are mostly doubled: places of equal width keep the small ones apart, and 0 has a place.
        axes.set_xticks(list(places.values()), [f"{one:g}" for one in places])
        axes.set_xlabel("demonstrations (shots)")
        axes.set_ylabel(METRICS[metric])
        if metric == "perplexity" and frame["estimate"].max() > 10 * frame["estimate"].min() > 0:
            axes.set_yscale("log")
        legend(axes)
    return figure


def oracle_curve(given: Table, *, size: Size = "page") -> Drawing:
    """Show the error rate by the number of hypotheses: best and worst possible choice, random choice, systems.

    Columns: ``system`` (such as ``oracle``, ``anti-oracle``, ``random`` or a selection rule), ``n``, ``estimate``, and
    if known ``low``, ``high``, ``metric``.

    >>> oracle_curve({"system": ["oracle"] * 2, "n": [1, 10], "estimate": [0.4, 0.3]}).name
    'oracle_curve'
    """
    frame = table(given, needs=["system", "n", "estimate"], what="an oracle curve")
    columns(frame, ["n", "estimate", "low", "high"], what="an oracle curve")
    metric = str(frame["metric"].iloc[0]) if "metric" in frame.columns else "wer"
    return _curves(
        "oracle_curve",
        _filled(frame, {}),
        by="system",
        x="n",
        colours=NBEST,
        x_label="hypotheses in the list (N)",
        y_label=METRICS.get(metric, metric),
        said=f"{METRICS.get(metric, metric)} by length of the N-best list, for the best, the worst and other choices",
        size=size,
    )


def cumulative_ablation(given: Table, *, size: Size = "page") -> Drawing:
    """Show what is lost as heads are taken away in the order of a ranking, beside heads in random order.

    Columns: ``ranking`` (such as ``mass``, ``effect``, ``random``), ``heads``, ``estimate`` (change of the NLL in nats
    per token), and if known ``low``, ``high``.

    >>> cumulative_ablation({"ranking": ["mass", "mass"], "heads": [0, 4], "estimate": [0.0, 0.7]}).name
    'cumulative_ablation'
    """
    frame = table(given, needs=["ranking", "heads", "estimate"], what="a cumulative ablation")
    columns(frame, ["heads", "estimate", "low", "high"], what="a cumulative ablation")
    return _curves(
        "cumulative_ablation",
        _filled(frame, {}),
        by="ranking",
        x="heads",
        colours={"random": CONTROL},
        x_label="heads taken away",
        y_label="change of NLL (nats per token)",
        said="what the output loses as heads are taken away in the order of each ranking; a ranking that knows which "
        "heads matter lies above the random one",
        size=size,
    )


def _curves(
    name: str,
    frame: pd.DataFrame,
    *,
    by: str,
    x: str,
    colours: Mapping[str, str],
    x_label: str,
    y_label: str,
    said: str,
    size: Size,
) -> Drawing:
    from attnlens.plots.drawing import Drawing, sized

    with styled(size) as width:
        figure = Drawing(name, data=frame, caption=caption(said, _intervals(frame)), figsize=sized(width, aspect=0.5))
        axes = figure.subplots()
        free = iter(range(len(frame)))
        for place, (key, part) in enumerate(frame.groupby(by, sort=False)):
            part = part.sort_values(x)  # noqa: PLW2901
            colour = colours.get(str(key)) or CYCLE[next(free) % len(CYCLE)]
            look: dict[str, Any] = {
                "label": str(key),
                "colour": colour,
                "marker": MARKERS[place % len(MARKERS)],
                "linestyle": "--" if str(key) in colours else "-",
            }
            line(axes, part[x], part["estimate"], part["low"], part["high"], **look)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        legend(axes)
    return figure


def _from_trace(dataset: xr.Dataset, metric: str) -> pd.DataFrame:
    import pandas as pd

    dataset = only(dataset, intervention="none") if "none" in dataset["intervention"].values else dataset
    about = pd.DataFrame(
        {
            "condition": dataset["condition"].values.tolist(),
            "shots": dataset["shots"].values.tolist(),
            "control": [control_name(one) for one in dataset["control"].values.tolist()],
            "utterance": dataset["utterance"].values.tolist(),
            "nll": dataset["nll"].values.astype(np.float64),
            "per": dataset["n_output_tokens" if metric == "perplexity" else "n_chars"].values.astype(np.float64),
        }
    )
    rows = []
    for (condition, shots, control), part in about.groupby(["condition", "shots", "control"], sort=True):
        bits = 1.0 if metric == "perplexity" else math.log(2)
        found = band(part["nll"] / bits, part["utterance"].tolist(), per=part["per"], what="likelihoods")
        ends = [float(one[0]) for one in (found.estimate, found.low, found.high)]
        estimate, low, high = np.exp(ends).tolist() if metric == "perplexity" else ends
        rows.append(
            {
                "condition": condition,
                "shots": shots,
                "control": control,
                "metric": metric,
                "estimate": estimate,
                "low": low,
                "high": high,
                "n": found.units,
            }
        )
    return pd.DataFrame(rows)


def _filled(frame: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    defaults = {"low": np.nan, "high": np.nan} | dict(values)
    made = frame.assign(**{name: value for name, value in defaults.items() if name not in frame.columns})
    if "control" in made.columns:
        made["control"] = made["control"].fillna("none").replace("", "none").astype(str)
    return made


def _intervals(frame: pd.DataFrame) -> str | None:
    return f"bands are {100 * LEVEL:g} % intervals" if frame["low"].notna().any() else "no intervals are given"
