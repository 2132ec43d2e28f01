"""Least divergence of encoder states, as SMILE retrieves; what it leaves open is a named variant here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.audio_encoders import AudioEncoder, Summary, audio_encoder, mean, summarised
from attnlens.context.retrieval.base import Query, Use
from attnlens.context.retrieval.divergences import DiscreteKL, GaussianKL, JensenShannon, softmax
from attnlens.context.retrieval.scored import ScoredRetriever
from attnlens.context.retrieval.scores import Scores
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

__all__ = ["KLRetriever", "Variant"]

Variant = Literal["softmax-mean", "js", "gaussian", "codebook"]

FIT_CLIPS, FIT_FRAMES = 500, 40
"""Pool clips, and frames of each, that the codebook is fitted on."""

SMOOTHING = 0.5
"""Added to every count of a histogram: an unused code would make a divergence infinite."""


@dataclass(frozen=True, kw_only=True)
class KLRetriever(ScoredRetriever):
    """Choose the clips that diverge least from the target; scores are minus the divergence, in nats.

    The direction is D(target || candidate): a candidate may sound like more than the target does, not like less. No
    public source says what SMILE normalises and pools; the variants are explicit readings of it.

    Parameters
    ----------
    variant
        ``softmax-mean``: the softmax over the dimensions of the time-averaged state. ``js``: the Jensen-Shannon
        divergence of the same, which is symmetric. ``gaussian``: frames as a Gaussian with diagonal covariance, in
        closed form. ``codebook``: histograms over a k-means codebook of the pool's frames.
    encoder, layer, device
        As in :class:`~attnlens.context.retrieval.audio.AudioRetriever`; without an encoder, log-mel frames.
    temperature
        What states are divided by before the softmax.
    codes
        The size of the codebook.
    """

    uses: ClassVar[frozenset[Use]] = frozenset({"audio"})
    version: ClassVar[int] = 1

    variant: Variant = "softmax-mean"
    encoder: str | AudioEncoder | None = None
    layer: int | None = None
    temperature: float = 1.0
    codes: int = 64
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise UnknownName.among("variant of the retriever 'kl'", self.variant, get_args(Variant))
        if not self.temperature > 0 or self.codes < 1:
            raise BadInput(
                "the temperature must be positive and the codebook not empty",
                given=f"temperature={self.temperature}, codes={self.codes}",
                fix="leave them at 1.0 and 64, or pass positive values",
            )

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Scores:
        """Return minus the divergences of the pool's clips from the targets'."""
        targets = [query.utterance for query in queries]
        if self.variant == "gaussian":
            moments = partial(self._summarised, summary=_moments, name="mean-and-variance")
            return GaussianKL(moments(targets), moments(pool))
        if self.variant == "codebook":
            centres = self._codebook(pool)
            count = partial(self._summarised, summary=partial(_counts, centres=centres), name=_named(centres))
            return DiscreteKL(_smoothed(count(targets)), _smoothed(count(pool)))
        means = partial(self._summarised, summary=mean, name="mean")
        of_targets, of_pool = (softmax(means(side) / self.temperature) for side in (targets, pool))
        return JensenShannon(of_targets, of_pool) if self.variant == "js" else DiscreteKL(of_targets, of_pool)

    def _summarised(self, utterances: Sequence[Utterance], *, summary: Summary, name: str) -> NDArray[np.float64]:
        rows = summarised(utterances, self._loaded, summary, name=name, cache=self.cache)
        return rows.astype(np.float64)

    def _codebook(self, pool: Sequence[Utterance]) -> NDArray[np.float32]:
        """Fit k-means on some frames of some pool clips and return the centres [codes, dimensions]."""
        from sklearn.cluster import KMeans

        rng = np.random.default_rng(self.seed)
        clips = np.sort(rng.permutation(len(pool))[:FIT_CLIPS])
        some = [_spread(self._loaded.frames(pool[int(clip)].audio)) for clip in clips]
        frames = np.concatenate(some)
        codes = min(self.codes, len(np.unique(frames, axis=0)))
        fitted = KMeans(codes, n_init=1, random_state=self.seed).fit(frames)
        return np.asarray(fitted.cluster_centers_, dtype=np.float32)

    def identities(self) -> tuple[str, ...]:
        """Return what tells the audio encoder from any other."""
        return (self._loaded.identity,)

    @cached_property
    def _loaded(self) -> AudioEncoder:
        return audio_encoder(self.encoder, layer=self.layer, device=self.device)


def _spread(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.take(frames, np.unique(np.linspace(0, len(frames) - 1, FIT_FRAMES).astype(np.intp)), axis=0)


def _moments(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([mean(frames), frames.var(axis=0, dtype=np.float64).astype(np.float32)])


def _counts(frames: NDArray[np.float32], *, centres: NDArray[np.float32]) -> NDArray[np.float32]:
    # The nearest centre has the least |c|^2 - 2 x.c; |x|^2 is the same for all.
    nearest = np.argmin((centres**2).sum(axis=1) - 2 * frames @ centres.T, axis=1)
    counts: NDArray[np.float32] = np.bincount(nearest, minlength=len(centres)).astype(np.float32)
    return counts


def _smoothed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = counts + SMOOTHING
    return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True))


def _named(centres: NDArray[np.float32]) -> str:
    return f"codebook:{hashlib.blake2b(centres.tobytes(), digest_size=16).hexdigest()}"
