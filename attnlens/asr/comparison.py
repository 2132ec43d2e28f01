"""Is one system better than another on the same speech? Every answer beside its interval, test and limits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from attnlens.asr.alignment import Unit
from attnlens.asr.error_rate import count_errors
from attnlens.asr.segments import error_segments
from attnlens.errors import BadInput, UnknownName
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.intervals import RESAMPLES
from attnlens.stats.matched_pairs import MatchedPairs, matched_pairs
from attnlens.stats.multiple import holm
from attnlens.stats.permutation import DRAWS, sign_flip
from attnlens.stats.power import Detectable, detectable_difference
from attnlens.stats.results import Interval, PermutationTest

__all__ = ["FEWEST_CLUSTERS", "Comparison", "Systems", "compare", "compare_all", "enough_clusters"]


_T = TypeVar("_T")

FEWEST_CLUSTERS = 10
"""With fewer speakers an interval over speakers is too narrow to be told, and a test over them finds nothing."""


@dataclass(frozen=True, kw_only=True)
class Systems:
    """What several systems made of the same utterances of one language.

    ``clusters`` names the speaker or the recording of each utterance, for intervals about other speakers. Where each
    utterance was transcribed ``times`` times, with other demonstrations, transcripts hold all of them once for each,
    block after block; the utterance with all its transcripts is then what is drawn.
    """

    language: str
    ids: tuple[str, ...]
    references: tuple[str, ...]
    transcripts: Mapping[str, Sequence[str]]
    clusters: Sequence[Hashable] | None = None
    times: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """One system against another in one language: the difference of corpus error rates, system less baseline.

    ``difference`` is a paired bootstrap over utterances, ``blocked`` over speakers or recordings. ``randomisation``
    swaps the systems of utterances, or of whole clusters where there are enough of them; ``p_holm`` is its p corrected
    over all comparisons made together. What the data are too few for is None, and the notes say why; systems that never
    differ have no detectable difference.
    """

    language: str
    system: str
    baseline: str
    unit: Unit
    utterances: int
    units: int
    system_rate: float
    baseline_rate: float
    difference: Interval | None
    blocked: Interval | None
    randomisation: PermutationTest | None
    mapsswe: MatchedPairs | None
    detectable: Detectable | None
    p_holm: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """The interval to report: over speakers or recordings where there are enough of them, else over utterances."""
        enough = self.blocked is not None and self.blocked.units >= FEWEST_CLUSTERS
        return self.blocked if enough else self.difference

    def __str__(self) -> str:
        delta = self.system_rate - self.baseline_rate
        found = [f"{self.system} less {self.baseline}, {self.language}: {100 * delta:+.2f} points"]
        if (interval := self.interval) is not None:
            found[0] += f" [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"
        if self.randomisation is not None:
            found.append(f"p = {self.randomisation.p:.4g}")
        if self.p_holm is not None:
            found.append(f"Holm p = {self.p_holm:.4g}")
        if self.mapsswe is not None:
            found.append(f"MAPSSWE z = {self.mapsswe.z:.2f}")
        found.append(f"{self.utterances:,} utterances, {self.units:,} {self.unit}")
        if self.detectable is not None:
            found.append(f"detectable {100 * self.detectable.difference:.2f} points")
        return "; ".join([", ".join(found), *self.notes])


def compare(
    systems: Systems,
    system: str,
    *,
    baseline: str,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same utterances: difference with intervals, randomisation, MAPSSWE, smallest effect.

    >>> said = tuple(f"ka to mi su le ri {word}" for word in "abcdefghijkl")
    >>> heard = {"old": [f"x {text[3:]}" for text in said], "new": [said[0], *(f"x {text[3:]}" for text in said[1:])]}
    >>> found = compare(Systems(language="xx", ids=tuple("abcdefghijkl"), references=said, transcripts=heard), "new",
    ...                 baseline="old", resamples=999, draws=999)
    >>> print(found)
    new less old, xx: -1.19 points [-4.76, +0.00], p = 1, MAPSSWE z = -1.00, 12 utterances, 84 words, detectable ...
    """
    texts = [_of(systems, name) for name in (system, baseline)]
    times = systems.times
    said = list(systems.references) * times
    ids = systems.ids if times == 1 else [f"{name} {block}" for block in range(times) for name in systems.ids]
    one, other = (
        count_errors(said, list(text), unit=unit, normaliser=normaliser, ids=ids).folded(times) for text in texts
    )
    notes: list[str] = []
    pairs = None
    if times == 1:
        segments = error_segments(said, *map(list, texts), unit=unit, normaliser=normaliser)
        pairs = matched_pairs(segments.first, segments.second)
    else:
        notes.append(f"no MAPSSWE: its segments are of one transcript per utterance, and there are {times}")

    clusters = None if systems.clusters is None else list(systems.clusters)
    drawn = enough_clusters(clusters)
    if clusters is not None and drawn is None:
        notes.append(
            f"{len(set(clusters))} speakers or recordings are too few to speak about others: "
            "interval and p are about other utterances of the same ones"
        )

    def interval(groups: list[Hashable] | None) -> Interval:
        return bootstrap(
            one.errors, minus=other.errors, per=one.length, clusters=groups, resamples=resamples, seed=seed
        )

    difference = _or_note(lambda: interval(None), "interval over utterances", notes)
    blocked = None if clusters is None else _or_note(lambda: interval(clusters), "interval over clusters", notes)
    flips = _or_note(
        lambda: sign_flip(one.errors, minus=other.errors, per=one.length, clusters=drawn, draws=draws, seed=seed),
        "randomisation",
        notes,
    )
    smallest = _or_note(
        lambda: detectable_difference(one.errors, minus=other.errors, per=one.length, clusters=drawn),
        "detectable difference",
        notes,
    )
    if smallest is not None and not float(smallest.difference):
        # Without any spread the formula says that nothing is too small to be found.
        smallest = None
    return Comparison(
        language=systems.language,
        system=system,
        baseline=baseline,
        unit=unit,
        utterances=len(one),
        units=int(one.length.sum()) // times,
        system_rate=one.rate,
        baseline_rate=other.rate,
        difference=difference,
        blocked=blocked,
        randomisation=flips,
        mapsswe=pairs,
        detectable=smallest,
        notes=tuple(notes),
    )


