"""Runs every experiment on the organism, and writes docs/results from the run directories; nothing there is typed.

python -m experiments.results run [NAME...]     into build/results, going on where it stopped
python -m experiments.results write             pages and figures from what is there
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attnlens.errors import AttnlensError
from experiments.claims import CLAIMS

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "results"
PAGES = ROOT / "docs" / "results"
ABLATION = re.compile(r"^windows:", re.MULTILINE)
PAPER, OWN = ROOT / "experiments" / "paper" / "organism", ROOT / "experiments" / "own"
FIGURES = {
    "paper/figure1": "layer_demo",
    "paper/figure2": "layer_demo_controls",
    "own/bias": "modality_bias",
    "own/shots": "shots_cer",
}


def steps() -> Iterator[tuple[str, list[str]]]:
    """Yield every step by name, as the command that makes it."""
    for path in sorted(PAPER.glob("*.yaml")):
        command = "rerank" if "acoustic:" in path.read_text(encoding="utf-8") else "run"
        if path.stem == "table13":
            for retriever in ("audio", "random"):
                yield f"paper/table13-{retriever}", [command, str(path), "--retriever", retriever]
            continue
        yield f"paper/{path.stem}", [command, str(path)]
    for path in sorted(OWN.glob("*.yaml")):
        yield f"own/{path.stem}", ["ablate" if ABLATION.search(path.read_text(encoding="utf-8")) else "run", str(path)]


def run(names: Sequence[str]) -> int:
    import subprocess
    import time

    failed = 0
    for name, words in steps():
        if names and name not in names:
            continue
        folder = OUT / name
        # A re-ranking does not go on where it stopped: what is half done is done again.
        if (folder / "results.json").exists() or (folder / "tables" / "ablation.csv").exists():
            continue
        if words[0] != "run" and folder.exists():
            shutil.rmtree(folder)
        command = [sys.executable, "-m", "attnlens", "--quiet", *words, "--out", str(folder)]
        begun = time.monotonic()
        made = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        failed += made.returncode != 0
        print(f"{name}: {'done' if made.returncode == 0 else 'FAILED'} in {time.monotonic() - begun:.0f} s", flush=True)
    return failed


def write() -> int:
    PAGES.mkdir(parents=True, exist_ok=True)
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
    yield "# Results on the organism"
    yield ""
    yield MADE
    yield ""
    yield CAUTION
    yield ""
    yield "## Which of the paper's observations hold here"
    yield ""
    yield READING
    yield ""
    yield "| the paper | where | asked as | estimate | 95 % | n | here |"
    yield "|---|---|---|---|---|---|---|"
    for claim in CLAIMS:
        try:
            found = claim.ask(OUT / "paper")
        except (FileNotFoundError, AttnlensError, StopIteration) as error:
            yield f"| {claim.says} | {claim.source} | {claim.asks} | | | | not run: {type(error).__name__} |"
            continue
        ends = f"[{found.low:+.2f}, {found.high:+.2f}]"
        yield (
            f"| {claim.says} | {claim.source} | {claim.asks} | {found.estimate:+.2f} {found.unit} | {ends} | {found.n} "
            f"| **{found.verdict}** |"
        )
    yield ""
    yield "[All tables beside the paper's](paper.md) · [what the paper did not do](own.md)"
    yield ""
    yield "## What they were made with"
    yield ""
    for line in provenance():
        yield f"* {line}"


CAUTION = """\
**A model organism is no large speech LLM.** What follows are results on 1.7 million parameters that were trained to
learn spellings from pairs, on synthetic speech, with small samples. They show that every experiment runs and what its
answer looks like. Where an observation of the paper holds here, that is no evidence for it; where it does not, none
against it."""
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
        found[
            f"{model['name']}, weights `{model['weights']}`, attnlens {told['attnlens']}, torch {packages['torch']}, "
            f"transformers {packages['transformers']}, {model['dtype']}"
        ] = None
    yield from found
    count = len(list(OUT.glob("*/*/spec.yaml")))
    yield f"{count} run directories under `build/results`; `python -m experiments.results run` makes them"


BASE = {name: {"model": "base"} for name in ("table3", "table5", "table12")}
"""Where the paper has rows of several models, the organism stands beside the one that nobody tuned."""
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
    publication, _ = find_table("paper:table2")
    for name, table in publication.tables.items():
        folders = [OUT / "paper" / name]
        if name == "table13":
            folders = [OUT / "paper" / f"table13-{one}" for one in ("audio", "random")]
        elif name == "table5":
            folders.append(OUT / "paper" / "table5-asr")
        yield ""
        yield f"## {name.replace('table', 'Table ').replace('figure', 'Figure ')}: {table.title}"
        for folder in folders:
            try:
                beside = put_beside(folder, f"paper:{name}", only=BASE.get(name))
            except (FileNotFoundError, AttnlensError) as error:
                yield ""
                yield f"Not run: {type(error).__name__}."
                continue
            yield from beside_table(beside)
        for says in table.says:
            yield f"* the paper: {says}"
        if f"paper/{name}" in drawn:
            yield ""
            yield f"![{table.title}]({drawn[f'paper/{name}']})"
        for note in table.notes:
            yield ""
            yield f"*{note}*"


def beside_table(beside: Any) -> Iterator[str]:
    for measure, lines, keys, languages in beside.by_measure():
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("run", "write", "list"))
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    if asked.what == "list":
        print("\n".join(name for name, _ in steps()))
        return 0
    return run(asked.names) if asked.what == "run" else write()


if __name__ == "__main__":
    sys.exit(main())
