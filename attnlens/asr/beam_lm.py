"""What a language model must say to steer the beam, and how its scores follow a growing transcript."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from attnlens.asr.ngram import NGram
from attnlens.asr.symbols import SPACE, SymbolUnit
from attnlens.data.normalise import clusters
from attnlens.errors import BadInput

__all__ = ["BeamLM", "Follower", "Written"]

_SLACK = 1e-6


class BeamLM(Protocol):
    """A language model that is asked symbol by symbol, as :class:`attnlens.asr.ngram.NGram` can be.

    Log-probabilities are natural. A character model is told a space as :data:`attnlens.asr.symbols.SPACE`.
    """

    @property
    def unit(self) -> SymbolUnit:
        """What a symbol is."""
        ...

    @property
    def start(self) -> Any:
        """The state before the first symbol."""
        ...

    def step(self, state: Any, symbol: str, /) -> tuple[float, Any]:
        """Return the log-probability of a symbol in a state, and the state behind it."""
        ...

    def finish(self, state: Any, /) -> float:
        """Return the log-probability that the text ends in a state."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A transcript on its way: what the language model gave so far, its state, and what it was not told yet.

    ``pending`` is the word being written, or a letter that marks may follow; ``space`` says that a space stands at
    the end, which counts once something follows.
    """

    state: Hashable
    score: float = 0.0
    units: int = 0
    pending: str = ""
    space: bool = False


class Follower:
    """Keep the sum of a language model's scores as pieces of text are added.

    What counts is the tidy text: spaces at its ends and doubled ones score nothing.

    Parameters
    ----------
    pieces
        Everything that may be added. Where marks that join the letter before are among it, a letter is told to a
        character model only when the next one comes.

    >>> from attnlens.asr.kneser_ney import train_ngram
    >>> model = train_ngram(["ka to", "ka mi"], order=2, unit="words")
    >>> follower = Follower(model, [" ", "ka ", "to"])
    >>> score, units = follower.end(follower.add(follower.add(follower.start, "ka "), "to"))
    >>> score == model.score(["ka to"])[0].total, units
    (True, 2)
    """

    def __init__(self, lm: BeamLM, pieces: Iterable[str]) -> None:
        self.lm = lm
        self.words = lm.unit != "characters"
        # A model of pieces is told a word piece by piece, once the word is whole.
        self.cut: Callable[[str], list[str]] = lm.symbols_of if isinstance(lm, NGram) and lm.unit == "pieces" else _one
        # A mark after a letter is one cluster with it.
        self.waits = self.words or any(len(clusters("a" + one)) == 1 for piece in pieces for one in piece)

    @property
    def start(self) -> Written:
        """The empty transcript."""
        return Written(self.lm.start)

    def add(self, written: Written, piece: str) -> Written:
        """Return the transcript with a piece of text more."""
        for character in piece:
            written = self._add(written, character)
        return written

    def end(self, written: Written) -> tuple[float, int]:
        """Return the score of the whole text, its end included, and how many units it has."""
        done = self._told(written)
        return done.score + self._checked(self.lm.finish(done.state), "the end"), done.units

    def _add(self, written: Written, character: str) -> Written:
        if character.isspace():
            told = self._told(written)
            return Written(told.state, told.score, told.units, "", told.units > 0)
        if self.waits:
            if written.pending and (self.words or len(clusters(written.pending + character)) == 1):
                return replace(written, pending=written.pending + character)
            return replace(self._told(written), pending=character)
        return self._tell(written, character)

    def _told(self, written: Written) -> Written:
        """Tell the language model what it was not told yet, but for a space at the end."""
        return self._tell(written, written.pending) if written.pending else written

    def _tell(self, written: Written, symbol: str) -> Written:
        """Tell the language model a symbol, and before it the space that was waiting for one."""
        state, score, units = written.state, written.score, written.units
        if written.space and not self.words:
            gained, state = self._step(state, SPACE)
            score, units = score + gained, units + 1
        for part in self.cut(symbol):
            gained, state = self._step(state, part)
            score, units = score + gained, units + 1
        return Written(state, score, units)

    def _step(self, state: Hashable, symbol: str) -> tuple[float, Hashable]:
        score, following = self.lm.step(state, symbol)
        return self._checked(score, symbol), following

    def _checked(self, score: float, symbol: str) -> float:
        # The search counts on it: what is above 0 could come back into a beam that has let it go.
        if not score <= _SLACK:
            raise BadInput(
                "the language model's score is no log-probability",
                given=f"{score} for {symbol!r}",
                fix="return natural logarithms of probabilities",
            )
        return min(score, 0.0)


def _one(symbol: str) -> list[str]:
    return [symbol]
