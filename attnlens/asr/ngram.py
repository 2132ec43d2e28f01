"""An n-gram model as probabilities and back-off weights: what is trained, read, written, scored and searched with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attnlens.asr.language_model import TextScore
from attnlens.asr.symbols import BEGIN, END, UNKNOWN, SymbolUnit, symbols
from attnlens.errors import BadInput

__all__ = ["Gram", "NGram", "State"]

Gram = tuple[str, ...]
State = tuple[str, ...]
"""The symbols that still matter for what follows, oldest first."""
STEPS = 1_000_000
"""How many steps are remembered."""


@dataclass(frozen=True, eq=False)
class NGram:
    """A back-off model in natural logarithms: seen n-grams have a log-probability, contexts a log back-off weight.

    ``probabilities[n - 1]`` and ``backoffs[n - 1]`` hold the n-grams of n symbols; a context without a weight has 0,
    that is certainty. ``discounts`` says how each order was smoothed, where that is known.

    >>> from attnlens.asr.kneser_ney import train_ngram
    >>> model = train_ngram(["ka to", "ka mi"], order=2, unit="words")
    >>> model.logprob("to", ("ka",)) == model.logprob("mi", ("ka",)) > model.logprob("to")
    True
    """

    unit: SymbolUnit
    probabilities: tuple[Mapping[Gram, float], ...]
    backoffs: tuple[Mapping[Gram, float], ...]
    name: str = "n-gram"
    discounts: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.probabilities or len(self.probabilities) != len(self.backoffs):
            raise BadInput("an n-gram model has as many orders of weights as of probabilities, and at least one")
        if (END,) not in self.probabilities[0]:
            raise BadInput(f"the model gives its texts no end: {END} is not among its symbols", fix=f"train with {END}")

    @property
    def order(self) -> int:
        """The longest n-gram."""
        return len(self.probabilities)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every symbol that can come next, the end and the unknown one included, the beginning not."""
        return tuple(symbol for (symbol,) in self.probabilities[0] if symbol != BEGIN)

    @property
    def start(self) -> State:
        """The state before the first symbol."""
        return (BEGIN,)[: self.order - 1]

    @cached_property
    def pieces(self) -> frozenset[str]:
        """The pieces of words that a model of pieces knows; empty for others."""
        if self.unit != "pieces":
            return frozenset()
        return frozenset(symbol for symbol in self.vocabulary if symbol not in (END, UNKNOWN))

    def symbols_of(self, text: str) -> list[str]:
        """Return a text as this model reads it."""
        return symbols(text, self.unit, pieces=self.pieces)

    def known(self, symbol: str) -> str:
        """Return the symbol, or the unknown one in its stead."""
        return symbol if (symbol,) in self.probabilities[0] else UNKNOWN

    def logprob(self, symbol: str, state: Sequence[str] = ()) -> float:
        """Return the log-probability of a symbol after a state; -inf for one that a model without <unk> lacks."""
        context = tuple(state)[max(0, len(state) - self.order + 1) :]
        weight = 0.0
        last = self.known(symbol)
        while True:
            found = self.probabilities[len(context)].get((*context, last))
            if found is not None:
                return weight + found
            if not context:
                return -math.inf
            weight += self.backoffs[len(context) - 1].get(context, 0.0)
            context = context[1:]

    def step(self, state: State, symbol: str) -> tuple[float, State]:
        """Return the log-probability of a symbol and the state behind it; contexts that were never seen are dropped."""
        found = self._steps.get((state, symbol))
        if found is None:
            following = (*state, self.known(symbol))[max(0, len(state) + 2 - self.order) :] if self.order > 1 else ()
            while following and following not in self.probabilities[len(following) - 1]:
                following = following[1:]
            if len(self._steps) >= STEPS:
                self._steps.clear()
            found = self._steps[state, symbol] = self.logprob(symbol, state), following
        return found

    @cached_property
    def _steps(self) -> dict[tuple[State, str], tuple[float, State]]:
        # A beam asks for the same steps again and again.
        return {}

    def finish(self, state: State) -> float:
        """Return the log-probability that the text ends in this state."""
        return self.logprob(END, state)

    def score_symbols(self, sequence: Iterable[str]) -> TextScore:
        """Score a sequence of symbols from the beginning of a text to its end."""
        state, found = self.start, []
        for symbol in sequence:
            logprob, state = self.step(state, symbol)
            found.append(logprob)
        return TextScore(np.array(found, dtype=np.float64), self.finish(state))

    def score(self, texts: Sequence[str], *, demonstrations: Sequence[str] = ()) -> list[TextScore]:
        """Score texts; an n-gram model reads no demonstrations."""
        if demonstrations:
            raise BadInput(
                "an n-gram model reads no demonstrations",
                given=f"{len(demonstrations)} texts",
                fix="train it on them, or use a causal language model",
            )
        return [self.score_symbols(self.symbols_of(text)) for text in texts]
