"""The exact probability that a CTC model gives a transcript: the sum over all of its alignments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

__all__ = ["checked_frames", "sequence_scores"]

_SLACK = 1e-3


def checked_frames(frames: NDArray[np.floating], *, width: int, name: str = "the clip") -> NDArray[np.float64]:
    """Return frame log-probabilities [frames, width] in double precision; what is none is refused."""
    found = np.asarray(frames, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != width:  # noqa: PLR2004 - frames x vocabulary
        raise BadInput(
            f"these are no frames of {name} over the vocabulary",
            given=f"shape {list(found.shape)}",
            present=f"[frames, {width}]",
        )
    if np.isnan(found).any() or (found > _SLACK).any():
        raise BadInput(
            f"the frames of {name} are no log-probabilities",
            given="NaN" if np.isnan(found).any() else f"a value of {found.max():.3g}",
            fix="pass log_softmax of the model's logits",
        )
    return found


def sequence_scores(
    frames: NDArray[np.floating], sequences: Sequence[Sequence[int]], *, blank: int
) -> NDArray[np.float64]:
    """Return the log-probability of each id sequence [sequences], summed over alignments; -inf where none fits.

    Parameters
    ----------
    frames
        Log-probabilities [frames, vocabulary].

    >>> half = np.log(np.full((2, 2), 0.5))
    >>> np.exp(sequence_scores(half, [[], [1], [1, 1]], blank=0)).tolist()
    [0.25, 0.75, 0.0]
    """
    count, longest = len(sequences), max((len(one) for one in sequences), default=0)
    if not count:
        return np.zeros(0)
    states = np.full((count, 2 * longest + 1), blank, dtype=np.int64)
    lengths = np.array([len(one) for one in sequences])
    for row, one in enumerate(sequences):
        states[row, 1 : 2 * len(one) : 2] = one
    # From a label to the next one directly, unless it is the same one again.
    skips = np.zeros(states.shape, dtype=bool)
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    alpha = np.full((count, 2 * longest + 3), -np.inf)
    alpha[:, 2] = 0.0
    if len(frames):
        first = frames[0][states]
        alpha[:, 2] = first[:, 0]
        if longest:
            alpha[:, 3] = np.where(lengths > 0, first[:, 1], -np.inf)
    for frame in np.asarray(frames, dtype=np.float64)[1:]:
        arrived = np.logaddexp(alpha[:, 2:], alpha[:, 1:-1])
        arrived = np.where(skips, np.logaddexp(arrived, alpha[:, :-2]), arrived)
        alpha[:, 2:] = arrived + frame[states]
    rows = np.arange(count)
    last = alpha[rows, 2 * lengths + 2]
    before = np.where(lengths > 0, alpha[rows, 2 * lengths + 1], -np.inf)
    scores: NDArray[np.float64] = np.logaddexp(last, before)
    return scores
