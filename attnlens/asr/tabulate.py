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

    ``rules`` are made rules by the name of their row. ``others`` holds transcripts that were not chosen from the lists:
    joint decoding, prompted transcription. ``tags`` marks rows, such as one whose weights were tuned on test.
    """

    language: str
    lists: Sequence[Candidates]
    references: Sequence[str]
    rules: Mapping[str, Rule]
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clusters: Sequence[Hashable] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


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
    made = [_transcribed(one, unit=unit, normaliser=normaliser, seed=seed) for one in tests]
    systems = [
        Systems(
            language=one.language,
            ids=tuple(each.utterance_id for each in one.lists),
            references=tuple(one.references),
            transcripts={name: texts for name, (kind, texts) in rows.items() if _is_system(name, kind)},
            clusters=one.clusters,
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


def _transcribed(test: ListTest, *, unit: Unit, normaliser: str, seed: int) -> dict[str, tuple[Kind, tuple[str, ...]]]:
    if len(test.lists) != len(test.references) or not test.lists:
        raise BadInput(
            f"every list of {test.language!r} needs its reference",
            given=f"{len(test.lists)} lists, {len(test.references)} references",
        )
    names = [*_OWN, *test.rules, *test.others]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput("two rows of the table have one name", given=listing(twice), fix="call yours otherwise")

    def bound(*, worst: bool) -> tuple[str, ...]:
        return tuple(oracle(test.lists, test.references, worst=worst, unit=unit, normaliser=normaliser))

    def chosen(rule: Rule) -> tuple[str, ...]:
        return tuple(choice.text for choice in select(test.lists, rule))

    return {
        ACOUSTIC: ("baseline", tuple(acoustic_best(test.lists))),
        "random pick": ("baseline", tuple(random_pick(test.lists, seed=seed))),
        "LM only": ("baseline", chosen(lm_only())),
        **{name: ("rule", chosen(rule)) for name, rule in test.rules.items()},
        **{name: ("other", tuple(texts)) for name, texts in test.others.items()},
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
    ids = [one.utterance_id for one in test.lists]
    counts: dict[str, dict[Unit, ErrorCounts]] = {
        name: {
            each: count_errors(test.references, texts, unit=each, normaliser=normaliser, ids=ids)
            for each in ("words", "characters")
        }
        for name, (_, texts) in rows.items()
    }
    start, goal = counts[ACOUSTIC][unit], counts["oracle"][unit]
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
        gone = start.errors - counts[name][unit].errors
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
                rate=interval(counts[name]["words"].errors, counts[name]["words"].length),
                tag=test.tags.get(name, ""),
            )
        )
    return SelectionTable(
        language=test.language,
        rows=tuple(made),
        normaliser=normaliser,
        hypotheses=sum(map(len, test.lists)) / len(test.lists),
        empty_lists=sum(not len(one) for one in test.lists),
        curves=_curves(test, unit=unit, normaliser=normaliser),
    )


def _curves(test: ListTest, *, unit: Unit, normaliser: str) -> dict[str, dict[int, float]]:
    def best(lists: Sequence[Candidates]) -> list[str]:
        return oracle(lists, test.references, unit=unit, normaliser=normaliser)

    def by(rule: Rule) -> Callable[[Sequence[Candidates]], list[str]]:
        return lambda lists: [choice.text for choice in select(lists, rule)]

    picks = {**{name: by(rule) for name, rule in test.rules.items()}, "oracle": best}
    return {
        name: {
            n: counts.rate for n, counts in size_curve(test.lists, test.references, pick, normaliser=normaliser).items()
        }
        for name, pick in picks.items()
    }
