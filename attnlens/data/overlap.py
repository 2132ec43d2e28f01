"""What two splits share and should not: texts, audio, speakers, recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlens.data.corpus import SPLITS, Row, Split
from attnlens.data.normalise import basic_unicode
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, listing

__all__ = ["Match", "near_duplicates", "overlaps"]

NGRAM = 5
THRESHOLD = 0.8
BLOCK = 1_000
TOLERANCE = 1e-9
SHORT = 60
# A text that leaks into the test split is told as that, even if it is in dev too.
PAIRS: tuple[tuple[Split, Split], ...] = (("pool", "test"), ("dev", "test"), ("pool", "dev"))


@dataclass(frozen=True, order=True)
class Match:
    """A text and another that is nearly the same: their places in the two lists, and their Jaccard similarity."""

    index: int
    other: int
    similarity: float


def near_duplicates(
    texts: Sequence[str], others: Sequence[str], *, threshold: float = THRESHOLD, n: int = NGRAM
) -> list[Match]:
    """Find every pair of nearly equal texts between two lists, for leak checks over tens of thousands of transcripts.

    Texts are compared as sets of their character ``n``-grams (a text shorter than that is its own single gram): a pair
    matches if the Jaccard similarity, shared over all grams, reaches ``threshold``. The result is exact, not sampled or
    hashed, and sorted. Texts are compared as they are; fold case before if case should not count.

    >>> near_duplicates(["the cat sat on the mat", "good night"], ["the cat sat on the mats"])
    [Match(index=0, other=0, similarity=0.947...)]
    """
    if not 0 < threshold <= 1 or n < 1:
        raise BadInput(
            "a similarity threshold lies above 0 and up to 1, and grams have a character", given=(threshold, n)
        )
    left, left_places = _unique(texts)
    right, right_places = _unique(others)
    found = []
    for i, j, similarity in _pairs(left, right, threshold, n):
        found += [Match(a, b, similarity) for a in left_places[i] for b in right_places[j]]
    return sorted(found)


def _unique(texts: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    places: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        places.setdefault(text, []).append(index)
    return list(places), list(places.values())


def _pairs(left: list[str], right: list[str], threshold: float, n: int) -> Iterator[tuple[int, int, float]]:
    # Prefix filtering (Bayardo et al. 2007). Sort each text's grams by a common order, rarest first. Two sets that
    # share at least t of their union share a gram among the first |x| - ceil(t|x|) + 1 of each: otherwise too few are
    # left. The product of the prefix matrices so touches rare grams only; what it finds is verified on the full sets.
    if not left or not right:
        return
    full_left, full_right = _incidence([_grams(text, n) for text in left], [_grams(text, n) for text in right])
    sizes_left, sizes_right = np.diff(full_left.indptr), np.diff(full_right.indptr)
    prefix_left = _prefixes(full_left, sizes_left, threshold)
    prefix_right = _prefixes(full_right, sizes_right, threshold).T.tocsr()
    for begin in range(0, len(left), BLOCK):
        candidates = (prefix_left[begin : begin + BLOCK] @ prefix_right).tocoo()
        i, j = candidates.row + begin, candidates.col
        a, b = sizes_left[i], sizes_right[j]
        possible = np.minimum(a, b) >= threshold * np.maximum(a, b) - TOLERANCE
        i, j = i[possible], j[possible]
        for part in range(0, len(i), BLOCK):
            rows, columns = i[part : part + BLOCK], j[part : part + BLOCK]
            shared = np.asarray(full_left[rows].multiply(full_right[columns]).sum(axis=1)).ravel()
            jaccard = shared / (sizes_left[rows] + sizes_right[columns] - shared)
            for index in np.flatnonzero(jaccard >= threshold):
                yield int(rows[index]), int(columns[index]), float(jaccard[index])


def _grams(text: str, n: int) -> set[str]:
    return {text[start : start + n] for start in range(max(1, len(text) - n + 1))}


def _incidence(left: list[set[str]], right: list[set[str]]) -> tuple[Any, Any]:
    """Return two sparse matrices [texts, grams] of ones, columns ordered from the rarest gram to the commonest."""
    from scipy.sparse import csr_array

    counts = Counter(chain.from_iterable(chain(left, right)))
    order = {gram: column for column, gram in enumerate(sorted(counts, key=lambda gram: (counts[gram], gram)))}

    def matrix(sets: list[set[str]]) -> Any:
        columns = [sorted(order[gram] for gram in grams) for grams in sets]
        indptr = np.cumsum([0, *map(len, columns)])
        indices = np.fromiter(chain.from_iterable(columns), dtype=np.int64, count=int(indptr[-1]))
        return csr_array((np.ones(len(indices), np.int32), indices, indptr), shape=(len(sets), len(order)))

    return matrix(left), matrix(right)


def _prefixes(full: Any, sizes: NDArray[Any], threshold: float) -> Any:
    from scipy.sparse import csr_array

    lengths = sizes - np.ceil(threshold * sizes - TOLERANCE).astype(sizes.dtype) + 1
    lengths = np.minimum(lengths, sizes)
    offset = np.arange(full.indptr[-1]) - np.repeat(full.indptr[:-1], sizes)
    kept = offset < np.repeat(lengths, sizes)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return csr_array((full.data[kept], full.indices[kept], indptr), shape=full.shape)


def overlaps(rows: Sequence[Row], *, digests: Mapping[str, str], threshold: float = THRESHOLD) -> Iterator[Problem]:
    """Yield what the splits of a corpus share: same audio, nearly same text, speakers, recordings.

    ``digests`` is utterance id -> hash of the decoded samples. Of a pair over two splits the problem is put on the one
    that is easier to do without: pool before dev before test.
    """
    by_split: dict[Split, list[Row]] = {split: [row for row in rows if row.split == split] for split in SPLITS}
    yield from _same_audio(rows, digests)
    yield from _same_text(by_split, threshold)
    yield from _shared(by_split, "speaker")
    yield from _shared(by_split, "recording")


def _same_audio(rows: Sequence[Row], digests: Mapping[str, str]) -> Iterator[Problem]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.utterance.id in digests:
            groups.setdefault(digests[row.utterance.id], []).append(row)
    for group in groups.values():
        first = {row.split: row for row in reversed(group)}
        last = max(first, key=SPLITS.index)
        for row in group:
            if row.split != last:
                yield _same(row, first[last], "audio-in-two-splits", "the same samples")
            elif row is not first[last]:
                yield _same(row, first[last], "duplicate-audio", "the same samples")


def _same_text(by_split: Mapping[Split, Sequence[Row]], threshold: float) -> Iterator[Problem]:
    # Case, punctuation and compatibility forms do not make a text another one.
    folded = {split: [basic_unicode(row.utterance.text) for row in rows] for split, rows in by_split.items()}
    told: set[str] = set()
    for first, second in PAIRS:
        # Distinct texts only: five hundred times "yes" on both sides are one match, not a quarter of a million.
        mine, theirs = (list(dict.fromkeys(filter(None, folded[split]))) for split in (first, second))
        best: dict[str, Match] = {}
        for match in near_duplicates(mine, theirs, threshold=threshold):
            present = best.get(mine[match.index])
            if present is None or match.similarity > present.similarity:
                best[mine[match.index]] = match
        places = dict(reversed(list(zip(folded[second], by_split[second], strict=True))))
        for text, row in zip(folded[first], by_split[first], strict=True):
            if text in best and row.utterance.id not in told:
                told.add(row.utterance.id)
                found = best[text]
                alike = "the same text" if mine[found.index] == theirs[found.other] else "nearly the same text"
                alike += f" (similarity {found.similarity:.2f})"
                yield _same(row, places[theirs[found.other]], "text-in-two-splits", alike)


def _same(row: Row, other: Row, kind: str, alike: str) -> Problem:
    text = other.utterance.text if len(other.utterance.text) <= SHORT else other.utterance.text[:SHORT] + "..."
    detail = f"{alike} as {other.utterance.id!r} in {other.split}, at {other.where}: {text!r}"
    return Problem(kind, row.where, row.utterance.id, detail)


def _shared(by_split: Mapping[Split, Iterable[Row]], what: str) -> Iterator[Problem]:
    counts: dict[str, dict[str, int]] = {}
    for split, rows in by_split.items():
        for row in rows:
            value = getattr(row.utterance, what)
            if value is not None:
                splits = counts.setdefault(value, {})
                splits[split] = splits.get(split, 0) + 1
    for value, splits in counts.items():
        if len(splits) > 1:
            told = listing(f"{count:,} in {split}" for split, count in splits.items())
            yield Problem(f"{what}-in-two-splits", f"{what} {value}", None, f"{what} {value!r} has {told}")
