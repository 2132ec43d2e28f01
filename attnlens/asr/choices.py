"""How recordings are to be transcribed, and what dev decided where that was left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnlens.asr.repetition import GUARDS
from attnlens.asr.selection import RULES
from attnlens.asr.tuning import Weights
from attnlens.context.retrieval.base import parse_retriever
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput

__all__ = ["INTERPOLATED", "PLAIN", "Choices", "Wanted"]

INTERPOLATED, PLAIN = "interpolated", "sum-logprob"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How recordings are to be transcribed; several ``shots`` or no ``rule`` leave the choice to dev.

    ``rule`` None means ``interpolated`` where its tuned weights are better than none on parts of dev that they were not
    tuned on, else ``sum-logprob``. ``retriever`` None means ``text`` with an acoustic model, else ``audio``. At most
    ``dev`` utterances of dev are used, from the front; 0 uses none.

    >>> Wanted(shots=(4, 8), rule="z-score").shots
    (4, 8)
    """

    shots: tuple[int, ...] = (8,)
    n: int = 10
    rule: str | None = None
    retriever: str | None = None
    guard: str = "loops"
    dev: int = 50
    normaliser: str = "basic-unicode"

    def __post_init__(self) -> None:
        if not self.shots or min(self.shots) < 0 or len(set(self.shots)) < len(self.shots):
            raise BadInput("shots are different numbers of examples, 0 or more", given=list(self.shots))
        if self.dev < 0:
            raise BadInput("the most utterances of dev to use is 0 or more", given=self.dev)
        if self.rule is not None:
            RULES.require(self.rule)
        if self.retriever is not None:
            parse_retriever(self.retriever)
        GUARDS.require(self.guard)

    def check(self, corpus: Corpus, *, acoustic: str | None) -> None:
        """Refuse what cannot be done with these examples; needs no model, only whether there is an acoustic one."""
        if max(self.shots) > len(corpus.pool):
            raise BadInput(
                "more examples are to be shown than there are",
                given=f"{max(self.shots)} shots",
                present=f"{len(corpus.pool)} utterances in the pool of {corpus.name!r}",
                fix="pass fewer shots, or add transcribed recordings",
            )
        if corpus.dev[: self.dev]:
            return
        needs = []
        if len(self.shots) > 1:
            needs.append("several numbers of shots")
        if acoustic is not None and self.rule == INTERPOLATED:
            needs.append(f"the rule {INTERPOLATED!r}")
        if needs:
            raise BadInput(
                f"{' and '.join(needs)}: dev is to decide, and there is none",
                given=f"{len(corpus.dev)} utterances in dev, of which {self.dev} may be used",
                fix="give some utterances the split 'dev', or name one number of shots and another rule",
            )


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What was decided, and on what.

    ``tuned`` names what dev decided, ``tried`` how many words each number of shots left wrong there. ``rule`` is None
    where the model writes freely. ``wrong`` of ``words`` of ``utterances`` of dev were wrong.
    """

    shots: int
    rule: str | None
    retriever: str
    weights: Weights | None = None
    tuned: tuple[str, ...] = ()
    tried: dict[int, int] | None = None
    utterances: int = 0
    wrong: int = 0
    words: int = 0

    def __str__(self) -> str:
        how = "written freely" if self.rule is None else f"chosen by {self.rule}"
        if self.weights is not None:
            how += f" (acoustic + {self.weights.lm:g} x model {self.weights.bonus:+g} per token)"
        told = f"{how}; {self.shots} examples each, found by {self.retriever}"
        if not self.tuned:
            return f"{told}; nothing was tuned"
        tried = "" if not self.tried else " (" + ", ".join(f"{k}: {w} wrong" for k, w in self.tried.items()) + ")"
        return (
            f"{told}; {' and '.join(self.tuned)} tuned on {self.utterances} utterances of dev{tried}, "
            f"where {self.wrong} of {self.words} words are wrong: on other speech expect more"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON output has them."""
        weights = None if self.weights is None else {"lm": self.weights.lm, "bonus": self.weights.bonus}
        tried = None if self.tried is None else {str(shots): wrong for shots, wrong in self.tried.items()}
        return {**vars(self), "weights": weights, "tuned": list(self.tuned), "tried": tried, "said": str(self)}
