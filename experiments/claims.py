"""What the paper observes, asked of runs on the organism: a statistic, an interval, and whether it holds there."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.error_rate import count_errors
from attnlens.errors import BadInput
from attnlens.run.published.measured import find_measured
from attnlens.stats.bootstrap import bootstrap
from attnlens.traces.reading import open_traces
from attnlens.traces.views import log_ratio

Numbers = NDArray[np.float64]
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Asked:
    """An estimate with its ends, over so many utterances; positive is what the paper observes."""

    estimate: float
    low: float
    high: float
    n: int
    unit: str

    @property
    def verdict(self) -> str:
        if np.isnan(self.low) or self.low <= 0 <= self.high:
            return "undecided"
        return "holds" if self.low > 0 else "does not hold"


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, where it stands, and how it is asked here."""

    says: str
    source: str
    asks: str
    ask: Callable[[Path], Asked]


def interval(values: Numbers, *, per: Numbers | None = None, unit: str, scale: float = 1.0) -> Asked:
    try:
        found = bootstrap(values, per=per)
        ends = [scale * float(one) for one in (found.estimate, found.low, found.high)]
    except BadInput:
        ends = [scale * float(values.mean() if per is None else values.sum() / per.sum()), np.nan, np.nan]
    return Asked(ends[0], ends[1], ends[2], len(values), unit)


def finished(folder: Path) -> Rows:
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["status"] == "finished"]


def costs(rows: Rows, **where: str) -> dict[str, tuple[float, float]]:
    """Return nats and characters by utterance of the items that are so."""
    picked = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return {f"{row['corpus']}/{row['utterance']}": (float(row["nll"]), float(row["n_chars"])) for row in picked}


def dearer(folder: Path, without: Mapping[str, str], with_it: Mapping[str, str], *, tuned: Path | None = None) -> Asked:
    """Ask how many nats per character more one kind of item costs than another, of the same utterances.

    The second kind is that of another run, ``tuned``, where one is named.
    """
    first = costs(finished(folder), **({"control": "none"} | dict(without)))
    second = costs(finished(tuned or folder), **({"control": "none"} | dict(with_it)))
    both = sorted(set(first) & set(second))
    values = np.array([first[one][0] - second[one][0] for one in both])
    return interval(values, per=np.array([first[one][1] for one in both]), unit="nats per character")


def helps(folder: Path, tuned: Path, count: int = 10) -> Asked:
    """Ask by how much less the same prompts with pairs cost a tuned model."""
    return dearer(folder, shots(count), shots(count), tuned=tuned)


def shots(count: int, condition: str = "micl") -> dict[str, str]:
    return {"condition": condition, "shots_asked": str(count)}


def share_of_text(folder: Path) -> Asked:
    """Ask by how many points text is ahead of audio on demonstrations, as published, with the most of them."""
    found = [one for one in find_measured(folder, "demo-share") if one.where["control"] == "none"]
    most = str(max(int(one.where["shots"]) for one in found))
    return _over_corpora(folder, most, "demo_text", lambda share: 100 * (2 * share - 1), "points ahead of audio")


def _over_corpora(folder: Path, count: str, segment: str, told: Callable[[Numbers], Numbers], unit: str) -> Asked:
    values = shares(folder, count)[:, 0 if segment == "demo_audio" else 1]
    return interval(told(values), unit=unit)


def shares(folder: Path, count: str, control: str = "none") -> Numbers:
    """Return each utterance's shares of audio and of text with its label [utterances, 2]."""
    ds = chosen(folder, count, control)
    mass = ds["mass"].isel(query=0).mean(["layer", "head"])
    audio = mass.sel(source="demo_audio").values
    text = mass.sel(source=["demo_text", "demo_label"]).sum("source").values
    pair = np.stack([audio, text], axis=1).astype(float)
    return pair / pair.sum(1, keepdims=True)


def chosen(folder: Path, count: str, control: str = "none"):  # type: ignore[no-untyped-def]
    rows = {row["item"]: row for row in finished(folder)}
    ds = open_traces(folder / "traces.zarr").load()
    keep = [
        name in rows
        and rows[name]["condition"] == "micl"
        and rows[name]["shots_asked"] == count
        and rows[name]["control"] == control
        for name in ds["item"].values.tolist()
    ]
    return ds.isel(item=np.array(keep))


def share_grows(folder: Path) -> Asked:
    few, many = shares(folder, "1")[:, 0], shares(folder, "10")[:, 0]
    return interval(100 * (many - few), unit="points of audio, 10 against 1")


def share_falls(folder: Path, tuned: Path) -> Asked:
    base, after = (shares(one, "10")[:, 0] for one in (folder, tuned))
    return interval(100 * (base - after), unit="points of audio, base against tuned")


