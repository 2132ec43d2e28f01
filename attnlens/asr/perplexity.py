"""How surprised a model is by texts, told in four ways that are not the same, and whether that foretells errors."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.language_model import TextScore
from attnlens.data.normalise import characters
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.intervals import RESAMPLES
from attnlens.stats.permutation import DRAWS
from attnlens.stats.rank import RankCorrelation, rank_correlation
from attnlens.stats.results import Interval

__all__ = ["Perplexity", "ScoredEnd", "foretells", "perplexity"]

ScoredEnd = Literal["scored", "left-out"]
Values = Sequence[float] | NDArray[np.float64]
"""One number for each utterance."""
TOP = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class Perplexity:
    """What a model thinks of texts.

    ``per_token`` is exp(sum of nats / sum of tokens); ``bits_per_character`` is comparable across tokenizers;
    ``median`` is that of the utterances' own perplexities; ``paper`` is how the published tables were made: first token
    and end unscored, the utterances' perplexities averaged and the digits cut off (None if no text has two tokens).
    ``top_share`` is the part of all nats that the worst 1 % of utterances (at least one) contribute. ``interval`` is of
    ``per_token``, made on the scale of nats.
    """

    per_token: float
    bits_per_character: float
    median: float
    paper: float | None
    top_share: float
    interval: Interval | None
    utterances: int
    tokens: int
    characters: int
    impossible: int
    end: ScoredEnd
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        interval = "" if self.interval is None else f" [{self.interval.low:.4g}, {self.interval.high:.4g}]"
        paper = "none" if self.paper is None else f"{self.paper:g}"
        told = (
            f"perplexity {self.per_token:.4g}{interval} per token, {self.bits_per_character:.3f} bits per character, "
            f"median {self.median:.4g}, paper {paper} ({self.utterances:,} utterances, {self.tokens:,} tokens, "
            f"end {self.end})"
        )
        return "; ".join([told, *self.notes])


def perplexity(
    scores: Sequence[TextScore],
    texts: Sequence[str],
    *,
    end: ScoredEnd = "scored",
    clusters: Iterable[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Perplexity:
    """Summarise the scores of texts.

    A text of log-probability -inf makes every sum infinite: ``impossible`` counts such texts, and there is no interval.

    Parameters
    ----------
    end
        Whether that the text ends counts as a token.
    clusters
        Speakers or recordings, for the interval.

    >>> score = TextScore(np.log([0.25, 0.5, 0.5]), end=np.log(0.5))
    >>> found = perplexity([score] * 8, ["abc"] * 8, end="left-out", resamples=99)
    >>> round(found.per_token, 3), round(found.bits_per_character, 3), found.paper
    (2.52, 1.333, 2.0)
    """
    if end not in get_args(ScoredEnd):
        raise UnknownName.among("treatment of the end", end, get_args(ScoredEnd))
    if len(scores) != len(texts):
        raise BadInput("scores and texts are not the same utterances", given=f"{len(scores)} and {len(texts)}")
    last = 1 if end == "scored" else 0
    nats = np.array([-(one.total if last else one.text) for one in scores], dtype=np.float64)
    tokens = np.array([one.tokens + last for one in scores], dtype=np.int64)
    spelled = np.array([len(characters(text)) for text in texts], dtype=np.int64)
    if not tokens.sum() or not spelled.sum():
        raise BadInput(
            "a perplexity needs text",
            given=f"{len(texts)} texts, {int(tokens.sum())} tokens, {int(spelled.sum())} characters",
            fix="pass texts with content",
        )
    impossible = int((~np.isfinite(nats)).sum())
    notes = [f"{impossible:,} texts are impossible, so sums are infinite"] if impossible else []
    if int((tokens == 0).sum()):
        notes.append(f"{int((tokens == 0).sum()):,} texts without tokens have no perplexity of their own")
    interval = None
    groups = None if clusters is None else list(clusters)
    if not impossible:
        try:
            made = bootstrap(nats, per=tokens, clusters=groups, resamples=resamples, seed=seed)
            interval = made.transformed(np.exp, statistic="perplexity")
        except BadInput as error:
            notes.append(f"no interval: {error.message}")
    own = np.exp(np.minimum(nats[tokens > 0] / tokens[tokens > 0], 700.0))
    own[np.isinf(nats[tokens > 0])] = math.inf
    return Perplexity(
        per_token=_exp(nats.sum() / tokens.sum()),
        bits_per_character=float(nats.sum() / spelled.sum() / math.log(2)),
        median=float(np.median(own)),
        paper=_paper(scores),
        top_share=_top_share(nats),
        interval=interval,
        utterances=len(scores),
        tokens=int(tokens.sum()),
        characters=int(spelled.sum()),
        impossible=impossible,
        end=end,
        notes=tuple(notes),
    )


def foretells(
    nats: Mapping[str, Values],
    errors: Mapping[str, Values],
    *,
    tokens: Mapping[str, Values],
    clusters: Iterable[Hashable] | None = None,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> RankCorrelation:
    """Ask whether configurations with a lower perplexity also make fewer errors: Spearman's rho over configurations.

    Each configuration gives, of the same utterances in the same order, the nats of the references, the errors of its
    transcripts, and into how many tokens the references fall; sums over them then rank configurations as perplexity and
    error rate do. The interval is about these configurations with other utterances. Five configurations are the fewest.

    >>> rng = np.random.default_rng(0)
    >>> nats = {str(n): 5.0 + n + rng.random(8) for n in range(5)}
    >>> errors = {str(n): n + rng.integers(0, 2, 8) for n in range(5)}
    >>> foretells(nats, errors, tokens=dict.fromkeys(nats, [4] * 8), resamples=99, draws=99).rho
    1.0
    """
    if not set(nats) == set(errors) == set(tokens):
        raise BadInput(
            "likelihoods and errors are of other configurations",
            given=listing(sorted(nats)),
            present=f"{listing(sorted(errors))}; tokens of {listing(sorted(tokens))}",
            fix="leave out what only one of them has",
        )
    lengths = {len(listed) for values in (nats, errors, tokens) for listed in values.values()}
    if len(lengths) != 1:
        raise BadInput("configurations were measured on other utterances", given=f"{sorted(lengths)} utterances")
    if len({tuple(listed) for listed in tokens.values()}) != 1:
        raise BadInput(
            "perplexities of several tokenizers, or of several texts, cannot be ranked",
            fix="score the same references, by configurations of one model",
        )
    return rank_correlation(
        np.stack([np.asarray(nats[name], dtype=np.float64) for name in nats], axis=1),
        np.stack([np.asarray(errors[name], dtype=np.float64) for name in nats], axis=1),
        clusters=clusters,
        resamples=resamples,
        draws=draws,
        seed=seed,
    )


def _paper(scores: Sequence[TextScore]) -> float | None:
    # A text of one token has nothing left to score; such utterances were dropped from the mean.
    kept = [-float(np.mean(one.logprobs[1:])) for one in scores if one.tokens > 1]
    if not kept:
        return None
    mean = float(np.mean([_exp(nats) for nats in kept]))
    return mean if math.isinf(mean) else float(int(mean))


def _top_share(nats: NDArray[np.float64]) -> float:
    if np.isinf(nats).any():
        return 1.0
    worst = np.sort(nats)[::-1][: max(1, math.ceil(TOP * len(nats)))]
    return float(worst.sum() / nats.sum()) if nats.sum() > 0 else 0.0


def _exp(nats: float) -> float:
    # What does not fit into a float is as good as impossible.
    return math.exp(nats) if nats < 700 else math.inf  # noqa: PLR2004
