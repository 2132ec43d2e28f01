"""The selection rules that need no tuning. Each function makes a rule; they differ in what they make comparable."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.candidates import Candidates
from attnlens.asr.selection import Rule

__all__ = ["lm_only", "paper_code", "paper_text", "per_token", "sum_logprob", "z_score"]

Scores = NDArray[np.float64]


def sum_logprob() -> Rule:
    """Add log-probabilities: of the sound, and of exactly this text with its end.

    The end matters: without it a language model never says that a hypothesis stops too early.
    """
    return lambda candidates: candidates.acoustic + candidates.lm_totals


def per_token() -> Rule:
    """Divide that sum by the tokens and the end, so that longer hypotheses are not worse for their length alone."""
    return lambda candidates: (candidates.acoustic + candidates.lm_totals) / (candidates.tokens + 1)


def lm_only() -> Rule:
    """Ask the language model alone: what the acoustic score adds is the difference to ``sum-logprob``."""
    return lambda candidates: candidates.lm_totals


def paper_text() -> Rule:
    """Add acoustic score and log-likelihood of the tokens, as the paper prints it; its end token was never scored."""
    return lambda candidates: candidates.acoustic + np.array([one.text for one in candidates.scores])


def z_score() -> Rule:
    """Add acoustic and LM log-probability in standard deviations of this list, so that neither scale decides.

    A score that is the same throughout the list says nothing and counts 0. What is impossible stays so and is left out
    of the mean and the deviation.
    """
    return lambda candidates: _standard(candidates.acoustic) + _standard(candidates.lm_totals)


def paper_code() -> Rule:
    """Combine as the released code does, faults included.

    Perplexity per hypothesis with first token and end unscored, turned round and stretched to 0 ... 1 within the list;
    the acoustic score stretched likewise; their plain sum. A list of equal values becomes all ones. Acoustic scores of
    both signs made the code fail and count 0 throughout. One absurd hypothesis so flattens all others, and what is
    taken depends on n. Where the code has no defined result we have: a text of fewer than two tokens has no perplexity
    and counts as the worst of its list, and so does an impossible one.
    """
    return _paper_code


def _paper_code(candidates: Candidates) -> Scores:
    nats = np.array([_unscored_first(one.logprobs) for one in candidates.scores])
    acoustic = candidates.acoustic
    mixed = (acoustic > 0).any() and (acoustic < 0).any()
    heard = np.zeros(len(acoustic)) if mixed else _stretched(acoustic)
    with np.errstate(over="ignore"):
        return heard + _stretched(-np.exp(nats))


def _unscored_first(logprobs: Scores) -> float:
    return -float(np.mean(logprobs[1:])) if len(logprobs) > 1 else math.inf


def _stretched(values: Scores) -> Scores:
    """Bring values to 0 ... 1; -inf counts as the worst of the others, and equal values are all 1."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.ones(len(values))
    low, high = values[finite].min(), values[finite].max()
    filled = np.where(finite, values, low)
    if high == low:
        # What is impossible is still worse than the rest.
        return np.where(finite, 1.0, 0.0)
    return (filled - low) / (high - low)


def _standard(values: Scores) -> Scores:
    finite = np.isfinite(values)
    if not finite.any():
        return np.full(len(values), -np.inf)
    mean, sd = values[finite].mean(), values[finite].std()
    # Deviations of rounding are none.
    flat = sd <= 1e-12 * max(1.0, abs(mean))
    with np.errstate(invalid="ignore"):
        scaled = np.zeros(len(values)) if flat else (values - mean) / sd
    return np.where(finite, scaled, -np.inf)
