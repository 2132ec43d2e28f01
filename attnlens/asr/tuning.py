"""Weights of acoustic and language scores, tuned on dev and applied to anything but that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.alignment import Unit
from attnlens.asr.candidates import Candidates
from attnlens.asr.error_rate import count_errors
from attnlens.errors import BadInput, UnknownName

__all__ = ["BONUSES", "LM_WEIGHTS", "Interpolated", "OnTuned", "Weights", "held_out_errors", "list_errors", "tune"]

LM_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
BONUSES = (-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0)
OnTuned = Literal["refuse", "tagged"]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much the language model's log-probability counts, and what each of its tokens adds.

    ``tuned_on`` names the utterances that the weights were chosen with; ``errors`` is what was left wrong there.
    """

    lm: float
    bonus: float = 0.0
    tuned_on: frozenset[str] = field(default=frozenset(), repr=False)
    errors: int | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.lm) and np.isfinite(self.bonus)) or self.lm < 0:
            raise BadInput("weights are finite, the LM's not negative", given=f"lm={self.lm}, bonus={self.bonus}")


class Interpolated:
    """The rule ``interpolated``: acoustic + lm x log-probability of the text + bonus x its tokens.

    Parameters
    ----------
    weights
        From :func:`tune`, or given.
    on_tuned
        What happens to an utterance that the weights were tuned on: ``refuse``, or ``tagged``, for a row of a table
        that says so.
    """

    def __init__(self, weights: Weights, *, on_tuned: OnTuned = "refuse") -> None:
        if on_tuned not in get_args(OnTuned):
            raise UnknownName.among("treatment of tuned utterances", on_tuned, get_args(OnTuned))
        self.weights, self.on_tuned = weights, on_tuned

    def __call__(self, candidates: Candidates) -> NDArray[np.float64]:
        """Return the scores of a list."""
        if self.on_tuned == "refuse" and candidates.utterance_id in self.weights.tuned_on:
            raise BadInput(
                "these weights were tuned on what they are now applied to",
                given=candidates.utterance_id,
                present=f"tuned on {len(self.weights.tuned_on)} utterances",
                fix="tune on dev and select on test; on_tuned='tagged' shows what cheating would give",
            )
        return _combined(candidates, self.weights.lm, self.weights.bonus)


def tune(
    lists: Sequence[Candidates],
    references: Sequence[str],
    *,
    lm_weights: Sequence[float] = LM_WEIGHTS,
    bonuses: Sequence[float] = BONUSES,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
) -> Weights:
    """Find the weights with the fewest errors on dev by trying a grid.

    Of equals in words those with the fewest wrong characters win (and the other way round), then the smallest LM
    weight, then the bonus nearest to none: what dev cannot tell apart stays near to the acoustic model.

    >>> from attnlens.asr.language_model import TextScore
    >>> one = Candidates("d1", ("ka do", "ka to"), np.array([-3.0, -3.4]),
    ...                  (TextScore(np.array([-4.0]), -1.0), TextScore(np.array([-2.0]), -1.0)))
    >>> tune([one], ["ka to"])
    Weights(lm=0.3, bonus=0.0, errors=0)
    """
    if len(lists) != len(references):
        raise BadInput("every list needs its reference", given=f"{len(lists)} lists, {len(references)} references")
    if not any(len(one) for one in lists):
        raise BadInput("there is nothing to tune on", given=f"{len(lists)} lists, all empty", fix="pass the dev split")
    other: Unit = "characters" if unit == "words" else "words"
    errors, finer = (list_errors(lists, references, unit=each, normaliser=normaliser) for each in (unit, other))
    best: tuple[tuple[int, int, float, float], float] | None = None
    for lm in lm_weights:
        for bonus in bonuses:
            chosen = [int(_combined(one, lm, bonus).argmax()) if len(one) else None for one in lists]
            wrong, also = (
                sum(int(counts[place]) for counts, place in zip(found, chosen, strict=True) if place is not None)
                for found in (errors, finer)
            )
            rank = (wrong, also, lm, abs(bonus))
            if best is None or rank < best[0]:
                best = rank, bonus
    if best is None:
        raise BadInput("the grid is empty", given=f"lm_weights={lm_weights}, bonuses={bonuses}")
    return Weights(lm=best[0][2], bonus=best[1], tuned_on=frozenset(o.utterance_id for o in lists), errors=best[0][0])


def held_out_errors(
    lists: Sequence[Candidates],
    references: Sequence[str],
    *,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    folds: int = 6,
) -> int:
    """Count what tuned weights leave wrong where they were not tuned: parts of dev, each with the weights of the rest.

    Few utterances tune anything: whether weights of dev are worth more than none is seen here, not where they were
    chosen. Parts are made of every so manyth utterance.

    >>> from attnlens.asr.language_model import TextScore
    >>> scores = (TextScore(np.array([-4.0]), -1.0), TextScore(np.array([-2.0]), -1.0))
    >>> lists = [Candidates(f"d{n}", ("ka do", "ka to"), np.array([-3.0, -3.4]), scores) for n in range(4)]
    >>> held_out_errors(lists, ["ka to"] * 4, folds=2), held_out_errors(lists, ["ka to", "ka do"] * 2, folds=2)
    (0, 4)
    """
    if folds < 2 or len(lists) < 2:  # noqa: PLR2004
        raise BadInput("a part of dev is held out from another", given=f"{len(lists)} lists, folds={folds}")
    folds, wrong = min(folds, len(lists)), 0
    for fold in range(folds):
        kept = [place for place in range(len(lists)) if place % folds != fold]
        held = [place for place in range(len(lists)) if place % folds == fold]
        weights = Weights(lm=0.0)
        if any(len(lists[place]) for place in kept):
            rest = [lists[place] for place in kept], [references[place] for place in kept]
            weights = tune(*rest, unit=unit, normaliser=normaliser)
        texts = []
        for place in held:
            scores = _combined(lists[place], weights.lm, weights.bonus)
            texts.append(lists[place].texts[int(scores.argmax())] if len(scores) else "")
        said = [references[place] for place in held]
        wrong += int(count_errors(said, texts, unit=unit, normaliser=normaliser).errors.sum())
    return wrong


def list_errors(
    lists: Sequence[Candidates], references: Sequence[str], *, unit: Unit = "words", normaliser: str = "basic-unicode"
) -> list[NDArray[np.int64]]:
    """Count the errors of every hypothesis of every list, one array [n] per list."""
    if len(lists) != len(references):
        raise BadInput("every list needs its reference", given=f"{len(lists)} lists, {len(references)} references")
    if not lists:
        return []
    said = [reference for one, reference in zip(lists, references, strict=True) for _ in one.texts]
    counts = count_errors(said, [text for one in lists for text in one.texts], unit=unit, normaliser=normaliser)
    return np.split(counts.errors, np.cumsum([len(one) for one in lists])[:-1])


def _combined(candidates: Candidates, lm: float, bonus: float) -> NDArray[np.float64]:
    # A weight of zero leaves the language model out, even where it says impossible.
    weighted = lm * candidates.lm_totals if lm else 0.0
    return np.asarray(candidates.acoustic + weighted + bonus * candidates.tokens)
