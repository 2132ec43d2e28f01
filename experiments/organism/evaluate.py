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
from pathlib import Path

import numpy as np
from rich.progress import Progress

from attnlens.data.read import read_corpus
from attnlens.errors import AttnlensError
from attnlens.models.clips import reusing_clips
from attnlens.models.load import load
from attnlens.organism.evaluation import CELLS, Answer, evaluate
from attnlens.stats.bootstrap import bootstrap


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
    """Return the table: one row per cell, then character errors by language and by voice at 8 pairs."""
    rows = ["| context | CER % | 95 % | bits per character | 95 % | utterances |", "|---|---|---|---|---|---|"]
    for cell in dict.fromkeys(one.cell for one in answers):
        chosen = [one for one in answers if one.cell == cell]
        names = sorted({one.utterance for one in chosen})
        sums = np.zeros((len(names), 3))
        for one in chosen:
            sums[names.index(one.utterance)] += [one.edits, one.bits, one.characters]
        edits, bits, characters = sums.T
        cer, each = (bootstrap(one, per=characters) for one in (100 * edits, bits))
        rows.append(
            f"| {cell} | {cer.estimate:.1f} | {cer.low:.1f}-{cer.high:.1f} |"
            f" {each.estimate:.2f} | {each.low:.2f}-{each.high:.2f} | {len(names)} |"
        )
    rows += ["", "CER % with 8 pairs, by language and voice:", ""]
    pairs = [one for one in answers if one.cell == "micl k=8"]
    for key in ("language", "voice"):
        for value in sorted({getattr(one, key) for one in pairs}):
            part = [one for one in pairs if getattr(one, key) == value]
            rows.append(f"- {value}: {100 * sum(o.edits for o in part) / sum(o.characters for o in part):.1f}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
