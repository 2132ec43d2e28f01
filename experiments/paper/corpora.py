"""Makes the paper's corpora from data sets of the hub, as folders that its specs and recipes name.

python -m experiments.paper.corpora khinalug kichwa mboshi     into corpora/<name>
python -m experiments.paper.corpora ml_superb2                 into data/ml_superb2/<language>, for the recipe xft

Names and columns are those of the released code; whether the first three are public could not be checked. Texts go
through the normaliser `paper`, and what its training code leaves out is left out, by kind and count.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnlens.data.corpus import SPLITS, Corpus
from attnlens.data.huggingface import read_dataset
from attnlens.data.normalise import NORMALISERS
from attnlens.data.save import save_corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import AttnlensError, UnknownName

TARGETS = {"khinalug": "kjj", "kichwa": "que", "mboshi": "mdw"}
COLUMNS = {"audio": "audio", "text": "transcript", "speaker": "speaker_id"}
OTHERS = "ml_superb2"
SHORTEST, LONGEST = 0.5, 200
"""Seconds and characters that the training on other languages is limited to."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the paper's corpora as folders.")
    parser.add_argument("names", nargs="+", help=f"{', '.join(TARGETS)}, {OTHERS}")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args()
    try:
        for name in given.names:
            if name not in (*TARGETS, OTHERS):
                raise UnknownName.among("corpus of the paper", name, [*TARGETS, OTHERS])
        from datasets import load_dataset

        for name in given.names:
            if name == OTHERS:
                others(load_dataset("espnet/ml_superb_hf"), given.out / "data" / OTHERS)
            else:
                target(load_dataset(f"ZL92/{name}_ASR_processed"), name, given.out / "corpora" / name)
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")
    return 0


def target(dataset: Any, name: str, folder: Path) -> None:
    keep(read_dataset(dataset, language=TARGETS[name], mapping=COLUMNS), folder, only=("empty",))


def others(dataset: Any, folder: Path) -> None:
    """Write one corpus for each language; one at a time, since its clips are held in memory."""
    for language in sorted({one for split in dataset.values() for one in split["language"]}):
        if not (folder / language / "manifest.jsonl").exists():
            keep(read_dataset(dataset, mapping="ml-superb-2", language=language), folder / language)


def keep(corpus: Corpus, folder: Path, *, only: Iterable[str] = ("empty", "short", "long")) -> None:
    lost: Counter[str] = Counter()
    splits = {}
    for split in SPLITS:
        kept = []
        for one in corpus.splits.get(split, ()):
            clean = replace(one, text=NORMALISERS["paper"](one.text))
            why = reason(clean)
            lost[why] += why in only
            if why not in only:
                kept.append(clean)
        splits[split] = tuple(kept)
    save_corpus(Corpus(folder.name, corpus.language, splits), folder)
    left = ", ".join(f"{count} {why}" for why, count in lost.items() if count)
    print(
        f"{folder}: {', '.join(f'{split} {len(some)}' for split, some in splits.items())}; left out: {left or 'none'}"
    )


def reason(one: Utterance) -> str:
    if not one.text.strip():
        return "empty"
    if one.audio.seconds < SHORTEST:
        return "short"
    return "long" if len(one.text) > LONGEST else ""


if __name__ == "__main__":
    sys.exit(main())
