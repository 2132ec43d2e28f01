"""What a trace says without running anything again: preference by layer, use of demonstrations, costs of controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.evidence.label_nulls import LABEL_NULLS, LabelNull, Statistic, label_nulls
from attnlens.stats.findings import Finding, Findings
from attnlens.stats.judge import Claim, judge, withstanding
from attnlens.traces.controls import control_name

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["observed"]

Numbers = NDArray[np.float64]
Cell = dict[str, tuple[float, float]]
BITS = "bits per character"
DESTROYS: dict[str, tuple[str, ...]] = {
    "micl": ("mismatched-pairs",),
    "icl": ("character-shuffle", "other-language-text"),
    "a-icl": ("audio-noise",),
}
"""Controls under which demonstrations should not help as they do, by condition: what belongs together is torn."""


def observed(dataset: xr.Dataset, *, draws: int = 999, seed: int = 0) -> Findings:
    """Return what can be said about a trace, in reading order; utterances are the unit, their seeds averaged.

    What the trace lacks for a finding is said in an inconclusive one.

    >>> from attnlens.testing import trace
    >>> print(observed(trace(items=8))[0].claim)
    Per token, ...
    """
    makers: tuple[tuple[Callable[..., Iterator[Finding]], str], ...] = (
        (_preference, "Nothing can be said about a preference for text or audio."),
        (_costs, "Nothing can be said about whether demonstrations help, and what controls cost."),
    )
    found: list[Finding] = []
    for make, otherwise in makers:
        try:
            found += make(dataset, draws=draws, seed=seed)
        except BadInput as error:
            name = make.__name__.strip("_")
            found.append(Finding(name=name, claim=otherwise, statistic="", verdict="inconclusive", why=error.message))
    return Findings(tuple(found))


def _preference(dataset: xr.Dataset, *, draws: int, seed: int) -> Iterator[Finding]:
    clean = _most_shots(_kept(dataset))
    for statistic in ("log_ratio", "bias"):
        # Of the paper's measure the question is what length alone gives.
        asked: Sequence[LabelNull] = LABEL_NULLS if statistic == "log_ratio" else ("free",)
        nulls = label_nulls(clean, nulls=asked, statistic=statistic, draws=draws, seed=seed)
        values = _by_utterance(clean, statistic)
        layers = list(nulls.layers)
        if statistic == "bias":
            claim = Claim(
                name="preference by mass",
                claim="",
                statistic="bias, mean over layers, not corrected for length",
                values=values.mean(1),
                direction="either",
            )
            (found,) = judge([claim], seed=seed)
            side = "text" if (found.estimate or 0.0) > 0 else "audio"
            explained = {name: float(one.mean()) for name, one in nulls.explained.items()}
            told = f"Counted by mass, as the paper does, {side} gets more, over all layers"
            if "free" in explained:
                told += f"; length alone would give {explained['free']:+.2f}"
            yield replace(found, claim=f"{told}.")
            continue
        claims = [
            Claim(
                name=f"layer {layer}",
                claim="",
                statistic="ln of text density over audio density",
                values=column,
                direction="either",
            )
            for layer, column in zip(layers, values.T, strict=True)
        ]
        judged = [
            withstanding(one, nulls.against(layer)) for one, layer in zip(judge(claims, seed=seed), layers, strict=True)
        ]
        yield _summary(judged, layers)


def _summary(judged: Sequence[Finding], layers: Sequence[int]) -> Finding:
    """Tell of all layers in one sentence, with the evidence of the clearest."""
    sides = {"text": 1.0, "audio": -1.0}
    there = {
        side: [
            layer
            for one, layer in zip(judged, layers, strict=True)
            if one.verdict == "supported" and sign * (one.estimate or 0.0) > 0
        ]
        for side, sign in sides.items()
    }
    ranked = sorted(judged, key=lambda one: (one.verdict != "supported", -abs(one.estimate or 0.0)))
    top = ranked[0]
    place = judged.index(top)
    side = "text" if (top.estimate or 0.0) > 0 else "audio"
    times = math.exp(abs(top.estimate or 0.0))
    return replace(
        top,
        name="preference",
        claim=f"Per token, the demonstrations' text is preferred in {len(there['text'])} of {len(layers)} layers and "
        f"their audio in {len(there['audio'])}, by more than place in the prompt explains; most clearly at layer "
        f"{layers[place]}, where a token of {side} gets {times:.1f} times as much.",
        why="; ".join(one for one in (f"layer {layers[place]}, p corrected over {len(layers)} layers", top.why) if one),
    )


def _by_utterance(dataset: xr.Dataset, statistic: Statistic) -> Numbers:
    """Return a view per utterance and layer [utterances, layers], heads averaged before it, items after it."""
    from attnlens.traces.blocks import by_blocks
    from attnlens.traces.views import view

    def reduce(part: xr.Dataset) -> xr.DataArray:
        return view(part[["mass", "tokens"]].mean("head", keep_attrs=True), statistic).sel(query="output", drop=True)

    values = by_blocks(dataset, reduce).transpose("item", "layer").values.astype(np.float64)
    names = np.array([str(one) for one in dataset["utterance"].values.tolist()])
    there = np.isfinite(values).all(1)
    if not there.any():
        raise BadInput("no item shows demonstrations with audio and text")
    kept = list(dict.fromkeys(names[there].tolist()))
    return np.stack([values[there & (names == name)].mean(0) for name in kept])


def _costs(dataset: xr.Dataset, *, draws: int, seed: int) -> Iterator[Finding]:
    cells = _cells(dataset)
    base = cells.get(("asr", 0, "none")) or next((cells[key] for key in sorted(cells) if key[1:] == (0, "none")), None)
    claims = [*_helps(cells, base), *_controls(cells), *_interventions(dataset, cells)]
    if not claims:
        raise BadInput("the run has nothing to compare: no items without demonstrations and no controls")
    yield from judge(claims, seed=seed)


def _helps(cells: Mapping[tuple[str, int, str], Cell], base: Cell | None) -> Iterator[Claim]:
    most = _most(cells)
    for condition, shots in most.items():
        with_demos = cells[condition, shots, "none"]
        torn = [one for one in DESTROYS.get(condition, ()) if (condition, shots, one) in cells]
        # Without the target's audio the comparison would be of hearing, not of demonstrations.
        if base is not None and condition != "t-icl":
            names, saved, per = _difference(base, with_demos)
            controls = {one: _paired(base, cells[condition, shots, one], names) for one in torn}
            yield Claim(
                name=f"help {condition}",
                claim=f"{shots} demonstrations ({condition}) make the reference cheaper than none do.",
                statistic=f"{BITS} saved",
                values=saved,
                per=per,
                controls=controls,
            )
    deaf = most.get("t-icl")
    if deaf and ("icl", deaf, "none") in cells:
        _, saved, per = _difference(cells["t-icl", deaf, "none"], cells["icl", deaf, "none"])
        yield Claim(
            name="help of hearing",
            claim=f"Hearing the target makes the reference cheaper ({deaf} texts, icl against t-icl).",
            statistic=f"{BITS} saved",
            values=saved,
            per=per,
        )
    pairs, texts = most.get("micl"), most.get("icl")
    if pairs and texts and pairs == texts:
        names, saved, per = _difference(cells["icl", texts, "none"], cells["micl", pairs, "none"])
        torn = [one for one in DESTROYS["micl"] if ("micl", pairs, one) in cells]
        yield Claim(
            name="help of audio",
            claim=f"The demonstrations' audio helps beyond their texts ({pairs} shots, micl against icl).",
            statistic=f"{BITS} saved",
            values=saved,
            per=per,
            controls={one: _paired(cells["icl", texts, "none"], cells["micl", pairs, one], names) for one in torn},
        )


def _controls(cells: Mapping[tuple[str, int, str], Cell]) -> Iterator[Claim]:
    found: dict[str, tuple[str, int]] = {}
    for condition, shots, control in cells:
        if control != "none" and (condition, shots, "none") in cells:
            before = found.get(control)
            if before is None or (condition == "micl", shots) > (before[0] == "micl", before[1]):
                found[control] = (condition, shots)
    for control, (condition, shots) in sorted(found.items()):
        _, costs, per = _difference(cells[condition, shots, control], cells[condition, shots, "none"])
        yield Claim(
            name=f"control {control}",
            claim=f"What the control {control} destroys is used ({condition}, {shots} shots).",
            statistic=f"{BITS} more",
            values=costs,
            per=per,
        )


def _interventions(dataset: xr.Dataset, cells: Mapping[tuple[str, int, str], Cell]) -> Iterator[Claim]:
    for name in dict.fromkeys(str(one) for one in dataset["intervention"].values.tolist()):
        if name == "none":
            continue
        edited = _cells(dataset, intervention=name)
        both = [key for key in edited if key in cells and key[2] == "none"]
        if not both:
            continue
        condition, shots, _ = key = max(both, key=lambda key: (key[0] == "micl", key[1]))
        _, costs, per = _difference(edited[key], cells[key])
        yield Claim(
            name=f"intervention {name}",
            claim=f"What {name} takes away is used ({condition}, {shots} shots).",
            statistic=f"{BITS} more",
            values=costs,
            per=per,
        )


def _most(cells: Mapping[tuple[str, int, str], Cell]) -> dict[str, int]:
    """Return the largest number of shots of each condition."""
    found: dict[str, int] = {}
    for condition, shots, control in cells:
        if shots and control == "none":
            found[condition] = max(shots, found.get(condition, 0))
    return found


def _cells(dataset: xr.Dataset, *, intervention: str = "none") -> dict[tuple[str, int, str], Cell]:
    """Return bits and characters of each utterance, means over its seeds, by condition, shots and control."""
    wanted = dataset["intervention"].values == intervention
    names = ("condition", "shots", "control", "utterance", "nll", "n_chars")
    sums: dict[tuple[str, int, str], dict[str, list[tuple[float, float]]]] = {}
    for kept, row in zip(wanted, zip(*(dataset[name].values.tolist() for name in names), strict=True), strict=True):
        if kept:
            condition, shots, control, utterance, nll, characters = row
            cell = sums.setdefault((condition, shots, control_name(control)), {})
            cell.setdefault(str(utterance), []).append((nll / math.log(2), characters))
    return {
        key: {name: tuple(np.mean(rows, axis=0).tolist()) for name, rows in cell.items()} for key, cell in sums.items()
    }


def _difference(first: Cell, second: Cell) -> tuple[list[str], Numbers, Numbers]:
    """Return the utterances in both, their difference in bits, and their characters."""
    both = [name for name in first if name in second]
    if not both:
        raise BadInput("no utterance is in both", fix="compare conditions of the same utterances")
    values = np.array([first[name][0] - second[name][0] for name in both])
    return both, values, np.array([first[name][1] for name in both])


def _paired(first: Cell, second: Cell, names: Sequence[str]) -> Numbers:
    nothing = (math.nan, math.nan)
    return np.array([first[name][0] - second.get(name, nothing)[0] for name in names])


def _most_shots(dataset: xr.Dataset) -> xr.Dataset:
    """Keep the items with the most demonstrations that show both audio and text."""
    counts = dataset["demo_tokens"].sel(modality=["audio", "text"]).sum("demo").values
    both = (counts > 0).all(-1)
    if not both.any():
        raise BadInput("no item shows demonstrations with audio and text")
    shots = dataset["shots"].values
    return dataset.isel(item=np.flatnonzero(both & (shots == shots[both].max())))


def _kept(dataset: xr.Dataset) -> xr.Dataset:
    keep = (dataset["control"].values == "none") & (dataset["intervention"].values == "none")
    if not keep.any():
        raise BadInput("there is no clean item")
    return dataset.isel(item=np.flatnonzero(keep))
