"""Puts the organism's acoustic models in their place and measures them: error rates, what their N-best lists hold.

    python experiments/organism/acoustic.py --runs build/organism/acoustic/runs --corpora build/organism/corpora \
        --out build/organism/acoustic

For each corpus the run's exported model is copied to `--out`, its test and dev speech is decoded, and `table.md`,
`figures.json` and the lists in `nbest/` are written. Joint decoding uses a character n-gram of the pool's
transcripts; its weights are tuned on dev. Texts are compared as they are: the apostrophe is a letter in Guarani.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.baselines import oracle
from attnlens.asr.candidates import Candidates
from attnlens.asr.error_rate import ErrorCounts, count_errors
from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.load_acoustic import load_acoustic
from attnlens.asr.nbest import NBest, write_nbest
from attnlens.data.corpus import Corpus
from attnlens.data.read import read_corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import AttnlensError, BadInput
from attnlens.stats.bootstrap import bootstrap

SIZES = (1, 2, 5, 10, 20, 50, 100)
ORDER = 5
LM_WEIGHTS = (0.2, 0.4, 0.6, 0.8, 1.0)
BONUSES = (0.0, 0.5, 1.0)
NORMALISER = "none"


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the organism's acoustic models.")
    parser.add_argument("--runs", type=Path, required=True, help="folders of `attnlens train`, one per corpus")
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        found = [evaluate(one, given.runs, given.out) for one in read_all(given.corpora)]
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    table = render(found)
    (given.out / "table.md").write_text(table, encoding="utf-8")
    (given.out / "figures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table)


def read_all(folder: Path) -> list[Corpus]:
    return [read_corpus(one) for one in sorted(folder.iterdir()) if (one / "manifest.jsonl").is_file()]


def evaluate(corpus: Corpus, runs: Path, out: Path) -> dict[str, Any]:
    """Measure one language."""
    folder = out / corpus.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(runs / corpus.name / "model", folder)
    model = load_acoustic(folder)
    if not isinstance(model, CtcModel):
        raise BadInput(f"{folder} is no CTC model")
    said = [one.text for one in corpus.test]
    began = time.process_time()
    frames = model.log_probabilities([one.audio for one in corpus.test])
    heard = time.process_time() - began
    began = time.process_time()
    lists = model.nbest(corpus.test, n=10)
    searched = time.process_time() - began - heard
    kept = out / "nbest"
    kept.mkdir(exist_ok=True)
    write_nbest(lists, kept / f"{corpus.name}.test.jsonl")
    write_nbest(model.nbest(corpus.dev, n=10), kept / f"{corpus.name}.dev.jsonl")
    weight, bonus, joint = jointly(model, corpus)
    write_nbest(joint, kept / f"{corpus.name}.test.joint.jsonl")
    longest = model.nbest(corpus.test, n=max(SIZES))
    seconds = sum(one.audio.seconds for one in corpus.test)
    return {
        "language": corpus.name,
        "utterances": len(said),
        "words": sum(len(text.split()) for text in said),
        "bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        "frames": sum(map(len, frames)),
        "realtime_model": seconds / heard,
        "realtime_search": seconds / max(searched, 1e-9),
        "wer": rates(best(lists), said),
        "cer": rates(best(lists), said, unit="characters"),
        "oracle": rates(chosen(lists, corpus.test), said),
        "anti_oracle": rates(chosen(lists, corpus.test, worst=True), said),
        "joint": rates(best(joint), said),
        "joint_oracle": rates(chosen(joint, corpus.test), said),
        "joint_weights": {"lm": weight, "bonus": bonus, "order": ORDER},
        "curve": {size: rates(chosen(longest, corpus.test, size=size), said)["rate"] for size in SIZES},
    }


def jointly(model: CtcModel, corpus: Corpus) -> tuple[float, float, list[NBest]]:
    """Decode with an n-gram of the pool in the beam, its weights tuned on dev."""
    lm = train_ngram([one.text for one in corpus.pool], order=ORDER, unit="characters")
    tried = []
    for weight in LM_WEIGHTS:
        for bonus in BONUSES:
            lists = model.nbest(corpus.dev, n=1, lm=lm, lm_weight=weight, unit_bonus=bonus)
            wrong = int(counted(best(lists), [one.text for one in corpus.dev]).errors.sum())
            tried.append((wrong, weight, bonus))
    _, weight, bonus = min(tried)
    return weight, bonus, model.nbest(corpus.test, n=10, lm=lm, lm_weight=weight, unit_bonus=bonus)


def best(lists: Sequence[NBest]) -> list[str]:
    return [one.best.text if len(one) else "" for one in lists]


def chosen(
    lists: Sequence[NBest], utterances: Sequence[Utterance], *, worst: bool = False, size: int | None = None
) -> list[str]:
    """Return the best or the worst of each list, cut to a size."""
    import numpy as np

    from attnlens.asr.language_model import TextScore

    unscored = TextScore(np.zeros(0), 0.0)
    cut = [NBest(one.utterance_id, one.hypotheses[:size]) for one in lists]
    bare = [Candidates.of(one, [unscored] * len(one)) for one in cut]
    return oracle(bare, [one.text for one in utterances], worst=worst, normaliser=NORMALISER)


def counted(texts: Sequence[str], said: Sequence[str], unit: Any = "words") -> ErrorCounts:
    return count_errors(list(said), list(texts), unit=unit, normaliser=NORMALISER)


def rates(texts: Sequence[str], said: Sequence[str], unit: Any = "words") -> dict[str, float]:
    counts = counted(texts, said, unit)
    interval = bootstrap(counts.errors, per=counts.length, resamples=2_000)
    return {"rate": counts.rate, "low": interval.low, "high": interval.high}


def render(found: Sequence[dict[str, Any]]) -> str:
    def told(rate: dict[str, float]) -> str:
        return f"{100 * rate['rate']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"

    columns = ["language", "utterances", "words", "WER %", "CER %", "10-best oracle WER %", "less than 1-best",
               "10-best anti-oracle %", "joint WER %", "joint oracle %", "KB"]  # fmt: skip
    rows = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for one in found:
        less = 1 - one["oracle"]["rate"] / one["wer"]["rate"]
        cells = [one["language"], one["utterances"], one["words"], told(one["wer"]), told(one["cer"]),
                 told(one["oracle"]), f"{100 * less:.0f} %", f"{100 * one['anti_oracle']['rate']:.1f}",
                 told(one["joint"]), f"{100 * one['joint_oracle']['rate']:.1f}", one["bytes"] // 1000]  # fmt: skip
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    rows += ["", "Oracle WER % by the length of the list:", ""]
    rows += ["| language | " + " | ".join(map(str, SIZES)) + " |", "|" + "---|" * (len(SIZES) + 1)]
    for one in found:
        rows.append(f"| {one['language']} | " + " | ".join(f"{100 * one['curve'][n]:.1f}" for n in SIZES) + " |")
    rows += ["", "Real time on one core, model and search (n = 10):", ""]
    rows += [
        f"- {one['language']}: {one['realtime_model']:.0f}x, {one['realtime_search']:.0f}x; joint decoding: a "
        f"character {ORDER}-gram, weight {one['joint_weights']['lm']}, bonus {one['joint_weights']['bonus']}"
        for one in found
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
