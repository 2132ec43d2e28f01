"""Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999), as the usual toolkit estimates it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, get_args

from attnlens.asr.ngram import Gram, NGram
from attnlens.asr.pieces import learn_pieces
from attnlens.asr.symbols import BEGIN, END, UNKNOWN, SymbolUnit, symbols
from attnlens.errors import BadInput, UnknownName

__all__ = ["Discount", "train_ngram"]

Discount = Literal["modified", "single"]
FALLBACK = (0.5, 1.0, 1.5)
_ORDER = 5
PIECES = 500


def train_ngram(
    texts: Sequence[str],
    *,
    order: int = _ORDER,
    unit: SymbolUnit = "characters",
    pieces: int = PIECES,
    discount: Discount = "modified",
    name: str | None = None,
) -> NGram:
    """Estimate an n-gram model from texts, such as the pool's transcripts.

    Lower orders count in how many contexts a symbol was seen, not how often. Each order is discounted and interpolated
    with the one below, the lowest with a uniform distribution over all symbols, the end and the unknown one included.

    Parameters
    ----------
    pieces
        How many pieces of words a model of pieces has at most.
    discount
        ``modified``: three discounts per order, for n-grams seen once, twice and more often. ``single``: one per order.
        Where an order has too few n-grams to estimate them, 0.5, 1 and 1.5 stand there (0.5 for ``single``), and
        ``discounts`` of the model says so.
    name
        What tables call the model.

    >>> model = train_ngram(["ka to mi", "ka to", "mi ka"], order=3, unit="words")
    >>> sum(math.exp(model.logprob(symbol, ("ka", "to"))) for symbol in model.vocabulary)
    1.0...
    """
    if not isinstance(order, int) or order < 1:
        raise BadInput("the order of a model is a count of symbols", given=f"order={order}", fix="pass 1 or more")
    if discount not in get_args(Discount):
        raise UnknownName.among("discount", discount, get_args(Discount))
    known = learn_pieces(texts, size=pieces) if unit == "pieces" else frozenset()
    sequences = [[BEGIN, *symbols(text, unit, pieces=known), END] for text in texts if text.strip()]
    if not sequences:
        raise BadInput(
            "there is no text to train on", given=f"{len(texts)} texts, all empty", fix="pass transcripts of the pool"
        )
    counts = _adjusted(_raw(sequences, order), order)
    probabilities: list[dict[Gram, float]] = []
    backoffs: list[dict[Gram, float]] = []
    told = []
    for n, table in enumerate(counts, start=1):
        cut, how = _discounts(table, discount)
        told.append(how)
        lower = probabilities[-1] if probabilities else None
        made, weights = _interpolated(table, cut, lower)
        probabilities.append(made)
        if n > 1:
            backoffs.append({context: math.log(weight) for context, weight in weights.items()})
    backoffs.append({})
    logs: list[dict[Gram, float]] = [{gram: math.log(p) for gram, p in table.items()} for table in probabilities]
    # ARPA files give the beginning a probability that nothing reads.
    logs[0][(BEGIN,)] = -math.inf
    return NGram(unit, tuple(logs), tuple(backoffs), name or f"{unit[:-1]} {order}-gram", tuple(told))


def _raw(sequences: Sequence[Sequence[str]], order: int) -> list[Counter[Gram]]:
    found: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sequence in sequences:
        for n, table in enumerate(found, start=1):
            table.update(tuple(sequence[start : start + n]) for start in range(len(sequence) - n + 1))
    return found


def _adjusted(raw: Sequence[Counter[Gram]], order: int) -> list[Counter[Gram]]:
    """Replace counts below the highest order by numbers of left contexts; what begins a text has none and keeps its."""
    found: list[Counter[Gram]] = []
    for n in range(1, order + 1):
        if n == order:
            table = Counter(raw[n - 1])
        else:
            table = Counter(gram[1:] for gram in raw[n])
            table.update({gram: count for gram, count in raw[n - 1].items() if gram[0] == BEGIN})
        # Nothing is followed by the beginning of a text.
        table.pop((BEGIN,), None)
        found.append(table)
    return found


def _discounts(table: Counter[Gram], discount: Discount) -> tuple[tuple[float, float, float], str]:
    seen = Counter(table.values())
    n1, n2, n3, n4 = (seen[times] for times in (1, 2, 3, 4))
    if discount == "single":
        if n1 and n2:
            one = n1 / (n1 + 2 * n2)
            return (one, one, one), "estimated"
        return (FALLBACK[0],) * 3, "fallback"
    if not (n1 and n2 and n3 and n4):
        return FALLBACK, "fallback"
    share = n1 / (n1 + 2 * n2)
    cut = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
    if not all(0 < value <= times for times, value in enumerate(cut, start=1)):
        return FALLBACK, "fallback"
    return cut, "estimated"


def _interpolated(
    table: Counter[Gram], cut: tuple[float, float, float], lower: dict[Gram, float] | None
) -> tuple[dict[Gram, float], dict[Gram, float]]:
    """Return probabilities of an order's n-grams, and the weight that each context leaves to the order below."""
    totals: defaultdict[Gram, int] = defaultdict(int)
    spared: defaultdict[Gram, float] = defaultdict(float)
    for gram, count in table.items():
        totals[gram[:-1]] += count
        spared[gram[:-1]] += min(cut[min(count, 3) - 1], count)
    weights = {context: spared[context] / total for context, total in totals.items()}
    if lower is None:
        # The unknown symbol was never seen: it has its part of the uniform distribution.
        vocabulary = [*table, (UNKNOWN,)]
        uniform = weights[()] / len(vocabulary)
        return {gram: max(table[gram] - _cut(table[gram], cut), 0.0) / totals[()] + uniform for gram in vocabulary}, {}
    made = {
        gram: max(count - _cut(count, cut), 0.0) / totals[gram[:-1]] + weights[gram[:-1]] * lower[gram[1:]]
        for gram, count in table.items()
    }
    return made, weights


def _cut(count: int, cut: tuple[float, float, float]) -> float:
    return cut[min(count, 3) - 1] if count else 0.0
