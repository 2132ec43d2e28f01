"""What a run measured, in the coordinates of printed tables: as published, and as it should be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput
from attnlens.mapping import read_mapping

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Ends", "Found", "find_measured", "kind_of", "left_out"]

Numbers = NDArray[np.float64]
Key = tuple[str, str, str, str, str]
PROMPTED = "prompted"


@dataclass(frozen=True)
class Ends:
    """An estimate with its 95 % interval; no ends where there are too few utterances for one."""

    estimate: float
    low: float | None = None
    high: float | None = None

    def scaled(self, factor: float, *, whole: bool = False) -> Ends:
        """Return the same in other units; ``whole`` cuts off what stands after the point, as the paper does."""
        numbers = [None if one is None else factor * one + 0.0 for one in (self.estimate, self.low, self.high)]
        if whole:
            numbers = [one if one is None or not np.isfinite(one) else float(int(one)) for one in numbers]
        return Ends(numbers[0] if numbers[0] is not None else np.nan, numbers[1], numbers[2])

    def holds(self, value: float) -> bool | None:
        """Say whether a number lies inside the interval; None without one."""
        return None if self.low is None or self.high is None else self.low <= value <= self.high


@dataclass(frozen=True)
class Found:
    """One number of ours: where it stands, computed as published and by our default, and over how many utterances."""

    where: Mapping[str, str]
    corpus: str
    language: str
    utterances: int
    published: Ends | None = None
    default: Ends | None = None
    remarks: tuple[str, ...] = field(default=())


def kind_of(folder: Path) -> str:
    """Say what a directory holds: ``run`` or ``rerank``."""
    if (folder / "items.csv").exists():
        return "run"
    if (folder / "results.json").exists():
        return "rerank"
    raise BadInput(
        f"{folder} holds neither a run nor a re-ranking",
        present=", ".join(sorted(one.name for one in folder.iterdir())[:8]) if folder.is_dir() else None,
        fix="pass what `attnlens run` or `attnlens rerank` wrote with --out",
    )


def find_measured(folder: Path, measure: str) -> list[Found]:
    """Return what a run directory knows of a measure, none where it knows nothing."""
    if kind_of(folder) == "rerank":
        return _reranked(folder) if measure == "wer" else []
    rows = _finished(folder)
    if measure == "perplexity":
        return _perplexities(rows)
    if measure == "wer":
        return [*_errors(folder, rows), *_chosen(folder)]
    return _attention(folder, rows, measure)


def _finished(folder: Path) -> list[dict[str, str]]:
    from attnlens.run.folder import read_csv

    rows = [row for row in read_csv(folder / "items.csv") if row["status"] == "finished"]
    if not rows:
        raise BadInput(f"{folder} has no finished item", fix="go on with `attnlens run` first")
    return rows


def _grouped(rows: Sequence[Mapping[str, str]]) -> dict[Key, dict[str, list[Mapping[str, str]]]]:
    """Return rows by corpus, language, condition, shots and control, and within by utterance."""
    found: dict[Key, dict[str, list[Mapping[str, str]]]] = {}
    for row in rows:
        key = (row["corpus"], row["language"], row["condition"], row["shots_asked"], row["control"])
        found.setdefault(key, {}).setdefault(row["utterance"], []).append(row)
    return found


def _where(key: Key, **more: str) -> dict[str, str]:
    return {"condition": key[2], "shots": key[3], "control": key[4], **more}


def _perplexities(rows: Sequence[Mapping[str, str]]) -> list[Found]:
    found = []
    for key, by_utterance in _grouped(rows).items():
        own, sums = [], []
        for items in by_utterance.values():
            each = [_number(one, "nll", "nll_first", "n_output_tokens") for one in items]
            # A text of one token has nothing left to score; such utterances were dropped from the mean.
            kept = [np.exp((nll - first) / (tokens - 1)) for nll, first, tokens in each if tokens > 1]
            own.append(np.mean(kept) if kept and not np.isnan(kept).any() else np.nan)
            sums.append(np.mean([(nll, tokens) for nll, _, tokens in each], axis=0))
        values, pairs = np.array(own), np.array(sums)
        known = values[~np.isnan(values)]
        log = _ends(pairs[:, 0], pairs[:, 1])
        ends = [None if one is None else float(np.exp(one)) for one in (log.estimate, log.low, log.high)]
        found.append(
            Found(
                _where(key),
                key[0],
                key[1],
                len(by_utterance),
                published=_ends(known).scaled(1, whole=True) if len(known) else None,
                default=Ends(ends[0] if ends[0] is not None else np.nan, ends[1], ends[2]),
                remarks=() if len(known) else ("rows of this run do not tell the first token apart: run it again",),
            )
        )
    return found


def _errors(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Found]:
    from attnlens.run.folder import read_table

    language = {row["corpus"]: row["language"] for row in rows}
    found = []
    for row in read_table(folder / "tables" / "errors.csv"):
        if row["corpus"] not in language or row["wer"] == "":
            continue
        where = {"condition": row["condition"], "shots": str(row["shots"]), "control": row["control"]}
        low, high = (None if row[name] == "" else 100 * row[name] for name in ("wer_low", "wer_high"))
        ends = Ends(100 * row["wer"], low, high)
        found.append(
            Found(where | {"system": PROMPTED}, row["corpus"], language[row["corpus"]], row["utterances"], default=ends)
        )
    return found


def _chosen(folder: Path) -> list[Found]:
    """Return the error rates of hypotheses chosen after a run, but not what it wrote, which its items tell."""
    if not (folder / "selection" / "results.json").exists():
        return []
    return [one for one in _reranked(folder / "selection") if one.where["system"] != PROMPTED]


PROMPT, LABELLED = ("sink", "system", "instruction"), ("demo_text", "demo_label")
SEGMENTS: dict[str, tuple[str, ...]] = {
    "prompt": PROMPT,
    "demo_audio": ("demo_audio",),
    "demo_text": LABELLED,
    "target_audio": ("target_audio",),
    "task": ("task",),
}
DEMOS = ("demo_audio", "demo_text")
ROWLESS = ("other", "output")
"""Sources that no printed segment holds: tokens that are neither audio nor text of anything, and the answer itself."""


def _attention(folder: Path, rows: Sequence[Mapping[str, str]], measure: str) -> list[Found]:
    mass, tokens, sources = _masses(folder / "traces.zarr")
    take = {name: [sources.index(one) for one in parts] for name, parts in SEGMENTS.items()}
    alone = {name: [sources.index(name)] for name in DEMOS}
    found = []
    for key, by_utterance in _grouped(rows).items():
        if key[2] != "micl" or key[3] == "0":
            continue
        read = tokens if measure == "tokens" else mass
        table = np.array([np.mean([read[one["item"]] for one in items], axis=0) for items in by_utterance.values()])
        for segment in SEGMENTS if measure == "share" else DEMOS:
            own = table[:, take[segment]].sum(1)
            published = default = None
            if measure == "share":
                whole = sum(table[:, columns].sum(1) for columns in take.values())
                published = _ends(own, whole).scaled(100)
                default = _ends(table[:, [sources.index(segment)]].sum(1)).scaled(100) if segment in sources else None
            elif measure == "demo-share":
                published = _ends(own, sum(table[:, take[name]].sum(1) for name in DEMOS)).scaled(100)
                per = sum(table[:, alone[name]].sum(1) for name in DEMOS)
                default = _ends(table[:, alone[segment]].sum(1), per).scaled(100)
            else:
                published, default = _ends(own).scaled(20), _ends(table[:, alone[segment]].sum(1)).scaled(20)
            where = _where(key, segment=segment)
            found.append(Found(where, key[0], key[1], len(by_utterance), published=published, default=default))
    return found


def left_out(folder: Path, measure: str) -> dict[str, Ends]:
    """Return what no row of a measure holds, by source, in percent: of all attention, or of all positions for tokens.

    Over prompts with demonstrations, nothing changed in them, each utterance's mean; empty for other measures.
    """
    if measure not in ("share", "demo-share", "tokens") or kind_of(folder) != "run":
        return {}
    mass, tokens, sources = _masses(folder / "traces.zarr")
    read = tokens if measure == "tokens" else mass
    by_utterance: dict[tuple[str, str], list[Numbers]] = {}
    for row in _finished(folder):
        if row["condition"] == "micl" and row["shots_asked"] != "0" and row["control"] == "none":
            by_utterance.setdefault((row["corpus"], row["utterance"]), []).append(read[row["item"]])
    if not by_utterance:
        return {}
    table = np.array([np.mean(items, axis=0) for items in by_utterance.values()])
    named = [one for one in ROWLESS if one in sources]
    return {one: _ends(table[:, sources.index(one)], table.sum(1)).scaled(100) for one in named}


def _masses(traces: Path) -> tuple[dict[str, Numbers], dict[str, Numbers], list[str]]:
    """Return mass [sources], mean over layers and heads, and tokens [sources] of every item."""
    import xarray as xr

    from attnlens.traces.blocks import by_blocks
    from attnlens.traces.reading import open_traces

    def reduce(part: xr.Dataset) -> xr.Dataset:
        return xr.Dataset({"mass": part["mass"].mean(["layer", "head"]), "tokens": part["tokens"]})

    whole = by_blocks(open_traces(traces, lazy="zarr"), reduce).isel(query=0)
    names = whole["item"].values.tolist()
    mass = dict(zip(names, whole["mass"].values.astype(float), strict=True))
    tokens = dict(zip(names, whole["tokens"].values.astype(float), strict=True))
    return mass, tokens, whole["source"].values.tolist()


def _reranked(folder: Path) -> list[Found]:
    """Return the error rate of every system of a re-ranking, counted again from its transcripts for the interval."""
    from attnlens.run.corpora import find_corpus

    guard = (read_mapping(folder / "spec.yaml", keys=(), example="corpora: [x]").get("selector") or {}).get("prompted")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = []
    for table in results["tables"]:
        name = table["language"]
        if not (folder / name / "transcripts.jsonl").exists():
            continue  # the table over all languages has no transcripts of its own
        lines = (folder / name / "transcripts.jsonl").read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines]
        try:
            code = find_corpus(name).language
        except BadInput:
            code = name
        main = _main({row["system"] for row in table["rows"]})
        systems = {row["system"] for row in table["rows"]} & set(said[0])
        rates = {one: _wer(said, one, table["normaliser"]) for one in systems}
        for system, (published, default) in _pairs(systems, guard=guard).items():
            pair = [rates.get(one) for one in (published, default)]
            if any(pair):
                where = {"system": system} | ({"condition": main} if system == PROMPTED else {})
                found.append(Found(where, name, code, len(said), published=pair[0], default=pair[1]))
    return found


def _main(systems: set[str]) -> str:
    """Return what scored the lists: a condition, or the n-gram model."""
    return next((one.removesuffix(" paper-code") for one in sorted(systems) if one.endswith(" paper-code")), "micl")


def _pairs(systems: set[str], *, guard: str | None) -> dict[str, tuple[str, str]]:
    """Name our rows as tables do: the row as published and our own, where there are two."""
    main = _main(systems)
    pairs = {one: ("", one) for one in ("acoustic 1-best", "oracle", "joint decoding", PROMPTED)}
    if guard == "paper":
        pairs[PROMPTED] = (PROMPTED, "")
    tuned = f"{main} interpolated"
    pairs["selector"] = (f"{main} paper-code", tuned if tuned in systems else f"{main} sum-logprob")
    pairs["n-gram"] = ("", "n-gram interpolated")
    # What others wrote in this form names its own rows, with a second of our choice where there is one.
    pairs |= {one: (one, f"{one} default") for one in systems if f"{one} default" in systems}
    return pairs


def _wer(said: Sequence[Mapping[str, str]], system: str, normaliser: str) -> Ends:
    from attnlens.asr.error_rate import count_errors

    counted = count_errors([one["reference"] for one in said], [one[system] for one in said], normaliser=normaliser)
    return _ends(counted.errors.astype(float), counted.length.astype(float)).scaled(100)


def _ends(values: Any, per: Any = None) -> Ends:
    from attnlens.stats.bootstrap import bootstrap

    estimate = float(values.mean() if per is None else values.sum() / per.sum()) if len(values) else float("nan")
    try:
        made = bootstrap(values, per=per)
    except BadInput:
        return Ends(estimate)
    return Ends(estimate, float(made.low), float(made.high))


def _number(row: Mapping[str, str], *names: str) -> list[float]:
    return [float(row[name]) if row.get(name) else float("nan") for name in names]
