"""What every table of selected hypotheses stands between: the acoustic choice, chance, the best and the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from attnlens.asr.alignment import Unit
from attnlens.asr.candidates import Candidates
from attnlens.asr.error_rate import ErrorCounts, count_errors
from attnlens.asr.tuning import list_errors
from attnlens.errors import BadInput

__all__ = ["acoustic_best", "oracle", "random_pick", "size_curve"]


def acoustic_best(lists: Sequence[Candidates]) -> list[str]:
    """Take what the acoustic model likes best; of equals the first, of an empty list nothing.

    >>> acoustic_best([Candidates("u", (), np.zeros(0), ())])
    ['']
    """
    return [one.texts[int(one.acoustic.argmax())] if len(one) else "" for one in lists]


def random_pick(lists: Sequence[Candidates], *, seed: int = 0) -> list[str]:
    """Take any hypothesis: what the list gives without any score. Depends on the seed and the utterance alone."""
    found = []
    for one in lists:
        rng = np.random.default_rng([seed, *one.utterance_id.encode()])
        found.append(one.texts[int(rng.integers(len(one)))] if len(one) else "")
    return found


def oracle(
    lists: Sequence[Candidates],
    references: Sequence[str],
    *,
    worst: bool = False,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
) -> list[str]:
    """Take the hypothesis with the fewest errors: what a perfect selection would reach; or the ``worst`` there is."""
    errors = list_errors(lists, references, unit=unit, normaliser=normaliser)
    places = [int((found.argmax if worst else found.argmin)()) if len(found) else -1 for found in errors]
    return [one.texts[place] if place >= 0 else "" for one, place in zip(lists, places, strict=True)]


def size_curve(
    lists: Sequence[Candidates],
    references: Sequence[str],
    pick: Callable[[Sequence[Candidates]], Sequence[str]],
    *,
    sizes: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
) -> dict[int, ErrorCounts]:
    """Count errors with the lists cut to each size, so that it shows whether longer lists help or only tempt.

    ``pick`` turns lists into transcripts. Sizes beyond the longest list are left out, but for one that holds it whole.

    >>> from attnlens.asr.language_model import TextScore
    >>> none = TextScore(np.zeros(0), 0.0)
    >>> lists = [Candidates("u", ("a", "b"), np.array([-1.0, -2.0]), (none, none))]
    >>> {n: counts.rate for n, counts in size_curve(lists, ["b"], lambda cut: oracle(cut, ["b"])).items()}
    {1: 1.0, 2: 0.0}
    """
    if any(size < 1 for size in sizes):
        raise BadInput("a list is cut to one hypothesis or more", given=list(sizes))
    longest = max((len(one) for one in lists), default=0)
    kept = sorted({min(size, max(longest, 1)) for size in sizes})
    return {
        size: count_errors(references, list(pick([one.first(size) for one in lists])), unit=unit, normaliser=normaliser)
        for size in kept
    }
