"""Every error a user can cause, told as: what was given, what is there, what to pass.

One public base, a handful of kinds. A kind exists when a reader would act differently on it, not for every module that
can fail. The command line prints these as one block and exits with 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "AttnlensError",
    "BadInput",
    "DamagedStore",
    "SelfCheckFailed",
    "UnknownName",
    "UnsupportedModel",
    "closest",
    "listing",
]


class AttnlensError(Exception):
    """Catch this to catch everything attnlens refuses on purpose.

    Parameters
    ----------
    message
        One sentence: what is wrong, naming the thing.
    given
        What the caller passed.
    present
        What is there instead: the allowed values, the columns found, the shape expected.
    fix
        What to pass or do; an imperative.

    >>> raise BadInput("the pool is empty", given="0 utterances", fix="add a split named 'pool' to the manifest")
    Traceback (most recent call last):
    attnlens.errors.BadInput: the pool is empty
      given:   0 utterances
      fix:     add a split named 'pool' to the manifest
    """

    kind: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, given: object | None = None, present: object | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.given = None if given is None else str(given)
        self.present = None if present is None else str(present)
        self.fix = fix

    def details(self) -> dict[str, str]:
        """Return the filled-in fields below the message, in reading order."""
        fields = {"given": self.given, "present": self.present, "fix": self.fix}
        return {name: value for name, value in fields.items() if value}

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {name + ':':8} {value}" for name, value in self.details().items())])

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields are lost by the default protocol, and worker processes send errors back by pickling.
        return _rebuild, (type(self), self.message, self.given, self.present, self.fix)


def _rebuild(
    kind: type[AttnlensError], message: str, given: str | None, present: str | None, fix: str | None
) -> AttnlensError:
    return kind(message, given=given, present=present, fix=fix)


class BadInput(AttnlensError, ValueError):
    """A file, value or combination that cannot be worked with as it is."""

    kind = "bad-input"


class UnknownName(AttnlensError, KeyError):
    """A name that nothing is registered under; says what there is and suggests the closest.

    >>> print(UnknownName.among("retriever", "txet", ["audio", "random", "text"]))
    unknown retriever 'txet'
      present: audio, random, text
      fix:     did you mean 'text'?
    """

    kind = "unknown-name"

    @classmethod
    def among(cls, what: str, name: str, names: Iterable[str], *, fix: str | None = None) -> UnknownName:
        """Build the error for ``name`` looked up among ``names``; ``what`` is the kind of thing, in the singular."""
        names = list(names)
        near = closest(name, names)
        advice = f"did you mean {near!r}?" if near else fix or "pass one of the names above"
        return cls(f"unknown {what} {name!r}", present=listing(names) or f"no {what} is registered", fix=advice)


class UnsupportedModel(AttnlensError, TypeError):
    """A model or checkpoint whose computation attnlens cannot see exactly, with the reason."""

    kind = "unsupported-model"


class SelfCheckFailed(AttnlensError, RuntimeError):
    """A model whose measured numbers disagree with the naive definition; nothing computed with it can be trusted."""

    kind = "self-check"


class DamagedStore(AttnlensError, RuntimeError):
    """A result on disk that is incomplete, altered or of another spec."""

    kind = "damaged-store"


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that a typo most probably meant, or None when nothing is near.

    >>> closest("conditons", ["conditions", "controls"])
    'conditions'
    """
    by_fold = {candidate.casefold(): candidate for candidate in names}
    near = difflib.get_close_matches(name.casefold(), by_fold, n=1, cutoff=0.6)
    return by_fold[near[0]] if near else None


def listing(names: Iterable[object], *, at_most: int = 24) -> str:
    """Join names for a message, saying how many are left out rather than flooding a terminal.

    >>> listing(range(5), at_most=3)
    '0, 1, 2 and 2 more'
    """
    texts = [str(name) for name in names]
    more = len(texts) - at_most
    return ", ".join(texts[:at_most]) + (f" and {more} more" if more > 0 else "")
