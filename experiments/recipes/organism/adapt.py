"""Trains the organism by `xft` and `tft` and sets both beside it: what training changed, with intervals and with power.

    python experiments/recipes/organism/adapt.py --out build/recipes

Needs the corpora of `speak.py` in build/recipes/other. Everything goes on where it stopped; what is done is kept.
Writes `organism.md`: bits per character and the modality bias of each adapter against the base.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attnlens.errors import AttnlensError, BadInput
from attnlens.run.folder import RunFolder, read_table
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.permutation import sign_flip
from attnlens.stats.power import detectable_difference

HERE = Path(__file__).parent
RECIPES = ("xft", "tft")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the organism by xft and tft and compare.")
    parser.add_argument("--out", type=Path, default=Path("build/recipes"))
    parser.add_argument("--limit", type=int, default=None, help="at most so many test utterances of each corpus")
    given = parser.parse_args()
    try:
        for recipe in RECIPES:
            call("train", str(HERE / f"{recipe}.yaml"), "--out", str(given.out / recipe))
        adapters = ",".join(["base=none", *(f"{one}={given.out / one / 'model'}" for one in RECIPES)])
        limit = [] if given.limit is None else ["--set", f"data.limit={given.limit}"]
        folder = given.out / "compared"
        call("run", str(HERE / "compare.yaml"), "--compare", adapters, "--out", str(folder), *limit)
        told = table(folder)
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    (given.out / "organism.md").write_text(told, encoding="utf-8")
    print(told)


def call(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "attnlens", *arguments], check=True)


def table(folder: Path) -> str:
    """Return the comparison: bits per character by shots and corpus, each adapter less the base, and the bias."""
    rows = {name: clean(folder / name) for name in ("base", *RECIPES)}
    lines = [
        "| adapter | corpus | context | base | with it | difference, bits per character | 95 % | p | detectable |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cells = list(dict.fromkeys((row["condition"], row["shots_asked"]) for row in rows["base"]))
    corpora = ("all", *dict.fromkeys(row["corpus"] for row in rows["base"]))
    lines += [
        bits(name, corpus, cell, rows["base"], rows[name]) for name in RECIPES for corpus in corpora for cell in cells
    ]
    lines += ["", "Modality bias, mean over layers (`tables/adapters.csv`):", ""]
    lines += ["| adapter | context | base | with it | difference | 95 % | n |", "|---|---|---|---|---|---|---|"]
    for row in read_table(folder / "tables" / "adapters.csv"):
        if row["corpus"] == "all" and row["measure"] == "bias":
            lines.append(
                f"| {row['adapter']} | {row['condition']} k={row['shots']} | {row['base']:+.3f} | {row['value']:+.3f} |"
                f" {row['difference']:+.3f} | {row['difference_low']:+.3f} to {row['difference_high']:+.3f} |"
                f" {row['utterances']} |"
            )
    return "\n".join(lines) + "\n"


def clean(folder: Path) -> list[dict[str, Any]]:
    found = [row for row in RunFolder(folder).read_items() if row["control"] == "none"]
    if any(row["status"] != "finished" for row in found):
        raise BadInput(f"{folder} is not finished", fix="run the same command again")
    return [dict(row) for row in found]


def bits(name: str, corpus: str, cell: tuple[str, str], base: list[dict[str, Any]], other: list[dict[str, Any]]) -> str:
    """Return one line; the utterance is the unit, and its seeds stand together."""
    sides = []
    for rows in (base, other):
        found: dict[str, Any] = {}
        for row in rows:
            if corpus in ("all", row["corpus"]) and (row["condition"], row["shots_asked"]) == cell:
                place = found.setdefault(f"{row['corpus']}/{row['utterance']}", np.zeros(2))
                place += [float(row["nll"]) / np.log(2), float(row["n_chars"])]
        sides.append(found)
    names = sorted(set(sides[0]) & set(sides[1]))
    before, after = (np.array([side[one] for one in names]) for side in sides)
    made = bootstrap(after[:, 0], minus=before[:, 0], per=before[:, 1])
    p = float(sign_flip(after[:, 0], minus=before[:, 0], per=before[:, 1]).p)
    least = detectable_difference(after[:, 0], minus=before[:, 0], per=before[:, 1]).difference
    told = cell[0] if cell[0] == "asr" else f"{cell[0]} k={cell[1]}"
    levels = [one[:, 0].sum() / one[:, 1].sum() for one in (before, after)]
    return (
        f"| {name} | {corpus} | {told} | {levels[0]:.2f} | {levels[1]:.2f} | {float(made.estimate):+.3f} |"
        f" {float(made.low):+.3f} to {float(made.high):+.3f} | {p:.4f} | {float(least):.3f} |"
    )


if __name__ == "__main__":
    main()
