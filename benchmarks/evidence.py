"""How long a grid of knockouts takes the organism: 6 edges, 4 windows and everywhere, 40 utterances with 8 pairs.

python benchmarks/evidence.py
"""

from __future__ import annotations

import time

import attnlens
from attnlens.evidence.ablate import knockout_grid
from attnlens.evidence.random_keys import BESIDE
from attnlens.run.ablation_spec import EDGES
from attnlens.run.corpora import find_corpus


def main() -> None:
    lens, speech = attnlens.load("organism", dtype="float32"), find_corpus("quechua")
    prompts = [attnlens.build_prompt(one, speech.pool[:8], condition="micl") for one in speech.test[:40]]
    print("| beside each cut | cells | seconds of processor time | limit |\n|---|---|---|---|")
    for controls in ((), BESIDE):
        start = time.process_time()
        grid = knockout_grid(lens, prompts, edges=EDGES, windows="each", controls=controls, tick=lambda: None)
        spent = time.process_time() - start
        print(f"| {', '.join(controls) or 'nothing'} | {len(grid)} | {spent:.0f} | {'-' if controls else '120'} |")


if __name__ == "__main__":
    main()
