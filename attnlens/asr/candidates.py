"""The hypotheses of one utterance with everything a selection rule may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.language_model import LanguageModel, TextScore
from attnlens.asr.nbest import NBest
from attnlens.errors import BadInput

__all__ = ["Candidates", "score_candidates"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Hypotheses in the order of their list: texts, acoustic log-probabilities [n] and a language model's scores.

    >>> from attnlens.asr.nbest import Hypothesis
    >>> nbest = NBest("u1", (Hypothesis("ka to", -3.0), Hypothesis("ka do", -4.0)))
    >>> Candidates.of(nbest, [TextScore(np.array([-1.0]), -0.5), TextScore(np.array([-2.0]), -0.5)]).lm_totals.tolist()
    [-1.5, -2.5]
    """

    utterance_id: str
    texts: tuple[str, ...]
    acoustic: NDArray[np.float64]
    scores: tuple[TextScore, ...]

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.acoustic) == len(self.scores):
            raise BadInput(
                f"the hypotheses of {self.utterance_id!r} and their scores differ in number",
                given=f"{len(self.texts)} texts, {len(self.acoustic)} acoustic and {len(self.scores)} language scores",
                fix="score every hypothesis once, in the order of the list",
            )
        if np.isnan(self.acoustic).any() or (self.acoustic == np.inf).any():
            raise BadInput(f"an acoustic score of {self.utterance_id!r} is no log-probability", given=self.acoustic)

    @classmethod
    def of(cls, nbest: NBest, scores: Sequence[TextScore]) -> Candidates:
        """Put a list and its language scores together."""
        acoustic = np.array([one.acoustic for one in nbest.hypotheses], dtype=np.float64)
        return cls(nbest.utterance_id, tuple(one.text for one in nbest.hypotheses), acoustic, tuple(scores))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lm_totals(self) -> NDArray[np.float64]:
        """Log-probability of exactly each text, its end included [n]."""
        return np.array([one.total for one in self.scores], dtype=np.float64)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each text as the language model counts them, its end not counted [n]."""
        return np.array([one.tokens for one in self.scores], dtype=np.int64)

    def first(self, n: int) -> Candidates:
        """Return the list cut to its first n hypotheses."""
        return Candidates(self.utterance_id, self.texts[:n], self.acoustic[:n], self.scores[:n])


def score_candidates(
    lists: Sequence[NBest], model: LanguageModel, *, demonstrations: Sequence[Sequence[str]] | None = None
) -> list[Candidates]:
    """Score every hypothesis of every list with a language model.

    ``demonstrations`` holds texts for each utterance, for models that read them.

    >>> from attnlens.asr.kneser_ney import train_ngram
    >>> from attnlens.asr.nbest import Hypothesis
    >>> nbest = NBest("u1", (Hypothesis("ka do", -3.0), Hypothesis("ka to", -3.5)))
    >>> scored = score_candidates([nbest], train_ngram(["ka to", "to ka"], order=3))
    >>> int(scored[0].lm_totals.argmax())
    1
    """
    shown = [()] * len(lists) if demonstrations is None else demonstrations
    if len(shown) != len(lists):
        raise BadInput("every list needs its demonstrations", given=f"{len(shown)} for {len(lists)} lists")
    return [
        Candidates.of(
            one, model.score([each.text for each in one.hypotheses], demonstrations=texts) if len(one) else []
        )
        for one, texts in zip(lists, shown, strict=True)
    ]
