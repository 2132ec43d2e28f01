"""How fast is the CTC beam search? `python benchmarks/beam.py [--short]`

Frames of a made-up acoustic model, sure of itself here and torn there as real ones are, in clips of three seconds at
30 ms a frame over 36 letters; against a plain Python search over a dictionary of prefixes, which must find the same.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict
from typing import Any

import numpy as np
from _measure import Way, compare, machine
from numpy.typing import NDArray

from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.nbest import Hypothesis
from attnlens.asr.prefix_beam import beam_search, default_beam
from attnlens.asr.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyzñáéíóúãẽ"
SECONDS, FRAME, CLIPS = 3.0, 0.03, 8
FASTER = 50.0
"""At least so many times faster than the clips last, for ten hypotheses."""


def made_up(vocabulary: Vocabulary, *, seed: int) -> NDArray[np.float64]:
    """Return frames [frames, vocabulary]: a letter every three frames, blanks between, rivals beside them."""
    rng, count = np.random.default_rng(seed), round(SECONDS / FRAME)
    logits = rng.normal(0, 1, (count, len(vocabulary)))
    for place in range(count):
        logits[place, int(rng.integers(2, len(vocabulary))) if place % 3 == 0 else 0] += 8
        logits[place, int(rng.integers(2, len(vocabulary)))] += rng.choice([3.0, 7.0])
    logits[:, 1] = -30
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def plain(frames: NDArray[np.float64], vocabulary: Vocabulary, *, n: int) -> list[tuple[str, float]]:
    """Search as the textbook has it, prefix by prefix and letter by letter."""

    def add(*values: float) -> float:
        top = max(values)
        return top if top == -math.inf else top + math.log(sum(math.exp(value - top) for value in values))

    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    letters = [number for number, piece in enumerate(vocabulary.pieces) if piece]
    for frame in frames.tolist():
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-math.inf, -math.inf])
        for prefix, (blank, label) in beam.items():
            both = add(blank, label)
            grown[prefix][0] = add(grown[prefix][0], both + frame[vocabulary.blank])
            if prefix:
                grown[prefix][1] = add(grown[prefix][1], label + frame[prefix[-1]])
            for number in letters:
                start = blank if prefix and prefix[-1] == number else both
                grown[*prefix, number][1] = add(grown[*prefix, number][1], start + frame[number])
        kept = sorted(grown.items(), key=lambda one: -add(*one[1]))[: default_beam(n)]
        beam = {prefix: (blank, label) for prefix, (blank, label) in kept}
    found = [(vocabulary.text(prefix), add(*scores)) for prefix, scores in beam.items()]
    return sorted(found, key=lambda one: -one[1])[:n]


def no_worse(found: tuple[Hypothesis, ...], wanted: list[tuple[str, float]]) -> bool:
    """Tell whether the best is the same and no place holds less: the plain search misses alignments beside its beam."""
    pairs = zip(found, wanted, strict=True)
    return found[0].text == wanted[0][0] and all(one.acoustic >= score - 1e-9 for one, (_, score) in pairs)


def ways(vocabulary: Vocabulary, clips: list[NDArray[np.float64]]) -> dict[str, Way]:
    rng = np.random.default_rng(0)
    texts = [" ".join("".join(rng.choice(list(LETTERS), 5)) for _ in range(4)) for _ in range(100)]

    def all_of(**options: Any) -> Way:
        return Way(lambda: [beam_search(clip, vocabulary, **options) for clip in clips])

    return {
        "n = 10": all_of(n=10),
        "n = 100": all_of(n=100),
        "n = 10, character 5-gram in the beam": all_of(n=10, lm=train_ngram(texts, order=5, unit="characters")),
        "n = 10, word 2-gram in the beam": all_of(n=10, lm=train_ngram(texts, order=2, unit="words")),
        "n = 10, plain Python": Way(lambda: [plain(clip, vocabulary, n=10) for clip in clips]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="one clip")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    vocabulary = Vocabulary.of([LETTERS])
    clips = [made_up(vocabulary, seed=seed) for seed in range(1 if options.short else CLIPS)]
    pairs = [(beam_search(clip, vocabulary), plain(clip, vocabulary, n=10)) for clip in clips]
    wrong = [number for number, (quick, slow) in enumerate(pairs) if not no_worse(quick, slow)]
    found = ways(vocabulary, clips)
    compare(found, rounds=1 if options.short else options.rounds)
    print(machine())
    print(f"\n### {len(clips)} clips of {SECONDS:.0f} s, {FRAME * 1000:.0f} ms a frame, {len(vocabulary)} outputs\n")
    print("| search | CPU ms a clip | times real time | at least |\n|---|---:|---:|---:|")
    late = [f"a worse list than the plain search in clips {wrong}"] if wrong else []
    for name, way in found.items():
        seconds = statistics.median(way.seconds) / len(clips)
        limit = FASTER if name == "n = 10" else 0.0
        told = f"{limit:.0f}" if limit else ""
        print(f"| {name} | {1000 * seconds:.1f} | {SECONDS / seconds:.0f} | {told} |")
        if limit and SECONDS / seconds < limit:
            late.append(f"{name}: {SECONDS / seconds:.0f} times real time")
    sys.exit("over the limit:\n" + "\n".join(late) if late else 0)


if __name__ == "__main__":
    main()
