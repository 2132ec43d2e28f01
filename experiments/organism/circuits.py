"""Cuts the organism's edges one by one and tells mass beside effect: its known circuits, and mass without use.

    python experiments/organism/circuits.py organism --corpora build/organism/corpora --out build/organism/cpu/circuits

Writes `circuits.csv` and `circuits.md`: test utterances of all corpora with 8 random pairs each.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from rich.progress import Progress

from attnlens.context.prompt import Prompt
from attnlens.context.ranked import ranked_prompts
from attnlens.context.retrieval.base import Query
from attnlens.data.corpus import Corpus
from attnlens.data.read import read_corpus
from attnlens.errors import AttnlensError
from attnlens.models.clips import reusing_clips
from attnlens.models.load import load
from attnlens.organism.circuits import EDGES, Cut, cut_edges

SHOTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut the organism's edges one by one.")
    parser.add_argument("model")
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=12, help="utterances of each corpus")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        corpora = [read_corpus(one) for one in sorted(given.corpora.iterdir()) if one.is_dir()]
        lens = load(given.model, dtype="float32")
        asked = [prompt for corpus in corpora for prompt in prompts(corpus, given.limit, given.seed)]
        with reusing_clips(lens), Progress() as progress:
            task = progress.add_task("cutting", total=1 + len(EDGES) * (lens.n_layers + 1))
            cuts = cut_edges(lens, asked, tick=lambda: progress.advance(task))
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / "circuits.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Cut)])
        writer.writeheader()
        writer.writerows(asdict(cut) for cut in cuts)
    table = render(cuts, lens.n_layers, len(asked))
    (given.out / "circuits.md").write_text(table, encoding="utf-8")
    print(table)


def prompts(corpus: Corpus, limit: int, seed: int) -> list[Prompt]:
    queries = [Query(one) for one in corpus.test[:limit]]
    return ranked_prompts(
        queries, corpus, shots=SHOTS, retriever="random", condition="micl", order="as-given", seed=seed
    )


def render(cuts: list[Cut], layers: int, asked: int) -> str:
    """Return two tables: mass by edge and layer, and the change of bits and CER when it is cut there."""
    whole, rest = cuts[0], cuts[1:]
    heads = "| edge | " + " | ".join([*(f"L{layer}" for layer in range(layers)), "all"]) + " |"
    rule = "|---" * (layers + 2) + "|"
    parts = [
        f"{asked} prompts with {SHOTS} pairs; whole model: {whole.bits:.2f} bits per character, CER {whole.cer:.1f} %."
    ]
    cells: tuple[tuple[str, Callable[[Cut], str]], ...] = (
        ("Mean mass", lambda cut: f"{cut.mass:.2f}"),
        ("CER % when cut", lambda cut: f"{cut.cer:.1f}"),
        ("Bits per character more when cut", lambda cut: f"{cut.bits - whole.bits:+.2f}"),
    )
    for title, cell in cells:
        parts += ["", f"{title}:", "", heads, rule]
        for rows, keys in dict.fromkeys((cut.queries, cut.keys) for cut in rest):
            line = [cell(cut) for cut in rest if (cut.queries, cut.keys) == (rows, keys)]
            parts.append(f"| {rows} -> {keys} | " + " | ".join(line) + " |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