def prefers_audio(folder: Path, layer: int, *, per: Literal["mass", "token"]) -> Asked:
    """Ask whether a layer prefers the demonstrations' audio: by mass, as the figure shows it, or per position."""
    ds = chosen(folder, "10")[["mass", "tokens"]].mean("head", keep_attrs=True).isel(query=0, layer=layer)
    if per == "token":
        return interval(-log_ratio(ds).values.astype(float), unit="ln of density, audio over text")
    mass = ds["mass"]
    audio = mass.sel(source="demo_audio").values.astype(float)
    text = mass.sel(source=["demo_text", "demo_label"]).sum("source").values.astype(float)
    return interval(100 * (audio - text) / (audio + text), unit="points of audio ahead of text")


def last_gets_most(folder: Path) -> Asked:
    ds = chosen(folder, "10")
    mass = ds["demo_mass"].isel(query=0).mean(["layer", "head"]).sum("modality").values.astype(float)
    return interval(100 * (mass[:, -1] - mass[:, :-1].mean(1)), unit="points of attention, last against mean of others")


def gold_share(folder: Path) -> Asked:
    clean, gold = (shares(folder, "10", control)[:, 0] for control in ("none", "gold-inserted:slot=3:what=text"))
    return interval(100 * (gold - clean), unit="points of audio")


def longer(folder: Path) -> Asked:
    tokens = chosen(folder, "10")["tokens"]
    audio, text = (tokens.sel(source=one).values.astype(float) for one in ("demo_audio", "demo_text"))
    return interval(np.log(audio / text), unit="ln of positions, audio over text")


def wrong(folder: Path, better: str, worse: str, *, of: Path | None = None) -> Asked:
    """Ask by how many points of WER one system is better than another, or one of run ``of``, all languages together."""
    edits, lengths = [], []
    for path in sorted(folder.glob("*/transcripts.jsonl")):
        ours, others = said(path), said((of or folder) / path.parent.name / path.name)
        if better not in ours[0] or worse not in others[0]:
            continue
        counts = [
            count_errors([one["reference"] for one in lines], [one[name] for one in lines])
            for lines, name in ((others, worse), (ours, better))
        ]
        edits.append(counts[0].errors - counts[1].errors)
        lengths.append(counts[0].length)
    if not edits:
        raise FileNotFoundError(f"no transcripts of {better} and {worse} in {folder}")
    joined = np.concatenate(edits).astype(float)
    return interval(joined, per=np.concatenate(lengths).astype(float), unit="points of WER", scale=100)


