"""Corpora by name: what a spec may read without giving a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from attnlens.data.corpus import Corpus, OnBad
from attnlens.data.read import read_corpus
from attnlens.errors import UnknownName
from attnlens.registry import Registry

__all__ = ["CORPORA", "find_corpus"]

CORPORA: Registry[Callable[[], Corpus]] = Registry(
    "corpus",
    group="attnlens.corpora",
    builtin={
        "guarani": (
            "attnlens.organism.shipped:guarani",
            "synthetic speech of the UN declaration; the organism's target",
        ),
        "maori": ("attnlens.organism.shipped:maori", "the same in Maori"),
        "quechua": ("attnlens.organism.shipped:quechua", "the same in Ayacucho Quechua"),
        "synthetic": ("attnlens.testing:corpus", "tones with made-up words: for tries and tests"),
    },
)
"""Functions without arguments that return a corpus, by name."""


def find_corpus(name: str, *, on_bad: OnBad = "refuse") -> Corpus:
    """Return a registered corpus, or read the one at a path.

    >>> find_corpus("synthetic")
    Corpus('synthetic', language='xx', pool=8, dev=2, test=4)
    """
    if name in CORPORA:
        return CORPORA[name]()
    if not Path(name).exists():
        raise UnknownName.among("corpus", name, CORPORA, fix="pass one of these, or the path of a manifest or a folder")
    return read_corpus(name, on_bad=on_bad)