def compare_all(
    tests: Sequence[Systems],
    *,
    baseline: str,
    unit: Unit = "words",
    normaliser: str = "basic-unicode",
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Comparison]:
    """Compare every system of every language with its language's baseline, p-values corrected over all of them.

    Holm's correction counts the comparisons that have a p; one too small for a test is not counted.
    """
    found = [
        compare(
            one,
            system,
            baseline=baseline,
            unit=unit,
            normaliser=normaliser,
            resamples=resamples,
            draws=draws,
            seed=seed,
        )
        for one in tests
        for system in one.transcripts
        if system != baseline
    ]
    raw = [one.randomisation.p for one in found if one.randomisation is not None]
    corrected = iter(np.atleast_1d(holm(raw)).tolist() if raw else [])
    return [one if one.randomisation is None else replace(one, p_holm=next(corrected)) for one in found]


def enough_clusters(clusters: Sequence[Hashable] | None) -> list[Hashable] | None:
    """Return the clusters if there are enough of them to draw from, else None: utterances are then drawn one by one."""
    return None if clusters is None or len(set(clusters)) < FEWEST_CLUSTERS else list(clusters)


def _of(systems: Systems, name: str) -> Sequence[str]:
    if name not in systems.transcripts:
        raise UnknownName.among(f"system in {systems.language!r}:", name, systems.transcripts)
    return systems.transcripts[name]


def _or_note(made: Callable[[], _T], what: str, notes: list[str]) -> _T | None:
    """Return a statistic, or None with a note where the data are too few for it: the row itself is still told."""
    try:
        return made()
    except BadInput as error:
        notes.append(f"no {what}: {error.message}")
        return None
