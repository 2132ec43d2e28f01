"""How long retrieval takes, beside what a plain Python loop takes for the same answer.

    python benchmarks/retrieval.py           1,000 queries against 10,000 texts
    python benchmarks/retrieval.py --large   10,000 queries against 100,000 embeddings: time and peak memory

Everything is synthetic and seeded. The plain loop answers a few of the queries and is scaled up; the table says so.
"""

from __future__ import annotations

import math
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from attnlens.context.retrieval import Query, Ranking, retrieve
from attnlens.context.retrieval.eligible import comparable
from attnlens.context.retrieval.scores import BLOCK, top_k
from attnlens.context.retrieval.vectors import Cosine
from attnlens.data.audio import Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance

N_QUERIES, N_POOL, K = 1_000, 10_000, 10
N_LOOPED = 20
LARGE_QUERIES, LARGE_POOL, LARGE_SIZE = 10_000, 100_000, 384
MIB = 2**20


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--large"]):
        print(__doc__)
        return 2
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    table = large() if arguments else small()
    table.caption = f"{os.cpu_count()} cores, OMP_NUM_THREADS {threads}, numpy {np.__version__}"
    Console().print(table)
    return 0


def small() -> Table:
    queries, pool = corpus()
    characters = sum(len(item.text) for item in pool) / len(pool)
    title = f"{len(queries):,} queries, pool of {len(pool):,} texts of {characters:.0f} characters on average, k={K}"
    table = Table("retriever", "seconds", "ratio", title=title)
    # Imports and the first products are not what is measured.
    retrieve(queries[:2], pool[:50], k=1)
    begun = time.perf_counter()
    found = retrieve(queries, pool, k=K)
    ours = time.perf_counter() - begun
    plain = loop(queries, pool, found)
    table.add_row("text (character n-gram TF-IDF)", f"{ours:.2f}", "1")
    table.add_row(
        f"the same as a plain Python loop, from {N_LOOPED} queries scaled to {len(queries):,}",
        f"{plain:.0f}",
        f"{plain / ours:.0f}",
    )
    for name in ("ticl", "oracle", "coverage", "length", "first", "random"):
        begun = time.perf_counter()
        retrieve(queries, pool, k=K, retriever=name)
        table.add_row(name, f"{time.perf_counter() - begun:.2f}", "")
    for name in ("text", "kl"):
        cold, warm = with_cache(queries, pool, name)
        table.add_row(f"{name}, with an empty cache", f"{cold:.2f}", "1")
        table.add_row(f"{name}, read back", f"{warm:.2f}", f"{warm / cold:.2f}")
    return table


def with_cache(queries: list[Query], pool: list[Utterance], name: str) -> tuple[float, float]:
    """Return the seconds of a first and of a second call; both meet clips that have not been listened to before."""
    seconds, answers = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            asked = [replace(query, utterance=unheard(query.utterance)) for query in queries]
            there = [unheard(item) for item in pool]
            begun = time.perf_counter()
            answers.append(retrieve(asked, there, k=K, retriever=name, cache=ArrayCache(folder)))
            seconds.append(time.perf_counter() - begun)
    assert answers[0] == answers[1], "what was read back is not what was computed"
    return seconds[0], seconds[1]


def unheard(utterance: Utterance) -> Utterance:
    return replace(utterance, audio=replace(utterance.audio))


def corpus() -> tuple[list[Query], list[Utterance]]:
    """Make sentences of an invented language, a few words of it common, and hypotheses with one letter in ten wrong."""
    rng = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(5_000)]
    often = [1 / (rank + 2) for rank in range(len(words))]

    def utterance(number: int) -> Utterance:
        text = " ".join(rng.choices(words, often, k=rng.randint(4, 16)))
        samples = np.full(400 + rng.randrange(20_000), number / 20_000, dtype=np.float32)
        return Utterance(f"u{number}", Audio.from_array(samples), text, "xxx")

    pool = [utterance(number) for number in range(N_POOL)]
    targets = [utterance(number) for number in range(N_POOL, N_POOL + N_QUERIES)]
    letters = "abdefgiklmnoprstuvz"
    heard = ["".join(c if rng.random() > 0.1 else rng.choice(letters) for c in target.text) for target in targets]
    return [Query(*pair) for pair in zip(targets, heard, strict=True)], pool


def loop(queries: list[Query], pool: list[Utterance], found: list[Ranking]) -> float:
    """Do the same with dictionaries, check that the answers agree, and return the seconds for all queries."""
    begun = time.perf_counter()
    counted = [grams(item.text) for item in pool]
    documents = Counter(gram for counts in counted for gram in counts)
    idf = {gram: 1 + math.log((1 + len(pool)) / (1 + n)) for gram, n in documents.items()}
    weighed = [weights(counts, idf) for counts in counted]
    prepared = time.perf_counter() - begun

    begun = time.perf_counter()
    answers = []
    for query in queries[:N_LOOPED]:
        asked = weights(grams(query.hypothesis or ""), idf)
        scores = [sum(weight * there.get(gram, 0.0) for gram, weight in asked.items()) for there in weighed]
        answers.append(sorted(scores, reverse=True)[:K])
    looped = time.perf_counter() - begun
    for answer, ranking in zip(answers, found, strict=False):
        assert np.allclose(answer, ranking.scores, atol=1e-8), "the loop and the retriever disagree"
    return prepared + looped * len(queries) / N_LOOPED


def grams(text: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for word in comparable(text).split():
        padded = f" {word} "
        for size in range(1, 5):
            found.update(padded[at : at + size] for at in range(max(1, len(padded) - size + 1)))
            if len(padded) <= size:
                break
    return found


def weights(counts: Counter[str], idf: dict[str, float]) -> dict[str, float]:
    raw = {gram: (1 + math.log(n)) * idf[gram] for gram, n in counts.items() if gram in idf}
    norm = math.sqrt(sum(weight * weight for weight in raw.values())) or 1.0
    return {gram: weight / norm for gram, weight in raw.items()}


def large() -> Table:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((LARGE_QUERIES, LARGE_SIZE), dtype=np.float32)
    pool = rng.standard_normal((LARGE_POOL, LARGE_SIZE), dtype=np.float32)
    scores = Cosine(queries, pool)
    before = peak_mib()
    begun = time.perf_counter()
    best, value = top_k(scores, K)
    seconds = time.perf_counter() - begun
    grown = peak_mib() - before
    for row in range(0, LARGE_QUERIES, LARGE_QUERIES // 20):
        full = scores.block(slice(row, row + 1), slice(0, LARGE_POOL))[0]
        assert best[row].tolist() == np.argsort(-full, kind="stable")[:K].tolist()
        assert np.allclose(value[row], np.sort(full)[::-1][:K], atol=1e-8)

    title = f"{LARGE_QUERIES:,} x {LARGE_POOL:,} cosines of {LARGE_SIZE} dimensions, k={K}"
    table = Table("what", "value", title=title)
    table.add_row("seconds", f"{seconds:.1f}")
    table.add_row("embeddings (float32)", f"{(queries.nbytes + pool.nbytes) / MIB:.0f} MiB")
    table.add_row(f"memory on top, in blocks of {BLOCK[0]} x {BLOCK[1]}", f"{grown:.0f} MiB at its peak")
    table.add_row("the full matrix would be (float32)", f"{LARGE_QUERIES * LARGE_POOL * 4 / MIB:.0f} MiB")
    table.add_row("20 rows compared with sorting the whole row", "equal")
    return table


def peak_mib() -> float:
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
