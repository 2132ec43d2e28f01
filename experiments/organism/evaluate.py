"""Evaluates an organism on the embedded corpora: character errors and bits per character by context, all voices.

    python experiments/organism/evaluate.py build/organism/cpu/joint/model --corpora build/organism/corpora \
        --out build/organism/cpu/evaluation --seeds 0 1 2

Writes `answers.jsonl` (one line per utterance and cell) and `table.md`. Intervals are BCa bootstraps over
utterances (10,000 resamples, all seeds of an utterance together).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.progress import Progress

from attnlens.data.read import read_corpus
from attnlens.errors import AttnlensError
from attnlens.models.clips import reusing_clips
from attnlens.models.load import load
from attnlens.organism.evaluation import CELLS, Answer, evaluate
from attnlens.stats.bootstrap import bootstrap

ORDER = ("asr k=0", "t-icl k=8", "icl k=8", "micl k=8")
"""Contexts, each of which should make the reference cheaper than the one before."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate an organism on the embedded corpora.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=0, help="utterances of each corpus; 0 is all")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    try:
        corpora = [read_corpus(one) for one in sorted(given.corpora.iterdir()) if one.is_dir()]
        lens = load(str(given.model), dtype="float32", device_map=given.device)
        asked = sum(len(corpus.test[: given.limit or None]) for corpus in corpora) * len(given.seeds) * len(CELLS)
        with reusing_clips(lens), Progress() as progress:
            answers = list(
                progress.track(
                    evaluate(lens, corpora, seeds=given.seeds, limit=given.limit), asked, description="asking"
                )
            )
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(one), ensure_ascii=False) for one in answers]
    (given.out / "answers.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = render(answers)
    (given.out / "table.md").write_text(table, encoding="utf-8")
    print(table)


def render(answers: list[Answer]) -> str:
    """Return the table: one row per cell, what each context saves, then character errors by language and by voice."""
    names = sorted({one.utterance for one in answers})
    sums = {cell: np.zeros((3, len(names))) for cell in dict.fromkeys(one.cell for one in answers)}
    for one in answers:
        sums[one.cell][:, names.index(one.utterance)] += [one.edits, one.bits, one.characters]
    rows = ["| context | CER % | 95 % | bits per character | 95 % | utterances |", "|---|---|---|---|---|---|"]
    for cell, (edits, bits, characters) in sums.items():
        cer, each = (bootstrap(one, per=characters) for one in (100 * edits, bits))
        rows.append(
            f"| {cell} | {cer.estimate:.1f} | {cer.low:.1f}-{cer.high:.1f} |"
            f" {each.estimate:.2f} | {each.low:.2f}-{each.high:.2f} | {len(names)} |"
        )
    rows += ["", "Bits per character less than in the context before, paired over utterances:", ""]
    for before, after in pairwise(one for one in ORDER if one in sums):
        saved = bootstrap(sums[before][1] - sums[after][1], per=sums[after][2])
        rows.append(f"- {before} -> {after}: {saved.estimate:.2f} [{saved.low:.2f}, {saved.high:.2f}]")
    for cell in ("micl k=8", "micl k=16"):
        rows += ["", f"CER % of {cell}, by language and voice:", ""]
        pairs = [one for one in answers if one.cell == cell]
        for key in ("language", "voice"):
            for value in sorted({getattr(one, key) for one in pairs}):
                part = [one for one in pairs if getattr(one, key) == value]
                rows.append(f"- {value}: {100 * sum(o.edits for o in part) / sum(o.characters for o in part):.1f}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
