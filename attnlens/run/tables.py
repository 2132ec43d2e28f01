"""What a run found, as tables: bias per layer, error rates, what the controls changed; intervals over utterances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.alignment import Unit
from attnlens.errors import BadInput

__all__ = ["ALL", "TABLES", "changed", "compare_adapters", "count_edits", "make_tables"]

ALL = "all"
"""Stands for all corpora together."""
TABLES = ("bias", "errors", "controls")
LEVEL = 0.95
UNITS: tuple[Unit, ...] = ("characters", "words")

Row = dict[str, Any]
Numbers = NDArray[np.float64]
Group = tuple[str, int, str]
Pair = tuple[float, float]


@dataclass(frozen=True)
class _Measured:
    """One finished item, as far as tables need it."""

    corpus: str
    utterance: str
    condition: str
    shots: int
    control: str
    """What was changed, in the prompt or in the computation; ``none`` for the clean run."""
    prompt: str
    """What was changed in the prompt alone."""
    intervention: str
    chars: float
    nll: float
    bias: Numbers
    log_ratio: Numbers
    letters: Pair
    words: Pair

    @property
    def group(self) -> Group:
        return self.condition, self.shots, self.control


def make_tables(items: Sequence[Mapping[str, str]], traces: Path, *, normaliser: str) -> dict[str, list[Row]]:
    """Make the tables of a run from the lines of its ``items.csv`` and its store.

    The utterance is the unit of every interval and test: repetitions over seeds are averaged first. Error rates and
    likelihoods are ratios of sums. Heads are averaged before the views, so that a head counts by what it puts on
    demonstrations.
    """
    finished = [row for row in items if row["status"] == "finished"]
    if not finished:
        return {name: [] for name in TABLES}
    layers, curves = _curves(traces)
    measured = _measured(finished, curves, normaliser, len(layers))
    tables = {"bias": _bias(measured, layers), "errors": _errors(measured)}
    tables["controls"] = _controls([one for one in measured if one.intervention == "none"])
    if any(one.intervention != "none" for one in measured):
        tables["interventions"] = _interventions(measured)
    return tables


def compare_adapters(
    items: Mapping[str, Sequence[Mapping[str, str]]], traces: Mapping[str, Path], *, normaliser: str
) -> list[Row]:
    """Set every adapter's run beside the first one's, measure by measure, on the same utterances without controls.

    Parameters
    ----------
    items, traces
        Lines of ``items.csv`` and store of each run, by adapter, the first being what the others are compared with.
    """
    measured: list[_Measured] = []
    first = next(iter(items))
    for name, rows in items.items():
        finished = [row for row in rows if row["status"] == "finished" and changed(row) == "none"]
        if not finished:
            continue
        layers, curves = _curves(traces[name])
        # As a control's prompts are set beside clean ones, so are an adapter's beside the first one's.
        own = "none" if name == first else name
        measured += [replace(one, control=own) for one in _measured(finished, curves, normaliser, len(layers))]
    return [
        {
            "corpus": row["corpus"],
            "adapter": row["control"],
            "against": first,
            **{key: row[key] for key in ("condition", "shots", "measure", "utterances")},
            "base": row["clean"],
            "value": row["controlled"],
            **{key: row[key] for key in ("difference", "difference_low", "difference_high", "p", "p_holm")},
        }
        for row in _controls(measured)
    ]


def _curves(traces: Path) -> tuple[list[int], dict[str, tuple[Numbers, Numbers]]]:
    """Return bias and log ratio per layer of every finished item, by its id."""
    import xarray as xr

    from attnlens.traces.blocks import by_blocks
    from attnlens.traces.reading import open_traces
    from attnlens.traces.views import bias, log_ratio

    def reduce(part: xr.Dataset) -> xr.Dataset:
        mean = part[["mass", "tokens"]].mean("head", keep_attrs=True)
        return xr.Dataset({"bias": bias(mean), "log_ratio": log_ratio(mean)})

    found = by_blocks(open_traces(traces, lazy="zarr"), reduce).isel(query=0)
    pairs = zip(found["bias"].values.astype(float), found["log_ratio"].values.astype(float), strict=True)
    return found["layer"].values.tolist(), dict(zip(found["item"].values.tolist(), pairs, strict=True))


def _measured(
    rows: Sequence[Mapping[str, str]], curves: Mapping[str, tuple[Numbers, Numbers]], normaliser: str, layers: int
) -> list[_Measured]:
    nothing = (np.nan, np.nan)
    letters, words = (count_edits(rows, unit=unit, normaliser=normaliser) for unit in UNITS)
    absent = np.full(layers, np.nan)
    return [
        _Measured(
            corpus=row["corpus"],
            utterance=f"{row['corpus']}/{row['utterance']}",
            condition=row["condition"],
            shots=int(row["shots_asked"]),
            control=changed(row),
            prompt=row["control"],
            intervention=row.get("intervention", "none"),
            chars=float(row["n_chars"]),
            nll=float(row["nll"]),
            bias=curves.get(row["item"], (absent, absent))[0],
            log_ratio=curves.get(row["item"], (absent, absent))[1],
            letters=letters.get(row["item"], nothing),
            words=words.get(row["item"], nothing),
        )
        for row in rows
    ]


def count_edits(rows: Sequence[Mapping[str, str]], *, unit: Unit, normaliser: str) -> dict[str, Pair]:
    """Return edits and length of the reference of each line of ``items.csv`` that was transcribed, by its item."""
    from attnlens.asr.error_rate import count_errors

    edits: dict[str, Pair] = {}
    # Whether characters include spaces is a question to a language's script, so each corpus is asked by itself.
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        spoken = [row for row in rows if row["corpus"] == corpus and row["transcribed"] == "yes"]
        references, answers = [row["reference"] for row in spoken], [row["transcription"] for row in spoken]
        names = [row["item"] for row in spoken]
        found = count_errors(references, answers, unit=unit, normaliser=normaliser, ids=names)
        pairs = zip(found.errors.tolist(), found.length.tolist(), strict=True)
        edits |= dict(zip(names, pairs, strict=True))
    return edits


def changed(row: Mapping[str, str]) -> str:
    """Name what was changed in an item, prompt or computation: tables set it beside the clean run."""
    names = [name for name in (row["control"], row.get("intervention", "none")) if name != "none"]
    return " with ".join(names) or "none"


def _grouped(measured: Sequence[_Measured]) -> dict[tuple[str, Group], dict[str, list[_Measured]]]:
    """Return the items of each corpus (and of all) and group, by utterance, in plan order."""
    corpora = list(dict.fromkeys(one.corpus for one in measured))
    found: dict[tuple[str, Group], dict[str, list[_Measured]]] = {}
    for corpus in [ALL, *corpora] if len(corpora) > 1 else corpora:
        for one in measured:
            if corpus in (ALL, one.corpus):
                found.setdefault((corpus, one.group), {}).setdefault(one.utterance, []).append(one)
    return found


def _bias(measured: Sequence[_Measured], layers: Sequence[int]) -> list[Row]:
    table: list[Row] = []
    for (corpus, (condition, shots, control)), by_utterance in _grouped(measured).items():
        values = [_mean_curves(items) for items in by_utterance.values()]
        values = [one for one in values if not np.isnan(one).any()]
        if not values:
            continue  # this condition does not show both modalities
        estimate, low, high = _interval(np.stack(values))
        for place, layer in enumerate(layers):
            row: Row = {"corpus": corpus, "condition": condition, "shots": shots, "control": control}
            row |= {"layer": layer, "utterances": len(values)}
            for column, name in enumerate(("bias", "log_ratio")):
                row |= _told(name, estimate[place, column], low[place, column], high[place, column])
            table.append(row)
    return table


def _mean_curves(items: Sequence[_Measured]) -> Numbers:
    """Return bias and log ratio of one utterance [layers, 2], the mean over its seeds."""
    return np.mean([np.stack([one.bias, one.log_ratio], -1) for one in items], axis=0)


def _errors(measured: Sequence[_Measured]) -> list[Row]:
    table: list[Row] = []
    for (corpus, (condition, shots, control)), by_utterance in _grouped(measured).items():
        row: Row = {"corpus": corpus, "condition": condition, "shots": shots, "control": control}
        row |= {"utterances": len(by_utterance), "items": sum(map(len, by_utterance.values()))}
        for name, picked in RATIOS.items():
            sums = np.array([np.sum([picked(one) for one in items], axis=0) for items in by_utterance.values()])
            row |= _told(name, *_ratio_interval(sums))
        table.append(row)
    return table


RATIOS: dict[str, Callable[[_Measured], Pair]] = {
    "cer": lambda one: one.letters,
    "wer": lambda one: one.words,
    "nll_per_char": lambda one: (one.nll, one.chars),
}


def _controls(measured: Sequence[_Measured]) -> list[Row]:
    return _corrected(_compared(measured))


def _interventions(measured: Sequence[_Measured]) -> list[Row]:
    """Set items under an intervention beside the same prompts without it, controlled prompts beside controlled ones."""
    table: list[Row] = []
    for prompt in dict.fromkeys(one.prompt for one in measured):
        same = [replace(one, control=one.intervention) for one in measured if one.prompt == prompt]
        table += [
            {
                "corpus": row["corpus"],
                "intervention": row["control"],
                "control": prompt,
                **{key: row[key] for key in ("condition", "shots", "measure", "utterances")},
                "whole": row["clean"],
                "changed": row["controlled"],
                **{key: row[key] for key in ("difference", "difference_low", "difference_high", "p")},
            }
            for row in _compared(same)
        ]
    order = _in_order(measured)
    return _corrected(sorted(table, key=lambda row: (row["corpus"] != ALL, row["corpus"], order[row["intervention"]])))


def _in_order(measured: Sequence[_Measured]) -> dict[str, int]:
    """Return the places of interventions as the spec has them: as in the prompts that have the most of them."""
    cells: dict[Group, list[str]] = {}
    for one in measured:
        cells.setdefault((one.condition, one.shots, one.prompt), []).append(one.intervention)
    listed = sorted((list(dict.fromkeys(names)) for names in cells.values()), key=len, reverse=True)
    return {name: place for place, name in enumerate(dict.fromkeys(name for names in listed for name in names))}


def _compared(measured: Sequence[_Measured]) -> list[Row]:
    """Set what was changed beside what was not, measure by measure, on the same utterances."""
    grouped = _grouped(measured)
    table: list[Row] = []
    for (corpus, (condition, shots, control)), changed in grouped.items():
        clean = grouped.get((corpus, (condition, shots, "none")), {})
        both = [name for name in changed if name in clean]
        if control == "none" or not both:
            continue
        for name in ("bias", "log_ratio", *RATIOS):
            values, clean_values, per = _paired(name, [changed[one] for one in both], [clean[one] for one in both])
            if not len(values):
                continue
            row: Row = {"corpus": corpus, "control": control, "condition": condition, "shots": shots, "measure": name}
            row |= {"utterances": len(values), "clean": _ratio(clean_values, per), "controlled": _ratio(values, per)}
            table.append(row | _difference(values, clean_values, per))
    return table


def _corrected(table: list[Row]) -> list[Row]:
    """Add Holm's correction: what a reader sees together, the rows of one corpus or of all corpora, is a family."""
    from attnlens.stats.multiple import holm

    for row in table:
        row["p_holm"] = ""
    for corpus in dict.fromkeys(row["corpus"] for row in table):
        known = [row for row in table if row["corpus"] == corpus and row["p"] != ""]
        adjusted: Sequence[float] = holm([row["p"] for row in known]) if known else []
        for row, value in zip(known, adjusted, strict=True):
            row["p_holm"] = float(value)
    return table


