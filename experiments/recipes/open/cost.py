"""What does a demonstration cost at inference? Seconds and memory of scoring and of answering, by number of shots.

    python experiments/recipes/open/cost.py organism --corpus attnlens/organism/files/corpora/guarani --shots 0 1 2 4 8

Each prompt is read from nothing, recordings included, as for a first answer. Medians over the utterances. Memory is
what a GPU held at its peak; on a CPU, by how much the process's peak grew.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from attnlens.context.build import build_prompt
from attnlens.context.retrieval.base import Query, retrieve
from attnlens.data.read import read_corpus
from attnlens.errors import AttnlensError
from attnlens.models.load import load


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory by number of demonstrations.")
    parser.add_argument("model")
    parser.add_argument("--adapter", default=None)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 1, 2, 4, 8])
    parser.add_argument("--utterances", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    try:
        corpus = read_corpus(given.corpus)
        lens = load(given.model, adapter=given.adapter, device_map=given.device, dtype=given.dtype)
        asked = corpus.test[: given.utterances]
        rankings = retrieve([Query(one) for one in asked], corpus.pool, k=max(given.shots), retriever="random")
        print("| shots | positions | score, s | answer, s | MB |\n|---:|---:|---:|---:|---:|")
        for shots in given.shots:
            lengths, scored, answered = [], [], []
            start = reset(given.device)
            for target, ranking in zip(asked, rankings, strict=True):
                shown = [corpus[name] for name in ranking.ids[:shots]]
                prompt = build_prompt(target, shown, condition="micl" if shots else "asr", order="as-given")
                encoded = lens.encode(prompt)
                lengths.append(len(encoded.ids))
                scored.append(seconds(partial(lens.score, prompt, [target.text])))
                answered.append(seconds(partial(lens.generate, encoded, max_new_tokens=given.tokens)))
            held = (peak(given.device) - start) / 2**20
            print(
                f"| {shots} | {statistics.median(lengths):.0f} | {statistics.median(scored):.3f} |"
                f" {statistics.median(answered):.3f} | {held:.0f} |"
            )
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def reset(device: str) -> float:
    if not device.startswith("cuda"):
        return peak(device)
    torch.cuda.reset_peak_memory_stats()
    return 0.0


def peak(device: str) -> float:
    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
