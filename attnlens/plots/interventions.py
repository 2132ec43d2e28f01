"""What a run's interventions cost: likelihood, errors and preference, each against the same prompts without them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput
from attnlens.models.named_interventions import parse_intervention
from attnlens.plots.curves import Table
from attnlens.plots.inputs import columns, table
from attnlens.plots.lines import caption, legend
from attnlens.plots.style import CONDITION_COLOURS, CYCLE, MARKERS, RULE, Size, styled

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.plots.drawing import Drawing

__all__ = ["intervention_effects"]

PANELS = {
    "nll_per_char": ("bits per character", 1.4426950408889634),
    "cer": ("CER, points", 100.0),
    "bias": ("bias, mean over layers", 1.0),
}
"""Measures in the order of the panels: what the axis says, and what values are multiplied by."""
NEEDS = ["intervention", "condition", "shots", "measure", "difference"]
ENDS = ["difference", "difference_low", "difference_high"]
MOST = 8
"""Groups (condition, shots) that a row can hold; with more, each condition shows its most shots."""
WIDTH = 24


def intervention_effects(given: Table, *, size: Size = "page") -> Drawing:
    """Show what each intervention changes, as paired differences to the same prompts without it.

    Columns as in a run's ``tables/interventions.csv``: ``intervention``, ``condition``, ``shots``, ``measure``
    (``nll_per_char``, ``cer``, ``bias``; others are left out), ``difference``, and if known ``difference_low``,
    ``difference_high``, ``utterances``, ``control``, ``corpus``. Prompts under a control and single corpora beside all
    together are left out.

    >>> rows = {"intervention": ["ablate-heads:layers=1:heads=0"], "condition": ["micl"], "shots": [4],
    ...         "measure": ["cer"], "difference": [0.2]}
    >>> intervention_effects(rows).data[["measure", "difference"]].values.tolist()
    [['cer', 20.0]]
    """
    from attnlens.plots.drawing import Drawing

    frame, notes = _chosen(table(given, needs=NEEDS, what="the effects of interventions"))
    measures = [one for one in PANELS if one in set(frame["measure"])]
    names = list(dict.fromkeys(frame["intervention"]))
    groups = sorted({(row["condition"], row["shots"]) for row in frame.to_dict("records")}, key=_place)
    counts = sorted(set(frame["utterances"].dropna().astype(int))) if "utterances" in frame else []
    said = caption(
        "what each intervention changes: with minus without, the same prompts, paired over utterances",
        "to the right of 0 the output became less likely, the answer worse, the preference moved towards text",
        "bars are 95 % BCa bootstrap intervals over utterances" if frame["difference_low"].notna().any() else None,
        f"{counts[0]} to {counts[-1]} utterances" if len(counts) > 1 else f"{counts[0]} utterances" if counts else None,
        *notes,
    )
    with styled(size) as width:
        height = width * 0.14 + 0.3 * width / 6.9 * len(names) * max(1.0, len(groups) / 3)
        figure = Drawing("interventions", data=frame, caption=said, figsize=(width, height))
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, measure in zip(panels, measures, strict=True):
            axes.axvline(0, color=RULE, linewidth=1.0, zorder=0)
            _points(axes, frame[frame["measure"] == measure], names, groups)
            axes.set_xlabel(PANELS[measure][0])
        panels[0].set_yticks(range(len(names)), [_spoken(one) for one in names])
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        for place, group in enumerate(groups):
            # Not every panel has every group: the key has.
            panels[-1].plot([], [], MARKERS[place % len(MARKERS)], color=_colour(group), label=_group(group))
        legend(panels[-1])
    return figure


def _chosen(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that are drawn, in the figure's units, and what is to be said of the others."""
    import numpy as np

    frame = frame.assign(**{name: np.nan for name in ENDS if name not in frame.columns})
    frame = frame[frame["measure"].isin(list(PANELS)) & frame["difference"].notna()]
    notes = []
    if "control" in frame and (frame["control"] != "none").any():
        notes.append("prompts under a control are in the table")
        frame = frame[frame["control"] == "none"]
    if "corpus" in frame and (frame["corpus"] == "all").any():
        frame = frame[frame["corpus"] == "all"]
    if not len(frame):
        raise BadInput("no intervention has a measured effect", fix="run with interventions, see docs/run.md")
    columns(frame, ["shots", "difference"], what="the effects of interventions")
    if len({(row["condition"], row["shots"]) for row in frame.to_dict("records")}) > MOST:
        frame = frame[frame["shots"] == frame.groupby("condition")["shots"].transform("max")]
        notes.append("each condition with its most shots; the others are in the table")
    scale = frame["measure"].map({name: factor for name, (_, factor) in PANELS.items()})
    return frame.assign(**{name: frame[name].astype(float) * scale for name in ENDS}).reset_index(drop=True), notes


def _points(axes: Any, frame: pd.DataFrame, names: list[str], groups: list[tuple[str, int]]) -> None:
    spread = 0.7 / max(len(groups), 1)
    for row in frame.to_dict("records"):
        place = groups.index((row["condition"], row["shots"]))
        y = names.index(row["intervention"]) + (place - (len(groups) - 1) / 2) * spread
        colour = _colour((row["condition"], row["shots"]))
        axes.hlines(y, row["difference_low"], row["difference_high"], color=colour, linewidth=1.6)
        axes.plot(row["difference"], y, MARKERS[place % len(MARKERS)], color=colour, markersize=5)


def _colour(group: tuple[str, int]) -> str:
    return CONDITION_COLOURS.get(group[0], CYCLE[0])


def _group(group: tuple[str, int]) -> str:
    return f"{group[0]}, {group[1]} shot{'' if group[1] == 1 else 's'}"


def _place(group: tuple[str, int]) -> tuple[int, int]:
    known = list(CONDITION_COLOURS)
    return known.index(group[0]) if group[0] in known else len(known), group[1]


def _spoken(name: str) -> str:
    return textwrap.fill(parse_intervention(name).spoken, WIDTH)
