"""What each component of a system was shown of the target language, as a table and as the sentence made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from attnlens.context.prompt import SHOWN, Condition
from attnlens.context.retrieval.base import Use
from attnlens.data.check import check
from attnlens.data.corpus import SPLITS, Corpus, Split
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["PLACES", "Exposure", "Kind", "Ledger", "Place", "TrainedOn", "leakage", "ledger"]

Place = Literal["weights", "context", "query", "tuning"]
PLACES: tuple[Place, ...] = get_args(Place)
Kind = Literal["audio", "text"]
TrainedOn = Literal["target", "not-declared"]
"""Whether target-language data are known to have been in training. Nobody can declare that they were not."""

LEAKS = ("audio-in-two-splits", "text-in-two-splits", "speaker-in-two-splits", "recording-in-two-splits")


@dataclass(frozen=True)
class Exposure:
    """One component: which splits' audio and text it met, and where.

    ``undeclared`` says that its training data are not known.

    >>> print(Exposure("n-gram LM", {("weights", "text"): ("pool",)}))
    n-gram LM: text of pool in its weights
    """

    component: str
    seen: Mapping[tuple[Place, Kind], tuple[Split, ...]] = field(default_factory=dict)
    undeclared: bool = False

    def __post_init__(self) -> None:
        for (place, kind), splits in self.seen.items():
            if place not in PLACES or kind not in get_args(Kind) or not set(splits) <= set(SPLITS):
                raise BadInput(
                    f"the exposure of {self.component!r} names something that is not there",
                    given=f"{kind} of {listing(splits)} in {place}",
                    present=f"{listing(get_args(Kind))} of {listing(SPLITS)} in {listing(PLACES)}",
                )

    def cell(self, place: Place, kind: Kind) -> str:
        """Return what stands in the table: the splits, "not declared" for unknown training data, or a dash."""
        splits = self.seen.get((place, kind), ())
        if splits:
            return ", ".join(splits)
        return "not declared" if place == "weights" and self.undeclared else "-"

    def __str__(self) -> str:
        said = {"weights": "in its weights", "context": "in its context", "query": "in its query", "tuning": "tuned on"}
        parts = []
        for place in PLACES:
            met: dict[tuple[Split, ...], list[str]] = {}
            for kind in get_args(Kind):
                if self.seen.get((place, kind)):
                    met.setdefault(self.seen[place, kind], []).append(kind)
            parts += [f"{' and '.join(kinds)} of {' and '.join(splits)} {said[place]}" for splits, kinds in met.items()]
        if self.undeclared:
            parts.append("no target-language training data declared")
        return f"{self.component}: {', '.join(parts) or 'no target-language data'}"


@dataclass(frozen=True)
class Ledger:
    """All components of a system, and what splits of its corpora share."""

    rows: tuple[Exposure, ...]
    leaks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What may be said about target-language data, made from the table and from nothing else."""
        return "; ".join(map(str, self.rows)) + "."

    def to_markdown(self) -> str:
        """Return the table, the sentence and the leaks."""
        heads = [f"{kind} in {place}" for place in PLACES for kind in get_args(Kind)]
        lines = ["| component | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for row in self.rows:
            cells = [row.cell(place, kind) for place in PLACES for kind in get_args(Kind)]
            lines.append("| " + " | ".join([row.component, *cells]) + " |")
        lines += ["", self.sentence]
        for name, counts in self.leaks.items():
            found = [f"{count} {kind}" for kind, count in counts.items() if count]
            lines += ["", f"Shared between splits of {name}: {', '.join(found) or 'nothing found'}."]
        return "\n".join(lines)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat row per component, with the sentence, and one for what splits share."""
        rows = [
            {
                "component": row.component,
                **{f"{kind} in {place}": row.cell(place, kind) for place in PLACES for kind in get_args(Kind)},
                "said": str(row),
            }
            for row in self.rows
        ]
        blank = dict.fromkeys(rows[0], "") if rows else {}
        for name, counts in self.leaks.items():
            found = [f"{count} {kind}" for kind, count in counts.items() if count]
            rows.append(
                {
                    **blank,
                    "component": f"splits of {name}",
                    "said": f"splits of {name} share: {', '.join(found) or 'nothing found'}",
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON output has them."""
        return {
            "rows": [
                {
                    "component": row.component,
                    "undeclared": row.undeclared,
                    **{f"{kind} in {place}": list(splits) for (place, kind), splits in row.seen.items()},
                }
                for row in self.rows
            ],
            "sentence": self.sentence,
            "leaks": {name: dict(counts) for name, counts in self.leaks.items()},
        }


def ledger(
    *,
    acoustic: str | None,
    acoustic_trained_on: TrainedOn = "not-declared",
    selector: str | None = None,
    selector_trained_on: TrainedOn = "not-declared",
    condition: Condition | None = None,
    retriever: str | None = None,
    retriever_uses: Iterable[Use] = (),
    pool_models: Sequence[str] = (),
    text_models: Sequence[str] = (),
    more: Sequence[Exposure] = (),
    tuned: Sequence[str] = (),
    leaks: Mapping[str, Mapping[str, int]] | None = None,
) -> Ledger:
    """Fill the ledger from what a run is made of.

    Parameters
    ----------
    acoustic, acoustic_trained_on
        The model that makes the N-best lists, None where there is none, and whether the target language is known to be
        in its training.
    selector, selector_trained_on, condition
        The speech LLM that scores or writes, and what its prompts show; the hypotheses it judges come from the audio.
    retriever, retriever_uses
        How demonstrations are found; see :attr:`attnlens.context.retrieval.base.Retriever.uses`.
    pool_models
        Language models trained on the pool's text.
    text_models
        Language models that read texts of the pool as demonstrations.
    more
        Rows of components that are none of these.
    tuned
        What had weights chosen on dev.

    >>> found = ledger(
    ...     acoustic="MMS", acoustic_trained_on="target", selector="XFT", condition="micl", tuned=["weights"]
    ... )
    >>> print(found.sentence)
    MMS: audio and text of pool in its weights, audio of test in its query; XFT: audio of pool and test in its context,
    text of pool in its context, audio of test in its query, no target-language training data declared; weights: audio
    and text of dev tuned on.
    """
    rows = [] if acoustic is None else [_acoustic(acoustic, acoustic_trained_on)]
    if retriever is not None:
        rows.append(_retriever(f"{retriever} retriever", frozenset(retriever_uses)))
    if selector is not None:
        rows.append(_selector(selector, selector_trained_on, condition or "asr"))
    rows += [Exposure(one, {("weights", "text"): ("pool",), ("query", "audio"): ("test",)}) for one in pool_models]
    rows += [
        Exposure(one, {("context", "text"): ("pool",), ("query", "audio"): ("test",)}, undeclared=True)
        for one in text_models
    ]
    rows += more
    rows += [Exposure(one, {("tuning", "audio"): ("dev",), ("tuning", "text"): ("dev",)}) for one in tuned]
    return Ledger(tuple(rows), dict(leaks or {}))


def leakage(corpus: Corpus) -> dict[str, int]:
    """Count what splits of a corpus share that they should not: audio, nearly equal texts, speakers, recordings."""
    found = check(corpus, progress="never").problems
    return {kind: sum(problem.kind == kind for problem in found) for kind in LEAKS}


def _acoustic(name: str, trained_on: TrainedOn) -> Exposure:
    if trained_on not in get_args(TrainedOn):
        raise UnknownName.among("kind of training", trained_on, get_args(TrainedOn))
    seen: dict[tuple[Place, Kind], tuple[Split, ...]] = {("query", "audio"): ("test",)}
    if trained_on == "target":
        seen |= {("weights", "audio"): ("pool",), ("weights", "text"): ("pool",)}
    return Exposure(name, seen, undeclared=trained_on == "not-declared")


def _retriever(name: str, uses: frozenset[Use]) -> Exposure:
    seen: dict[tuple[Place, Kind], tuple[Split, ...]] = {}
    if uses & {"hypothesis", "gold-text"}:
        seen["context", "text"] = ("pool",)
    if "audio" in uses:
        seen["context", "audio"] = ("pool",)
    if uses & {"audio", "hypothesis"}:
        # A hypothesis is what the acoustic model heard: the test audio by another way.
        seen["query", "audio"] = ("test",)
    if "gold-text" in uses:
        seen["query", "text"] = ("test",)
    return Exposure(name, seen)


def _selector(name: str, trained_on: TrainedOn, condition: Condition) -> Exposure:
    if condition not in SHOWN:
        raise UnknownName.among("condition", condition, SHOWN)
    if trained_on not in get_args(TrainedOn):
        raise UnknownName.among("kind of training", trained_on, get_args(TrainedOn))
    shown = SHOWN[condition]
    pool: tuple[Split, ...] = ("pool",) if "audio" in shown else ()
    audio: tuple[Split, ...] = pool if condition == "t-icl" else (*pool, "test")
    seen: dict[tuple[Place, Kind], tuple[Split, ...]] = {("query", "audio"): ("test",)}
    if audio:
        seen["context", "audio"] = audio
    if "text" in shown:
        seen["context", "text"] = ("pool",)
    if trained_on == "target":
        seen |= {("weights", "audio"): ("pool",), ("weights", "text"): ("pool",)}
    return Exposure(name, seen, undeclared=trained_on == "not-declared")
