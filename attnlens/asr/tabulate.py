"""Fill the tables: every rule of every language, every baseline, and p-values corrected over all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnlens.asr.alignment import Unit
from attnlens.asr.baselines import acoustic_best, oracle, random_pick, size_curve
from attnlens.asr.candidates import Candidates
from attnlens.asr.comparison import Comparison, Systems, compare_all, enough_clusters
from attnlens.asr.error_rate import ErrorCounts, count_errors
from attnlens.asr.rules import lm_only
from attnlens.asr.selection import Rule, select
from attnlens.asr.table import ACOUSTIC, Kind, Row, SelectionTable
from attnlens.errors import BadInput, listing
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.intervals import RESAMPLES
from attnlens.stats.permutation import DRAWS
from attnlens.stats.results import Interval

__all__ = ["ListTest", "selection_tables"]

_OWN = (ACOUSTIC, "random pick", "LM only", "oracle", "anti-oracle")


@dataclass(frozen=True, kw_only=True)
class ListTest:
    """Scored lists of one language with their references, and what is to be done with them.

    With several ``seeds`` of demonstrations ``lists`` hold all utterances once for each seed, block after block;
    ``others`` do so too, or hold one transcript per utterance where seeds change nothing. ``rules`` are made rules by
    the name of their row. ``others`` holds transcripts that were not chosen from the lists: joint decoding, prompted
    transcription. ``tags`` marks rows, such as one whose weights were tuned on test.
    """

    language: str
    lists: Sequence[Candidates]
    references: Sequence[str]
    rules: Mapping[str, Rule]
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clusters: Sequence[Hashable] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    @property
    def said(self) -> list[str]:
        """The reference of each list."""
        return list(self.references) * len(self.seeds)


def selection_tables(
    tests: Sequence[ListTest],
    *,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[SelectionTable]:
    """Select by every rule, beside every baseline, and compare with the acoustic 1-best; p corrected over all tables.

    Rows: acoustic 1-best, a random pick, the language model alone, the rules, the other transcripts, and as bounds the
    best and the worst of each list. Bounds and chance are no systems: they have no p and no part in the correction.

    Parameters
    ----------
    unit
        What the comparisons count; both rates are always told.

    >>> import numpy as np
    >>> from attnlens.asr.language_model import TextScore
    >>> from attnlens.asr.selection import make_rule
    >>> scores = (TextScore(np.array([-9.0]), 0.0), TextScore(np.array([-1.0]), 0.0))
    >>> lists = [Candidates(f"u{n}", ("ka do", "ka to"), np.array([-3.0, -3.5]), scores) for n in range(8)]
    >>> test = ListTest(language="xx", lists=lists, references=["ka to"] * 8, rules={"sum": make_rule("sum-logprob")})
    >>> [table] = selection_tables([test], resamples=99, draws=99)
    >>> [(row.system, row.words.rate) for row in table.rows][:1], table["sum"].gap_recovered
    ([('acoustic 1-best', 0.5)], 1.0)
    """
    made = [_transcribed(one, unit=unit, normaliser=normaliser) for one in tests]
    systems = [
        Systems(
            language=one.language,
            ids=tuple(each.utterance_id for each in one.lists[: len(one.references)]),
            references=tuple(one.references),
            transcripts={name: texts for name, (kind, texts) in rows.items() if _is_system(name, kind)},
            clusters=one.clusters,
            times=len(one.seeds),
        )
        for one, rows in zip(tests, made, strict=True)
    ]
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    compared = compare_all(systems, baseline=ACOUSTIC, unit=unit, normaliser=normaliser, draws=draws, **options)
    found = iter(compared)
    tables = []
    for one, rows in zip(tests, made, strict=True):
        own = {name: next(found) for name, (kind, _) in rows.items() if _is_system(name, kind) and name != ACOUSTIC}
        tables.append(_table(one, rows, own, unit=unit, normaliser=normaliser, options=options))
    return tables


def _is_system(name: str, kind: Kind) -> bool:
    return kind in ("rule", "other") or name in (ACOUSTIC, "LM only")


def _transcribed(test: ListTest, *, unit: Unit, normaliser: str) -> dict[str, tuple[Kind, tuple[str, ...]]]:
    size = len(test.references)
    names_of = [[one.utterance_id for one in test.lists[at : at + size]] for at in range(0, len(test.lists), size or 1)]
    if len(test.lists) != len(test.said) or not test.lists or any(names != names_of[0] for names in names_of):
        raise BadInput(
            f"every list of {test.language!r} needs its reference",
            given=f"{len(test.lists)} lists, {size} references, {len(test.seeds)} seeds",
            fix="pass the lists of all utterances in one order, once for each seed",
        )
    names = [*_OWN, *test.rules, *test.others]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput("two rows of the table have one name", given=listing(twice), fix="call yours otherwise")

    def bound(*, worst: bool) -> tuple[str, ...]:
        return tuple(oracle(test.lists, test.said, worst=worst, unit=unit, normaliser=normaliser))

    def chosen(rule: Rule) -> tuple[str, ...]:
        return tuple(choice.text for choice in select(test.lists, rule))

    def whole(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(texts) * (len(test.seeds) if len(texts) == size else 1)

    picked = [
        text
        for place, seed in enumerate(test.seeds)
        for text in random_pick(test.lists[place * size : (place + 1) * size], seed=seed)
    ]
    return {
        ACOUSTIC: ("baseline", tuple(acoustic_best(test.lists))),
        "random pick": ("baseline", tuple(picked)),
        "LM only": ("baseline", chosen(lm_only())),
        **{name: ("rule", chosen(rule)) for name, rule in test.rules.items()},
        **{name: ("other", whole(texts)) for name, texts in test.others.items()},
        "oracle": ("bound", bound(worst=False)),
        "anti-oracle": ("bound", bound(worst=True)),
    }


def _table(
    test: ListTest,
    rows: Mapping[str, tuple[Kind, tuple[str, ...]]],
    compared: Mapping[str, Comparison],
    *,
    unit: Unit,
    normaliser: str,
    options: dict[str, Any],
) -> SelectionTable:
    times = len(test.seeds)
    ids = [one.utterance_id for one in test.lists]
    if times > 1:
        ids = [f"{name} {place // len(test.references)}" for place, name in enumerate(ids)]
    counts: dict[str, dict[Unit, ErrorCounts]] = {
        name: {
            each: count_errors(test.said, texts, unit=each, normaliser=normaliser, ids=ids)
            for each in ("words", "characters")
        }
        for name, (_, texts) in rows.items()
    }
    start, goal = (counts[name][unit].folded(times) for name in (ACOUSTIC, "oracle"))
    way = start.errors - goal.errors
    made = []

    def interval(values: Any, per: Any) -> Interval | None:
        try:
            found: Interval = bootstrap(values, per=per, clusters=enough_clusters(test.clusters), **options)
        except BadInput:
            # Too few utterances with anything in them for an interval; the number itself is told.
            return None
        return found

    for name, (kind, texts) in rows.items():
        gone = start.errors - counts[name][unit].folded(times).errors
        spoken = counts[name]["words"].folded(times)
        made.append(
            Row(
                system=name,
                kind=kind,
                transcripts=texts,
                words=counts[name]["words"],
                characters=counts[name]["characters"],
                comparison=compared.get(name),
                gap_recovered=float(gone.sum() / way.sum()) if way.sum() else None,
                gap=interval(gone, way) if way.sum() else None,
                rate=interval(spoken.errors, spoken.length),
                tag=test.tags.get(name, ""),
            )
        )
    return SelectionTable(
        language=test.language,
        rows=tuple(made),
        normaliser=normaliser,
        hypotheses=sum(map(len, test.lists)) / len(test.lists),
        empty_lists=sum(not len(one) for one in test.lists) // times,
        curves=_curves(test, unit=unit, normaliser=normaliser),
        seeds=times,
    )


def _curves(test: ListTest, *, unit: Unit, normaliser: str) -> dict[str, dict[int, float]]:
    def best(lists: Sequence[Candidates]) -> list[str]:
        return oracle(lists, test.said, unit=unit, normaliser=normaliser)

    def by(rule: Rule) -> Callable[[Sequence[Candidates]], list[str]]:
        return lambda lists: [choice.text for choice in select(lists, rule)]

    picks = {**{name: by(rule) for name, rule in test.rules.items()}, "oracle": best}
    return {
        name: {n: counts.rate for n, counts in size_curve(test.lists, test.said, pick, normaliser=normaliser).items()}
        for name, pick in picks.items()
    }
