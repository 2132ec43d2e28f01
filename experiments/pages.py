"""Writes docs/results from the run directories: tables, figures and verdicts; nothing there is typed."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from attnlens.errors import AttnlensError
from attnlens.models.registry import resolve
from experiments.adapters import ROWS, Row
from experiments.claims import CLAIMS, Asked, Claim

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "results"
PAGES = ROOT / "docs" / "results"
OWN = ROOT / "experiments" / "own"
FIGURES = {
    "paper/figure1": "layer_demo",
    "paper/figure2-xft": "layer_demo_controls",
    "own/bias": "modality_bias",
    "own/shots": "shots_cer",
}


def write() -> int:
    PAGES.mkdir(parents=True, exist_ok=True)
    for old in PAGES.glob("*.png"):
        old.unlink()
    drawn = figures()
    (PAGES / "paper.md").write_text("\n".join(paper_page(drawn)) + "\n", encoding="utf-8")
    (PAGES / "own.md").write_text("\n".join(own_page(drawn)) + "\n", encoding="utf-8")
    (PAGES / "index.md").write_text("\n".join(index_page()) + "\n", encoding="utf-8")
    return 0


def figures() -> dict[str, str]:
    from attnlens.plots.catalogue import draw_figures
    from attnlens.plots.source import Source

    drawn = {}
    for name, figure in FIGURES.items():
        if not (OUT / name / "tables").exists():
            continue
        made = draw_figures(
            [Source.open(OUT / name)], OUT / name / "figures", names=[figure], formats=["png"], size="page"
        )
        for path in made.files.get(figure, ()):
            if path.suffix == ".png":
                target = PAGES / f"{name.replace('/', '-')}.png"
                shutil.copy(path, target)
                drawn[name] = target.name
    return drawn


def index_page() -> Iterator[str]:
    answers = [(claim, answer(claim)) for claim in CLAIMS]
    counts = [found.n for _, found in answers if isinstance(found, Asked)]
    yield "# Results on the organism"
    yield ""
    yield MADE
    yield ""
    if counts:
        yield CAUTION.format(millions=parameters() / 1e6, fewest=min(counts), most=max(counts))
        yield ""
    yield "## Which of the paper's observations hold here"
    yield ""
    yield READING
    yield ""
    yield "| the paper | where | asked as | estimate | 95 % | n | here |"
    yield "|---|---|---|---|---|---|---|"
    for claim, found in answers:
        asked = f"| {claim.says} | {claim.source} | {claim.asks} | "
        if isinstance(found, str):
            yield f"{asked}| | | not run: {found} |"
            continue
        low, high = (f"{one:+.2f}" for one in (found.low, found.high))
        yield f"{asked}{found.estimate:+.2f} {found.unit} | [{low}, {high}] | {found.n} | **{found.verdict}** |"
    yield ""
    yield "[All tables beside the paper's](paper.md) · [what the paper did not do](own.md)"
    yield ""
    yield "## What they were made with"
    yield ""
    for line in provenance():
        yield f"* {line}"


def answer(claim: Claim) -> Asked | str:
    """Ask a claim of the runs, or say why it cannot be asked."""
    try:
        return claim.ask(OUT / "paper")
    except (FileNotFoundError, AttnlensError, StopIteration) as error:
        return type(error).__name__


def parameters() -> int:
    """Return how many parameters the organism has."""
    from safetensors import safe_open

    count = 0
    for path in Path(resolve("organism")).glob("*.safetensors"):
        with safe_open(path, framework="numpy") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


CAUTION = """\
**A model organism is no large speech LLM.** What follows are results on {millions:.1f} million parameters that were
trained to learn spellings from pairs, on synthetic speech, with {fewest} to {most} utterances for each number. They
show that every experiment runs and what its answer looks like. Where an observation of the paper holds here, that is no
evidence for it; where it does not, none against it."""
READING = """\
Each is asked as a difference whose sign the paper predicts. *holds*: the 95 % interval lies above zero;
*does not hold*: below; *undecided*: neither. Intervals are bootstraps over utterances of all languages, and are not
corrected for asking often."""
DIRECTIONS = """\
Other languages and another model: only directions can be compared. *As published* is the paper's computation with its
faults, *by default* ours; [how to read a comparison](../paper.md#how-to-read-a-comparison)."""
OWNED = """\
Specs and scripts under `experiments/own/`, run on the organism; the same with `--model NAME --corpora YOURS` on a
checkpoint."""
MADE = "<!-- made by `python -m experiments.results write` from run directories; change the experiments, not this -->"


def provenance() -> Iterator[str]:
    found: dict[str, None] = {}
    for path in sorted(OUT.glob("*/*/provenance.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        model, packages = told["model"], told["packages"]
        # Whose weights an adapter changes stands in the line of the runs without one.
        if model["adapter"] is not None:
            continue
        found[
            f"{model['name']}, weights `{model['weights']}`, attnlens {told['attnlens']}, torch {packages['torch']}, "
            f"transformers {packages['transformers']}, {model['dtype']}"
        ] = None
    yield from found
    count = len(list(OUT.glob("*/*/spec.yaml")))
    yield f"{count} run directories under `build/results`; `make results` makes them and these pages"


TITLES = {
    "perplexity": "perplexity",
    "wer": "WER %",
    "share": "share %",
    "demo-share": "share of demonstrations %",
    "tokens": "tokens",
}


def paper_page(drawn: dict[str, str]) -> Iterator[str]:
    from attnlens.run.published.beside import put_beside
    from attnlens.run.published.read import find_table

    yield "# The paper's tables on the organism"
    yield ""
    yield MADE
    yield ""
    yield DIRECTIONS
    if tuned := trainings():
        yield ""
        yield tuned
    publication, _ = find_table("paper:table2")
    for name, table in publication.tables.items():
        yield ""
        yield f"## {name.replace('table', 'Table ').replace('figure', 'Figure ')}: {table.title}"
        for row in ROWS.get(name, (Row(name),)):
            if told := " ".join(
                one for one in (f"With the adapter `{row.adapter}`." if row.adapter else "", row.says) if one
            ):
                yield ""
                yield told
            try:
                beside = put_beside(OUT / "paper" / row.name, f"paper:{name}", only=row.only)
            except (FileNotFoundError, AttnlensError) as error:
                yield ""
                yield f"Not run: {type(error).__name__}."
                continue
            yield from beside_table(beside, row)
            for one in beside.left_out:
                yield ""
                yield f"Left out: {one}."
        for says in table.says:
            yield f"* the paper: {says}"
        for row in ROWS.get(name, (Row(name),)):
            if f"paper/{row.name}" in drawn:
                yield ""
                yield f"![{table.title}]({drawn[f'paper/{row.name}']})"
        for note in table.notes:
            yield ""
            yield f"*{note}*"


def trainings() -> str:
    """Say how small the trainings were, as their folders have it."""
    specs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(OUT.glob("adapters/*/spec.yaml"))]
    if not specs:
        return ""
    steps, sizes = {one["steps"] for one in specs}, {one["options"]["batch_size"] for one in specs}
    return (
        f"{len(specs)} adapters were tuned for the rows that ask for one, with {spread(steps)} steps of "
        f"{spread(sizes)} episodes each: enough to see a direction, no more. The same recipes in full are compared in "
        "[adaptation](../adaptation.md)."
    )


def spread(numbers: set[int]) -> str:
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def beside_table(beside: Any, row: Row) -> Iterator[str]:
    for measure, every, keys, languages in beside.by_measure():
        lines = [line for line in every if row.keeps(line.where.get("system", ""))]
        head = [
            *keys,
            f"{TITLES[measure]}, published ({', '.join(languages)})",
            "ours",
            "n",
            "as published",
            "by default",
        ]
        yield ""
        yield f"| {' | '.join(head)} |"
        yield "|" + "---|" * len(head)
        for line in lines:
            printed = ", ".join(f"{value:g}" for value in line.printed.values())
            cells = [line.where.get(key, "") for key in keys]
            yield (
                "| "
                + " | ".join(
                    [*cells, printed, line.corpus, str(line.utterances), ends(line.as_published), ends(line.default)]
                )
                + " |"
            )


def ends(found: Any) -> str:
    if found is None:
        return ""
    form = ".0f" if abs(found.estimate) >= 1000 else ".2f"
    interval = "" if found.low is None else f" [{found.low:{form}}, {found.high:{form}}]"
    return f"{found.estimate:{form}}{interval}"


def own_page(drawn: dict[str, str]) -> Iterator[str]:
    yield "# What the paper did not do"
    yield ""
    yield MADE
    yield ""
    yield OWNED
    for path in sorted(OWN.glob("*.yaml")):
        folder = OUT / "own" / path.stem
        yield ""
        yield f"## {path.stem.replace('-', ' ').capitalize()}"
        yield ""
        yield " ".join(line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
        for name in COLUMNS:
            if (folder / "tables" / f"{name}.csv").exists():
                yield from own_table(folder / "tables" / f"{name}.csv", name)
        yield from findings(folder)
        if f"own/{path.stem}" in drawn:
            yield ""
            yield f"![{path.stem}]({drawn[f'own/{path.stem}']})"


def findings(folder: Path) -> Iterator[str]:
    from attnlens.stats.findings import Findings

    read_back = Findings.read(folder) if (folder / "findings.json").exists() else None
    if read_back is None:
        return
    yield ""
    yield "Findings, by stated rules:"
    yield ""
    for one in read_back:
        yield f"* **{one.verdict}**: {one.claim}"


COLUMNS = {
    "bias": ("condition", "shots", "control", "layer", "utterances", "bias", "log_ratio"),
    "errors": ("condition", "shots", "control", "utterances", "cer", "wer", "nll_per_char"),
    "controls": ("control", "condition", "shots", "measure", "utterances", "difference", "p", "p_holm"),
    "ablation": (
        "depth",
        "ablation",
        "layers",
        "n",
        "cost",
        "low",
        "high",
        "mass",
        "equal_count",
        "equal_mass",
        "verdict",
    ),
    "faithfulness": (),
    "label_nulls": (),
    "sinks": (),
}
"""Which tables are shown, and which of their columns; none is all."""


def own_table(path: Path, name: str) -> Iterator[str]:
    rows = read(path)
    several = any(row.get("corpus") == "all" for row in rows)
    kept = [row for row in rows if not several or row["corpus"] == "all"]
    if name == "bias":
        kept = [row for row in kept if row["control"] == "none"]
    if not kept:
        return
    columns = [one for one in COLUMNS[name] or kept[0] if one in kept[0]]
    yield ""
    yield f"{name.replace('_', ' ').capitalize()}:"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in kept:
        yield "| " + " | ".join(number(row, column) for column in columns) + " |"


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(row: dict[str, str], column: str) -> str:
    text = row[column]
    if not text or text.lstrip("-").isdigit():
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    told = "" if math.isnan(value) else f"{value:.3f}"
    low, high = row.get(f"{column}_low", ""), row.get(f"{column}_high", "")
    return f"{told} [{float(low):.3f}, {float(high):.3f}]" if low and high else told
