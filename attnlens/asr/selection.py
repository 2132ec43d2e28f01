"""Which hypothesis is taken: rules by name, each from a list's acoustic and language scores to one score."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.candidates import Candidates
from attnlens.errors import BadInput, UnknownName
from attnlens.registry import Registry

__all__ = ["RULES", "Choice", "Rule", "choose", "make_rule", "select"]

Scores = NDArray[np.float64]


class Rule(Protocol):
    """A rule gives every hypothesis of a non-empty list a score [n]; the highest is taken. -inf is never taken."""

    def __call__(self, candidates: Candidates, /) -> Scores:
        """Return the scores."""
        ...


_HERE = "attnlens.asr.rules"
RULES: Registry[Callable[..., Rule]] = Registry(
    "selection rule",
    group="attnlens.selection_rules",
    builtin={
        "interpolated": ("attnlens.asr.tuning:Interpolated", "acoustic + weight x LM + bonus per token, tuned on dev"),
        "lm-only": (f"{_HERE}:lm_only", "the language model's log-probability alone"),
        "paper-code": (f"{_HERE}:paper_code", "as released: perplexity and acoustic score, min-max in the list, equal"),
        "paper-text": (f"{_HERE}:paper_text", "as printed: sum of acoustic and LM log-likelihood, the end unscored"),
        "per-token": (f"{_HERE}:per_token", "acoustic + LM log-probability, divided by tokens and end"),
        "sum-logprob": (f"{_HERE}:sum_logprob", "acoustic + LM log-probability of exactly the text"),
        "z-score": (f"{_HERE}:z_score", "acoustic and LM in standard deviations of the list, equal weights"),
    },
)
"""Selection rules by name. Each value makes a rule from keyword options; only ``interpolated`` takes any."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What was taken from a list: its place, its text, and the rule's scores [n].

    From an empty list nothing can be taken: ``place`` is None and the text is empty. Of equal scores the first is
    taken, as the list has it; ``tied`` counts those that were as good. Where every hypothesis is impossible, all are.
    """

    utterance_id: str
    place: int | None
    text: str
    scores: Scores
    tied: int


def make_rule(name: str, **options: Any) -> Rule:
    """Make a rule by name, refusing options it does not take.

    >>> make_rule("z-score", weights=1)
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown option of the selection rule 'z-score': 'weights'
      present: it takes none
      fix:     leave it out
    """
    factory = RULES[name]
    known = list(inspect.signature(factory).parameters)
    for option in options:
        if option not in known:
            what = f"option of the selection rule {name!r}:"
            if known:
                raise UnknownName.among(what, option, known)
            raise UnknownName(f"unknown {what} {option!r}", present="it takes none", fix="leave it out")
    return factory(**options)


def select(lists: Sequence[Candidates], rule: str | Rule, **options: Any) -> list[Choice]:
    """Take one hypothesis of each list by a rule, named or made.

    >>> from attnlens.asr.language_model import TextScore
    >>> scores = tuple(TextScore(np.array([x]), 0.0) for x in (-2, -1))
    >>> one = Candidates("u1", ("a", "b"), np.array([-3.0, -3.5]), scores)
    >>> [choice.text for choice in select([one], "sum-logprob")]
    ['b']
    """
    made = make_rule(rule, **options) if isinstance(rule, str) else rule
    return [choose(one, made) for one in lists]


def choose(candidates: Candidates, rule: Rule) -> Choice:
    """Take one hypothesis of one list."""
    if not len(candidates):
        return Choice(candidates.utterance_id, None, "", np.zeros(0), 0)
    scores = np.asarray(rule(candidates), dtype=np.float64)
    if scores.shape != (len(candidates),) or np.isnan(scores).any() or (scores == np.inf).any():
        raise BadInput(
            f"the rule gave {candidates.utterance_id!r} something other than one score per hypothesis",
            given=f"{scores.tolist()}",
            present=f"{len(candidates)} hypotheses",
            fix="return finite numbers, or -inf for what must not be taken",
        )
    place = int(scores.argmax())
    tied = int((scores == scores[place]).sum()) - 1
    return Choice(candidates.utterance_id, place, candidates.texts[place], scores, tied)
