"""Which measure of attention foretells what a cut costs? Ranks of layers x spans by measure against ranks by knockout.

python -m experiments.own.faithfulness runs/own/faithfulness [--model organism] [--limit 4] [--shots 8]
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

import attnlens
from attnlens.evidence.ablate import ablate
from attnlens.stats.rank import rank_correlation
from attnlens.traces.views import density
from experiments.own.knockouts import prompts_of

SPANS = ("demo_audio", "demo_text", "target_audio", "task", "demo_label")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="organism")
    parser.add_argument("--corpora", default="guarani,quechua,maori")
    parser.add_argument("--limit", type=int, default=4)
    parser.add_argument("--shots", type=int, default=8)
    asked = parser.parse_args()
    lens = attnlens.load(asked.model)
    prompts = prompts_of(asked.corpora.split(","), limit=asked.limit, shots=asked.shots)
    trace = lens.trace(prompts, measures=("mass", "contribution", "logit_effect"))
    cuts = ablate(lens, prompts, [f"output -> {span}" for span in SPANS], windows="each", controls=())
    cost = np.full((len(prompts), lens.n_layers, len(SPANS)), np.nan)
    for effect in cuts.effects:
        span = str(effect.asked).split(" -> ")[1]
        cost[:, int(effect.layers), SPANS.index(span)] = effect.change / cuts.tokens
    measures: dict[str, Any] = {
        "mass": trace["mass"],
        "density (mass per token over even attention)": density(trace),
        "contribution (norm of what is written)": trace["contribution"],
        "direct effect on the logit": np.abs(trace["logit_effect"]),
    }
    rows: list[list[Any]] = []
    for name, found in measures.items():
        values = found.sel(query="output", source=list(SPANS)).mean("head").transpose("item", "layer", "source").values
        made = rank_correlation(values, cost)
        ends = [float(one) for one in (made.interval.low, made.interval.high)]
        rows.append([name, made.rho, *ends, float(made.test.p), made.cells, len(prompts)])
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "faithfulness.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["measure", "rho", "low", "high", "p", "cells", "utterances"])
        writer.writerows(rows)
    about = {"model": asked.model, "prompts": len(prompts), "shots": asked.shots, "corpora": asked.corpora}
    (asked.out / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    for row in rows:
        print("{}: rho {:+.2f} [{:+.2f}, {:+.2f}], p {:.4f}, {} cells, {} utterances".format(*row))


if __name__ == "__main__":
    main()
