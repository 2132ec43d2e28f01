"""What a retriever is, which ones there are, and the one call that uses them by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from attnlens.data.utterance import Utterance
from attnlens.errors import UnknownName
from attnlens.mapping import parse_named
from attnlens.registry import Registry

__all__ = ["RETRIEVERS", "Query", "Ranking", "Retriever", "Use", "make", "parse_retriever", "retrieve"]

Use = Literal["hypothesis", "audio", "gold-text"]
"""What of the target a retriever ranks by."""


@dataclass(frozen=True)
class Query:
    """One target to find demonstrations for.

    ``hypothesis`` is what an acoustic model made of the audio (its 1-best). Text retrievers search with it and never
    with ``utterance.text``, which a system would not have; only the retriever named ``oracle`` does.
    """

    utterance: Utterance
    hypothesis: str | None = None


@dataclass(frozen=True)
class Ranking:
    """The pool items chosen for one query, best first, with the score each was chosen by (never increasing)."""

    ids: tuple[str, ...]
    scores: tuple[float, ...]


class Retriever(Protocol):
    """Anything that ranks a pool for queries. The ranking of a query depends on that query and the pool alone."""

    @property
    def uses(self) -> frozenset[Use]:
        """Return what of the target the ranking uses, for the account of what a system was exposed to."""
        ...

    def rank(self, queries: Sequence[Query], pool: Sequence[Utterance], *, k: int) -> list[Ranking]:
        """Return one ranking of k pool items per query, in the order of the queries."""
        ...


_HERE = "attnlens.context.retrieval"
RETRIEVERS: Registry[Callable[..., Retriever]] = Registry(
    "retriever",
    group="attnlens.retrievers",
    builtin={
        "audio": (f"{_HERE}.audio:AudioRetriever", "cosine of mean speech-encoder states, or of log-mel statistics"),
        "coverage": (f"{_HERE}.coverage:CoverageRetriever", "greedily covers the hypothesis's characters and n-grams"),
        "degraded": (
            f"{_HERE}.degraded:DegradedRetriever",
            "another retriever (of=) with a share of its choices drawn by chance",
        ),
        "first": (f"{_HERE}.simple:FirstRetriever", "the first of the pool: the same examples for every target"),
        "kl": (f"{_HERE}.kl:KLRetriever", "least divergence of speech-encoder states (SMILE), in four variants"),
        "length": (
            f"{_HERE}.simple:LengthRetriever",
            "the nearest duration in seconds, or demonstrations of so many seconds together (total=)",
        ),
        "oracle": (f"{_HERE}.text:OracleRetriever", "as text, but searching with the gold text: an upper bound"),
        "random": (f"{_HERE}.simple:RandomRetriever", "a seeded permutation of the pool, one per target"),
        "text": (f"{_HERE}.text:TextRetriever", "cosine of character n-gram TF-IDF, or of a sentence encoder"),
        "text+audio": (f"{_HERE}.audio:TextAudioRetriever", "the sum of the text and the audio cosine"),
        "ticl": (f"{_HERE}.ticl:TiclRetriever", "nearest neighbours of the pseudo-label's embedding"),
        "ticl+": (f"{_HERE}.ticl:TiclPlusRetriever", "300 nearest by text, then re-ranked by audio"),
    },
)
"""Retrievers by name. Each value makes one from keyword options; ``seed``, ``duplicates`` and ``cache`` fit all.

Installed packages add names through the entry-point group ``attnlens.retrievers``."""


def parse_retriever(text: str) -> tuple[str, dict[str, Any]]:
    """Read a retriever with its options from one word, as specs and flags hold it.

    >>> parse_retriever("kl:variant=js")
    ('kl', {'variant': 'js'})
    """
    # A wrong name is told before wrong options are.
    RETRIEVERS.require(text.partition(":")[0])
    return parse_named(text, what="retriever", example="kl:variant=js")


def make(name: str, **options: Any) -> Retriever:
    """Make a retriever by name, refusing options it does not have rather than ignoring them.

    Options may also follow the name, as in ``kl:variant=js``; those passed win.

    >>> sorted(make("text+audio").uses)
    ['audio', 'hypothesis']
    >>> make("text", sed=1)
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown option of the retriever 'text': 'sed'
      present: cache, device, duplicates, encoder, seed, src_lang
      fix:     did you mean 'seed'?
    """
    name, said = parse_retriever(name)
    options = {**said, **options}
    factory = RETRIEVERS[name]
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            raise UnknownName.among(f"option of the retriever {name!r}:", option, sorted(parameters))
    return factory(**options)


def retrieve(
    queries: Sequence[Query], pool: Sequence[Utterance], *, k: int, retriever: str = "text", **options: Any
) -> list[Ranking]:
    """Choose k demonstrations from the pool for each query, by a named retriever.

    The target itself and its duplicates (same id, same audio, and unless ``duplicates="keep-text"`` the same normalised
    text) are never chosen. Ties go to the earlier pool item.

    Parameters
    ----------
    queries
        Targets with their acoustic hypotheses; see :class:`Query`.
    pool
        Utterances with unique ids to choose from.
    k
        Demonstrations per query. 0 gives empty rankings; more than there are to choose from is an error.
    retriever
        A name from :data:`RETRIEVERS`.
    options
        What the named retriever takes: ``seed``, ``duplicates``, ``cache`` and its own.

    >>> import numpy as np
    >>> from attnlens.data.audio import Audio
    >>> def said(text: str) -> Utterance:
    ...     return Utterance(text[:2], Audio.from_array(np.full(160, len(text) / 99, "float32")), text, "eng")
    >>> pool = [said("a red apple"), said("two blue boats"), said("three boats")]
    >>> retrieve([Query(said("blue oats"), hypothesis="blu boats")], pool, k=2)[0].ids
    ('tw', 'th')
    """
    return make(retriever, **options).rank(queries, pool, k=k)