def said(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def retrieved(folder: Path) -> Asked:
    near, far = (costs(finished(folder / name), **shots(3)) for name in ("table13-audio", "table13-random"))
    both = sorted(set(near) & set(far))
    values = np.array([far[one][0] - near[one][0] for one in both])
    return interval(values, per=np.array([far[one][1] for one in both]), unit="nats per character")


GOLD = "gold-inserted:slot=3:what="
CLAIMS: Sequence[Claim] = (
    Claim(
        "More pairs lower perplexity.",
        "Tables 2, 3",
        "micl, 1 pair less 10",
        lambda at: dearer(at / "table3", shots(1), shots(10)),
    ),
    Claim(
        "Hearing the target always helps.",
        "Tables 2, 3",
        "10 texts, without its audio less with it",
        lambda at: dearer(at / "table3", shots(10, "t-icl"), shots(10, "icl")),
    ),
    Claim(
        "The demonstrations' audio helps at few shots.",
        "Tables 2, 3",
        "3 texts less 3 pairs",
        lambda at: dearer(at / "table3", shots(3, "icl"), shots(3)),
    ),
    Claim(
        "For Phi-4 it no longer helps at many.",
        "Table 3",
        "10 pairs less 10 texts",
        lambda at: dearer(at / "table3", shots(10), shots(10, "icl")),
    ),
    Claim(
        "Tuning on other languages lowers perplexity.",
        "Table 3",
        "10 pairs, base less xft",
        lambda at: helps(at / "table3", at / "table3-xft"),
    ),
    Claim(
        "Tuning on the target lowers it more.",
        "Table 3",
        "10 pairs, xft less tft",
        lambda at: helps(at / "table3-xft", at / "table3-tft"),
    ),
    Claim(
        "Tuned on the target, texts do better than pairs.",
        "Table 3",
        "tft, 10 pairs less 10 texts",
        lambda at: dearer(at / "table3-tft", shots(10), shots(10, "icl")),
    ),
    Claim(
        "Tuning takes from the share of audio.",
        "Table 12",
        "10 pairs, base less xft",
        lambda at: share_falls(at / "table12", at / "table12-xft"),
    ),
    Claim(
        "More languages in training help more.",
        "Table 7",
        "10 pairs, tuned on 1 less tuned on 15",
        lambda at: helps(at / "table7-xft-1-language", at / "table7-xft"),
    ),
    Claim(
        "Projector and encoder trained too help further.",
        "Table 14",
        "10 pairs, LoRA less all three",
        lambda at: helps(at / "table14-xft", at / "table14-xft-encoder"),
    ),
    Claim(
        "At ten pairs, ten in training are better than 1 to 10.",
        "Table 15",
        "10 pairs, 1-10 less fixed 10",
        lambda at: helps(at / "table15-xft", at / "table15-xft-fixed-10"),
    ),
    Claim(
        "Of the demonstrations, text gets more attention than audio.",
        "Tables 4, 12",
        "share of text and label less share of audio, 10 pairs",
        lambda at: share_of_text(at / "table12"),
    ),
    Claim(
        "The share of audio grows with the number of pairs.",
        "Tables 4, 12",
        "10 pairs less 1",
        lambda at: share_grows(at / "table12"),
    ),
    Claim(
        "The first layer prefers audio.",
        "Figure 1",
        "by mass, 10 pairs",
        lambda at: prefers_audio(at / "figure1", 0, per="mass"),
    ),
    Claim(
        "The last layer prefers audio.",
        "Figure 1",
        "by mass, 10 pairs",
        lambda at: prefers_audio(at / "figure1", -1, per="mass"),
    ),
    Claim(
        "The same of the first layer, corrected for length.",
        "not in the paper",
        "per position, 10 pairs",
        lambda at: prefers_audio(at / "figure1", 0, per="token"),
    ),
    Claim(
        "The last demonstration gets most.",
        "Figure 1",
        "10 pairs, all layers",
        lambda at: last_gets_most(at / "figure1"),
    ),
    Claim(
        "The answer's text in a slot is found.",
        "Table 8",
        "clean less with it",
        lambda at: dearer(at / "table8-xft", shots(10), shots(10) | {"control": f"{GOLD}text"}),
    ),
    Claim(
        "The answer's audio alone buys nothing.",
        "Table 8",
        "with it less clean; undecided is what the paper has",
        lambda at: dearer(at / "table8-xft", shots(10) | {"control": f"{GOLD}audio"}, shots(10)),
    ),
    Claim(
        "The pair is better than its text.",
        "Table 8",
        "with the text less with the pair",
        lambda at: dearer(
            at / "table8-xft", shots(10) | {"control": f"{GOLD}text"}, shots(10) | {"control": f"{GOLD}pair"}
        ),
    ),
    Claim(
        "With the answer's text in a slot, audio gets a larger share.",
        "Table 8",
        "with it less clean",
        lambda at: gold_share(at / "table8-xft"),
    ),
    Claim("Audio spans are longer than texts.", "Table 11", "10 pairs", lambda at: longer(at / "table11")),
    Claim(
        "Selection after pairs beats the acoustic 1-best.",
        "Table 6",
        "published rule",
        lambda at: wrong(at / "table6", "micl paper-code", "acoustic 1-best"),
    ),
    Claim(
        "So does selection by the model tuned on other languages.",
        "Table 6",
        "published rule",
        lambda at: wrong(at / "table6-xft", "micl paper-code", "acoustic 1-best"),
    ),
    Claim(
        "So does selection by the model tuned on the target.",
        "Table 6",
        "published rule",
        lambda at: wrong(at / "table6-tft", "micl paper-code", "acoustic 1-best"),
    ),
    Claim(
        "It matches or beats the n-gram model as a re-ranker.",
        "Table 6",
        "published rule",
        lambda at: wrong(at / "table6", "micl paper-code", "n-gram interpolated"),
    ),
    Claim(
        "The n-gram model in the beam beats every re-ranker.",
        "Tables 6, 9",
        "against the published rule",
        lambda at: wrong(at / "table6", "joint decoding", "micl paper-code"),
    ),
    Claim(
        "Transcripts the model writes are worse than the acoustic 1-best.",
        "Tables 5, 10",
        "after 8 pairs",
        lambda at: wrong(at / "table5", "acoustic 1-best", "prompted"),
    ),
    Claim(
        "Tuned on the target, it writes better ones.",
        "Table 5",
        "after 8 pairs, base less tft",
        lambda at: wrong(at / "table5-tft", "prompted", "prompted", of=at / "table5"),
    ),
    Claim(
        "Tuned without demonstrations, it still writes worse ones than the acoustic 1-best.",
        "Table 10",
        "no demonstrations",
        lambda at: wrong(at / "table10-asr-ft", "acoustic 1-best", "prompted"),
    ),
    Claim("Retrieved demonstrations are better than random ones.", "Table 13", "by audio, 3 pairs", retrieved),
)