def _paired(
    name: str, changed: Sequence[Sequence[_Measured]], clean: Sequence[Sequence[_Measured]]
) -> tuple[Numbers, Numbers, Numbers]:
    """Return a measure of the same utterances, controlled and clean, and what it is divided by, [utterances] each."""
    if name in RATIOS:
        # An utterance may have fewer seeds under a control; a mean over them compares like with like.
        sums = [[np.mean([RATIOS[name](one) for one in items], axis=0) for items in side] for side in (changed, clean)]
        values, before = np.array(sums[0]), np.array(sums[1])
        kept = ~(np.isnan(values).any(1) | np.isnan(before).any(1))
        return values[kept, 0], before[kept, 0], before[kept, 1]
    column = ("bias", "log_ratio").index(name)
    sides = [np.array([_mean_curves(items)[:, column].mean() for items in side]) for side in (changed, clean)]
    kept = np.isfinite(sides[0]) & np.isfinite(sides[1])
    return sides[0][kept], sides[1][kept], np.ones(int(kept.sum()))


def _difference(values: Numbers, clean: Numbers, per: Numbers) -> Row:
    from attnlens.stats.bootstrap import bootstrap
    from attnlens.stats.permutation import sign_flip

    row: Row = _told("difference", _ratio(values, per) - _ratio(clean, per), np.nan, np.nan) | {"p": ""}
    try:
        found = bootstrap(values, minus=clean, per=per, level=LEVEL)
        row = _told("difference", found.estimate, found.low, found.high) | {"p": ""}
        row["p"] = float(sign_flip(values, minus=clean, per=per).p)
    except BadInput:
        pass  # too few utterances for it: the cells stay empty, and the count stands beside them
    return row


