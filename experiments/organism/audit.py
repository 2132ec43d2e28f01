"""Audits the voices of a training pool: how often the trained ear names their sounds rightly. Never run on test voices.

    python experiments/organism/audit.py build/organism/cpu/encoder/model --pool build/organism/cpu/pool \
        --spec experiments/organism/cpu/encoder.yaml --out build/organism/cpu/audit.md

Tells the share of positions whose sound is named rightly, by language and by variant of the voice. A voice far below
the others says other sounds than espeak-ng names; it stays in training, since test voices may be like it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from attnlens.errors import AttnlensError
from attnlens.organism.body import read_parts
from attnlens.organism.encoder import EncoderRecipe
from attnlens.train.spec import read_train_spec


def main() -> None:
    parser = argparse.ArgumentParser(description="Audit the voices of a training pool.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=3000)
    given = parser.parse_args()
    try:
        options = {**read_train_spec(given.spec).options, "pool": str(given.pool)}
        recipe = EncoderRecipe(seed=0, device="cpu", **options)
        recipe.module.load_state_dict(read_parts(given.model, recipe.size))
        recipe.module.eval()
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    pool = recipe.pool
    numbers = np.random.default_rng(0).permutation(len(pool))[: given.clips].tolist()
    with torch.no_grad():
        shares = np.asarray(recipe.shares(pool, numbers))
    names = [pool.voices[pool.voice[number]].partition("+") for number in numbers]
    lines = [f"{len(numbers)} clips of training voices: {100 * shares.mean():.1f} % of positions named rightly.", ""]
    for title, place in (("language", 0), ("variant", 2)):
        lines += [f"| {title} | % | clips |", "|---|---|---|"]
        keys = np.asarray([name[place] for name in names])
        rows = sorted((float(shares[keys == key].mean()), str(key), int((keys == key).sum())) for key in set(keys))
        lines += [f"| {key} | {100 * mean:.1f} | {count} |" for mean, key, count in rows] + [""]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
