"""By which path do demonstrations act? Every edge of attention cut, everywhere and layer by layer, beside random keys.

python -m experiments.own.knockouts runs/own/knockouts [--model organism] [--limit 4] [--shots 8]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import attnlens
from attnlens.context.prompt import Prompt
from attnlens.context.retrieval import Query, retrieve
from attnlens.evidence.ablate import ablate
from attnlens.run.corpora import find_corpus

EDGES = (
    "output -> demo_text",
    "output -> demo_audio",
    "output -> target_audio",
    "demo_text -> demo_audio",
    "target_audio -> demo_audio",
    "target_audio -> demo_text",
)


def prompts_of(corpora: list[str], *, limit: int, shots: int) -> list[Prompt]:
    found = []
    for name in corpora:
        speech = find_corpus(name)
        targets = speech.test[:limit]
        rankings = retrieve([Query(one) for one in targets], speech.pool, k=shots, retriever="audio")
        for target, ranking in zip(targets, rankings, strict=True):
            shown = [speech[one] for one in ranking.ids]
            found.append(attnlens.build_prompt(target, shown, condition="micl"))
    return found


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
    everywhere = ablate(lens, prompts, [*EDGES, "icl", "a-icl", "mismatched-pairs"])
    layers = ablate(lens, prompts, EDGES, windows="each", controls=())
    asked.out.mkdir(parents=True, exist_ok=True)
    everywhere.to_frame().to_csv(asked.out / "everywhere.csv", index=False)
    layers.to_frame().to_csv(asked.out / "layers.csv", index=False)
    about = {"model": asked.model, "prompts": len(prompts), "shots": asked.shots, "corpora": asked.corpora}
    (asked.out / "about.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    (asked.out / "findings.txt").write_text(f"{everywhere.findings}\n", encoding="utf-8")
    print(everywhere.to_frame().to_string())
    print(everywhere.findings)


if __name__ == "__main__":
    main()