def _interval(values: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the mean over utterances [utterances, ...] and its ends, NaN where there are too few for any."""
    from attnlens.stats.bootstrap import bootstrap

    mean = values.mean(0)
    try:
        found = bootstrap(values, level=LEVEL)
    except BadInput:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    return found.estimate, found.low, found.high


def _ratio_interval(sums: Numbers) -> tuple[float, float, float]:
    """Return the ratio of sums [utterances, 2] and its ends."""
    from attnlens.stats.bootstrap import bootstrap

    sums = sums[~np.isnan(sums).any(1)]
    if not len(sums) or not sums[:, 1].sum():
        return np.nan, np.nan, np.nan
    try:
        found = bootstrap(sums[:, 0], per=sums[:, 1], level=LEVEL)
    except BadInput:
        return _ratio(sums[:, 0], sums[:, 1]), np.nan, np.nan
    return float(found.estimate), float(found.low), float(found.high)


def _ratio(values: Numbers, per: Numbers) -> float:
    return float(values.sum() / per.sum()) if per.sum() else float("nan")


def _told(name: str, estimate: float, low: float, high: float) -> Row:
    values = {name: estimate, f"{name}_low": low, f"{name}_high": high}
    return {key: float(value) if np.isfinite(value) else "" for key, value in values.items()}
