"""CTC prefix beam search over arrays: every step extends, merges and cuts the whole beam at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.beam_lm import BeamLM, Follower, Written
from attnlens.asr.ctc_score import checked_frames, sequence_scores
from attnlens.asr.nbest import Hypothesis
from attnlens.asr.vocabulary import Vocabulary, tidy
from attnlens.errors import BadInput

__all__ = ["MOST", "beam_search", "default_beam"]

MOST = 1000
"""The longest list that is made."""
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def default_beam(n: int) -> int:
    """Return how many prefixes are kept when nothing else is asked for.

    >>> default_beam(10), default_beam(100)
    (40, 200)
    """
    return max(40, 2 * n)


def beam_search(
    frames: NDArray[np.floating],
    vocabulary: Vocabulary,
    *,
    n: int = 10,
    beam: int | None = None,
    lm: BeamLM | None = None,
    lm_weight: float = 0.5,
    unit_bonus: float = 0.0,
    name: str = "the clip",
) -> tuple[Hypothesis, ...]:
    """Return the n best transcripts of a clip, best first; fewer where fewer are possible.

    Prefixes compete by the probability of all alignments that the beam has kept. The scores that come back are exact:
    ``acoustic`` sums over all alignments of the transcript, ``lm`` over all its units and its end, unweighted. The
    order is that of ``acoustic + lm_weight * lm + unit_bonus * units``.

    Parameters
    ----------
    frames
        Log-probabilities [frames, vocabulary].
    beam
        Prefixes kept after each frame; None is :func:`default_beam`. With a beam wider than there are prefixes the
        search is exhaustive.
    lm
        A language model that takes part in the search (joint decoding).
    unit_bonus
        Added for each character or word, whichever the language model counts, against its liking for short texts.

    >>> vocabulary = Vocabulary(("", "a", "b"), blank=0)
    >>> frames = np.log([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1]])
    >>> [(one.text, round(float(np.exp(one.acoustic)), 3)) for one in beam_search(frames, vocabulary, n=2)]
    [('a', 0.55), ('b', 0.28)]
    """
    beam = default_beam(n) if beam is None else beam
    if not 1 <= n <= MOST:
        raise BadInput("the length of an N-best list is out of range", given=f"n={n}", present=f"1 to {MOST}")
    if beam < n:
        raise BadInput("the beam is narrower than the list", given=f"beam={beam}, n={n}", fix="raise beam or lower n")
    if lm is not None and not lm_weight >= 0:
        raise BadInput("the weight of the language model is negative", given=lm_weight, fix="pass 0 or more")
    read = checked_frames(frames, width=len(vocabulary), name=name)
    steering = None if lm is None else _Steering(Follower(lm, vocabulary.pieces), lm_weight, unit_bonus)
    search = _Search(vocabulary, beam, steering)
    for frame in read:
        search.step(frame)
    return search.best(read, n)


@dataclass(frozen=True)
class _Steering:
    follower: Follower
    weight: float
    bonus: float

    def value(self, written: Written) -> float:
        # What is on its way counts as one, so that its first letter is not a loss.
        units = written.units + bool(written.pending)
        # A weight of 0 asks nothing of the language model, not even what it calls impossible.
        return (self.weight * written.score if self.weight else 0.0) + self.bonus * units


class _Search:
    """The beam: rows of prefixes. A prefix is a number in a tree of (number before, id)."""

    def __init__(self, vocabulary: Vocabulary, beam: int, steering: _Steering | None) -> None:
        self.vocabulary, self.beam, self.steering = vocabulary, beam, steering
        self.silent = np.array([not piece for piece in vocabulary.pieces])
        self.numbers: dict[tuple[int, int], int] = {}
        self.tree: list[tuple[int, int]] = [(-1, -1)]
        self.written: dict[int, Written] = {} if steering is None else {0: steering.follower.start}
        self.ahead: dict[tuple[int, int], Written] = {}
        self.node: Ids = np.zeros(1, dtype=np.int64)
        self.parent: Ids = np.full(1, -1)
        # The root has no last id; the blank stands there, whose repetition is -inf below.
        self.last: Ids = np.full(1, vocabulary.blank)
        self.blank: Floats = np.zeros(1)
        self.label: Floats = np.full(1, -np.inf)
        self.value: Floats = np.zeros(1)

    def step(self, frame: Floats) -> None:
        """Read one frame [vocabulary]."""
        rows = np.arange(len(self.node))
        total = np.logaddexp(self.blank, self.label)
        grown = total[:, None] + frame
        # The same id again makes a new letter only after a blank.
        grown[rows, self.last] = self.blank + frame[self.last]
        grown[:, self.silent] = -np.inf
        stay_blank = total + frame[self.vocabulary.blank]
        stay_label = self.label + frame[self.last]
        is_parent = self.parent[:, None] == self.node
        child, place = np.nonzero(is_parent)
        stay_label[child] = np.logaddexp(stay_label[child], grown[place, self.last[child]])
        grown[place, self.last[child]] = -np.inf
        stay = np.logaddexp(stay_blank, stay_label) + self.value
        kept, made = self._chosen(stay, grown)
        self._move(kept, made, stay_blank, stay_label, grown)

    def best(self, frames: Floats, n: int) -> tuple[Hypothesis, ...]:
        """Return the n best texts with their exact scores."""
        total = np.logaddexp(self.blank, self.label)
        by_text: dict[str, list[int]] = {}
        ranks: dict[str, float] = {}
        lm: dict[str, tuple[float, int]] = {}
        for row in np.flatnonzero(total > -np.inf).tolist():
            text = tidy(self._spelt(self.node[row]))
            by_text.setdefault(text, []).append(row)
            if text not in lm:
                steering = self.steering
                lm[text] = (0.0, 0) if steering is None else steering.follower.end(self.written[int(self.node[row])])
            ranks[text] = float(np.logaddexp(ranks.get(text, -np.inf), total[row]))
        first = sorted(by_text, key=lambda text: -self._rank(ranks[text], *lm[text]))[:n]
        rows = [row for text in first for row in by_text[text]]
        owners = [text for text in first for _ in by_text[text]]
        exact = sequence_scores(frames, [self._ids(self.node[row]) for row in rows], blank=self.vocabulary.blank)
        summed: dict[str, float] = {}
        for text, score in zip(owners, exact.tolist(), strict=True):
            summed[text] = float(np.logaddexp(summed.get(text, -np.inf), score))
        ordered = sorted(first, key=lambda text: -self._rank(summed[text], *lm[text]))
        return tuple(Hypothesis(text, summed[text], lm[text][0]) for text in ordered)

    def _rank(self, acoustic: float, lm: float, units: int) -> float:
        if self.steering is None:
            return acoustic
        weighted = self.steering.weight * lm if self.steering.weight else 0.0
        return acoustic + weighted + self.steering.bonus * units

    def _chosen(self, stay: Floats, grown: Floats) -> tuple[Ids, Ids]:
        """Return the rows that stay and the places in ``grown`` that are new, the best of all together."""
        width = grown.shape[1]
        # What a language model adds later is at most this: its log-probabilities are not above 0.
        bound = (grown + self.value[:, None]).ravel()
        if self.steering is None:
            scores = np.concatenate([stay, bound])
            top = _top(scores, self.beam)
            return top[top < len(stay)], top[top >= len(stay)] - len(stay)
        # A letter may bring the space before it along.
        bound += max(0.0, self.steering.bonus) * (1 + max(map(len, self.vocabulary.pieces)))
        order = _top(bound, len(bound))
        scores, places, at = stay, np.zeros(0, dtype=np.int64), 0
        while at < len(order):
            part = order[at : at + self.beam]
            at += len(part)
            exact = np.array([self._steered(place // width, place % width, grown) for place in part.tolist()])
            scores, places = np.concatenate([scores, exact]), np.concatenate([places, part])
            if len(scores) >= self.beam and at < len(order):
                worst = np.partition(scores, -self.beam)[-self.beam]
                if worst >= bound[order[at]]:
                    break
        top = _top(scores, self.beam)
        return top[top < len(stay)], places[top[top >= len(stay)] - len(stay)]

    def _steered(self, row: int, number: int, grown: Floats) -> float:
        assert self.steering is not None  # noqa: S101
        return float(grown[row, number]) + self.steering.value(self._next(int(self.node[row]), number))

    def _next(self, node: int, number: int) -> Written:
        key = (node, number)
        found = self.ahead.get(key)
        if found is None:
            assert self.steering is not None  # noqa: S101
            found = self.steering.follower.add(self.written[node], self.vocabulary.pieces[number])
            self.ahead[key] = found
        return found

    def _move(self, kept: Ids, made: Ids, stay_blank: Floats, stay_label: Floats, grown: Floats) -> None:
        rows, numbers = np.divmod(made, grown.shape[1])
        parents = self.node[rows]
        nodes = [self._number(key) for key in zip(parents.tolist(), numbers.tolist(), strict=True)]
        new_value = np.zeros(len(nodes))
        if self.steering is not None:
            new_value = np.array([self.steering.value(self.written[node]) for node in nodes])
        self.blank = np.concatenate([stay_blank[kept], np.full(len(made), -np.inf)])
        self.label = np.concatenate([stay_label[kept], grown.ravel()[made]])
        self.value = np.concatenate([self.value[kept], new_value])
        self.node = np.concatenate([self.node[kept], np.array(nodes, dtype=np.int64)])
        self.parent = np.concatenate([self.parent[kept], parents])
        self.last = np.concatenate([self.last[kept], numbers])

    def _number(self, key: tuple[int, int]) -> int:
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.tree)
            self.tree.append(key)
            if self.steering is not None:
                self.written[found] = self._next(*key)
        return found

    def _ids(self, node: int) -> list[int]:
        ids: list[int] = []
        while node:
            node, number = self.tree[node]
            ids.append(number)
        return ids[::-1]

    def _spelt(self, node: int) -> str:
        return "".join(self.vocabulary.pieces[number] for number in self._ids(int(node)))


def _top(scores: Floats, many: int) -> Ids:
    """Return the places of the best scores that are possible at all, best first; of equals the first."""
    possible = np.flatnonzero(scores > -np.inf)
    if len(possible) > many:
        found = scores[possible]
        # All that tie with the last one that fits, so that which of them stays is not left to chance.
        possible = possible[found >= np.partition(found, -many)[-many]]
    order = np.argsort(-scores[possible], kind="stable")[:many]
    return np.asarray(possible[order])
