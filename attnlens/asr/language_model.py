"""What a language model is to the rest: texts in, log-probabilities per token and of the end out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

__all__ = ["LanguageModel", "TextScore"]


@dataclass(frozen=True, eq=False)
class TextScore:
    """Log-probabilities (natural log) of one text: ``logprobs`` [tokens], and ``end``, that the text ends there.

    -inf is a score (impossible); NaN and what exceeds certainty are refused.

    >>> score = TextScore(np.log([0.5, 0.25]), end=np.log(0.5))
    >>> round(float(score.total / np.log(2)), 6), score.tokens
    (-4.0, 2)
    """

    logprobs: NDArray[np.float64]
    end: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", float(self.end))
        values = np.append(np.asarray(self.logprobs, dtype=np.float64).ravel(), self.end)
        # Rounding may bring a certain token a little above certainty.
        if np.isnan(values).any() or (values > 1e-4).any():  # noqa: PLR2004
            raise BadInput(
                "a score holds something other than log-probabilities",
                given=f"values from {values.min()} to {values.max()}, {int(np.isnan(values).sum())} of them NaN",
                fix="check the model's dtype: half precision overflows in some models",
            )

    @property
    def tokens(self) -> int:
        """How many tokens the text has, its end not counted."""
        return len(self.logprobs)

    @property
    def text(self) -> float:
        """The sum over the text's tokens, its end left open; 0 for an empty text."""
        return float(np.sum(self.logprobs, dtype=np.float64))

    @property
    def total(self) -> float:
        """The log-probability of exactly this text: its tokens, then its end."""
        return self.text + self.end

    @property
    def per_token(self) -> float:
        """The mean over the tokens and the end, which an empty text has too."""
        return self.total / (self.tokens + 1)

    @property
    def finite(self) -> bool:
        """Whether the text is possible at all."""
        return math.isfinite(self.total)


class LanguageModel(Protocol):
    """Anything that says how probable texts of a language are."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def score(self, texts: Sequence[str], *, demonstrations: Sequence[str] = ()) -> list[TextScore]:
        """Return one score per text. Models that read no demonstrations refuse them rather than ignore them."""
        ...
