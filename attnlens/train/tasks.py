"""What is trained on: tasks with their corpora and their way of asking, mixed by weight; which languages that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from attnlens.data.corpus import Corpus
from attnlens.data.hypotheses import read_hypotheses
from attnlens.data.iso639 import code_of, macro_of, same_language
from attnlens.data.read import read_corpus
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.train.episodes import EpisodeBuilder, Task

__all__ = ["Draw", "Mixture", "read_mixture", "read_pattern", "refuse_overlap", "require_within"]

Draw = Literal["corpora", "utterances"]
"""Whether every corpus is as likely, or every utterance."""
BUILDER = ("shots", "conditions", "templates", "pair_orders", "retriever", "duplicates")


@dataclass(frozen=True)
class _Part:
    name: str
    weight: float
    builder: EpisodeBuilder
    tasks: tuple[Task, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Mixture:
    """Tasks by name, to draw episodes from; ``languages`` are those of their corpora."""

    parts: tuple[_Part, ...]
    languages: tuple[str, ...]

    def build(self, rng: np.random.Generator) -> Any:
        """Draw a task, then a corpus of it, then an episode."""
        part = self.parts[_drawn([one.weight for one in self.parts], rng)]
        return part.builder.build(part.tasks[_drawn(part.shares, rng)], rng)


def read_mixture(
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    common: Mapping[str, Any],
    draw: Draw,
    read: Callable[[str], list[Corpus]] | None = None,
) -> tuple[Mixture, Mixture]:
    """Read the corpora of all tasks; returns what is trained on, and the same asking the dev splits.

    Parameters
    ----------
    tasks
        By name: ``corpora`` (paths), and optionally ``weight``, ``hypotheses`` (a file) and anything that
        :class:`EpisodeBuilder` takes, in the place of ``common``.
    read
        What makes corpora of a path or a pattern; by default they are read.
    """
    if draw not in get_args(Draw):
        raise UnknownName.among("way to draw", draw, get_args(Draw))
    if not tasks:
        raise BadInput("there is no task to train on", given="tasks: {}", fix="name corpora, or tasks with corpora")
    found = {name: _corpora(name, fields, read or read_pattern) for name, fields in tasks.items()}
    trained = [
        _part(name, fields, found[name], common=common, draw=draw, asked="pool") for name, fields in tasks.items()
    ]
    asked = [_part(name, fields, found[name], common=common, draw=draw, asked="dev") for name, fields in tasks.items()]
    asked = [one for one in asked if one.tasks]
    if not asked:
        raise BadInput(
            "no corpus has a dev split to choose the checkpoint by",
            given=listing((str(one) for fields in tasks.values() for one in fields["corpora"]), at_most=6),
            fix="give utterances the split 'dev'",
        )
    for part in (*trained, *asked):
        for task in part.tasks:
            part.builder.require(task)
    languages = tuple(sorted({corpus.language for corpora in found.values() for corpus in corpora}))
    return Mixture(tuple(trained), languages), Mixture(tuple(asked), languages)


def refuse_overlap(trained: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse languages of training that are, or are one macro-language with, a language of the targets.

    >>> refuse_overlap(["fin", "es"], ["quy"])
    >>> refuse_overlap(["qu"], ["quy"])
    Traceback (most recent call last):
    attnlens.errors.BadInput: training languages are target languages
      given:   qu and quy (both que)
      fix:     leave those corpora out, or say overlap: allow
    """
    same = [
        f"{one} and {other} (both {macro_of(one)})" if code_of(one) != code_of(other) else f"{one} and {other}"
        for one in trained
        for other in targets
        if same_language(one, other)
    ]
    if same:
        raise BadInput(
            "training languages are target languages",
            given=listing(same, at_most=6),
            fix="leave those corpora out, or say overlap: allow",
        )


def require_within(trained: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse a language of training that is no language of the targets."""
    others = [one for one in trained if not any(code_of(one) == code_of(other) for other in targets)]
    if others:
        raise BadInput(
            "tuning on the target language reads corpora of other languages",
            given=listing(others, at_most=6),
            present=f"target_languages: {listing(targets)}",
            fix="leave those corpora out, name their languages as targets, or use the recipe xft",
        )


def _corpora(name: str, fields: Mapping[str, Any], read: Callable[[str], list[Corpus]]) -> list[Corpus]:
    known = ("corpora", "weight", "hypotheses", *BUILDER)
    for key in fields:
        if key not in known:
            raise UnknownName.among(f"key of the task {name!r}:", key, known)
    if not fields.get("corpora"):
        raise BadInput(f"the task {name!r} has no corpora", given="corpora: []", fix="name a corpus, or drop the task")
    weight = fields.get("weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not weight > 0:
        raise BadInput(f"the task {name!r} is never drawn", given=f"weight: {weight!r}", fix="give a weight above 0")
    return [corpus for pattern in fields["corpora"] for corpus in read(str(pattern))]


def read_pattern(pattern: str) -> list[Corpus]:
    """Read the corpora that a path or a pattern such as ``data/*/manifest.jsonl`` stands for."""
    return [read_corpus(path) for path in _found(pattern)]


def _found(pattern: str) -> list[Path]:
    if "*" not in pattern:
        return [Path(pattern)]
    path = Path(pattern)
    found = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if not found:
        raise BadInput("no corpus matches a pattern", given=pattern, fix="correct the pattern, or make the manifests")
    return found


def _part(
    name: str,
    fields: Mapping[str, Any],
    corpora: Sequence[Corpus],
    *,
    common: Mapping[str, Any],
    draw: Draw,
    asked: Literal["pool", "dev"],
) -> _Part:
    given = {**common, **{key: fields[key] for key in BUILDER if key in fields}}
    heard = read_hypotheses(Path(fields["hypotheses"])) if fields.get("hypotheses") else None
    builder = EpisodeBuilder(**given, hypotheses=heard)
    if asked == "pool":
        tasks = [Task(one.name, one.pool) for one in corpora]
    else:
        tasks = [Task(one.name, one.pool, one.dev) for one in corpora if one.dev]
    sizes = [1.0 if draw == "corpora" else float(len(one.queries or one.pool)) for one in tasks]
    return _Part(name, float(fields.get("weight", 1.0)), builder, tuple(tasks), tuple(sizes))


def _drawn(weights: Sequence[float], rng: np.random.Generator) -> int:
    if len(weights) == 1:
        return 0
    shares = np.asarray(weights, dtype=np.float64)
    return int(rng.choice(len(shares), p=shares / shares.sum()))
