from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.context.retrieval import Query, make, retrieve
from attnlens.context.retrieval.divergences import VARIANCE_FLOOR, DiscreteKL, GaussianKL, JensenShannon, softmax
from attnlens.context.retrieval.kl import KLRetriever
from attnlens.context.retrieval.scores import Scores, top_k
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

QUICK = settings(derandomize=True, max_examples=50, deadline=None)
VARIANTS = ("softmax-mean", "js", "gaussian", "codebook")


def kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True) if a > 0)


def js(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def gaussian(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    size = len(p) // 2
    total = 0.0
    for m, v, n, w in zip(p[:size], p[size:], q[:size], q[size:], strict=True):
        v, w = max(v, VARIANCE_FLOOR), max(w, VARIANCE_FLOOR)  # noqa: PLW2901
        total += (math.log(w / v) + (v + (m - n) ** 2) / w - 1) / 2
    return total


Table = NDArray[np.float64]
DIVERGENCES: dict[str, tuple[Callable[[Table, Table], Scores], Callable[[Table, Table], float]]] = {
    "kl": (DiscreteKL, kl),
    "js": (JensenShannon, js),
    "gaussian": (GaussianKL, gaussian),
}


def items(kind: str, rng: np.random.Generator, n: int, size: int) -> NDArray[np.float64]:
    if kind == "gaussian":
        return np.hstack([rng.normal(40, 3, (n, size)), rng.exponential(1, (n, size)) * rng.integers(0, 2, (n, size))])
    return softmax(rng.normal(0, 3, (n, size)))


def whole(scores: Scores) -> NDArray[np.float64]:
    return scores.block(slice(0, scores.shape[0]), slice(0, scores.shape[1]))


@pytest.mark.parametrize("kind", DIVERGENCES)
@QUICK
@given(seed=st.integers(0, 2**32), n=st.integers(1, 80), size=st.integers(1, 9))
def test_divergences_equal_their_definitions_and_are_never_negative(kind: str, seed: int, n: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    queries, pool = items(kind, rng, 3, size), items(kind, rng, n, size)
    of_many, of_one = DIVERGENCES[kind]
    divergence = -whole(of_many(queries, pool))
    assert divergence.shape == (3, n)
    assert (divergence >= 0).all()
    for row in range(3):
        for column in range(n):
            assert divergence[row, column] == pytest.approx(of_one(queries[row], pool[column]), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", DIVERGENCES)
@QUICK
@given(seed=st.integers(0, 2**32))
def test_nothing_diverges_from_itself_and_direction_matters_where_it_should(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = items(kind, rng, 6, 5)
    table = -whole(DIVERGENCES[kind][0](pool, pool))
    assert np.abs(np.diag(table)).max() < 1e-9
    off = ~np.eye(6, dtype=bool)
    assert table[off].min() > 1e-6
    if kind == "js":
        assert np.allclose(table, table.T, atol=1e-12)
        assert table.max() <= math.log(2) + 1e-12
    else:
        assert np.abs(table - table.T).max() > 1e-3


def test_distributions_without_a_common_outcome_stay_finite_and_far() -> None:
    apart = softmax(np.array([[2000.0, 0.0], [0.0, 2000.0]]))
    assert apart.tolist() == [[1, 0], [0, 1]]
    assert np.allclose(-whole(DiscreteKL(apart, apart)), 708.4 * (1 - np.eye(2)), atol=0.1)
    assert np.allclose(-whole(JensenShannon(apart, apart)), math.log(2) * (1 - np.eye(2)))


class Rows:
    """Frames given by hand for each clip, told apart by the clip's first sample, in hundredths."""

    identity = "rows"

    def __init__(self, *clips: list[list[float]]) -> None:
        self.clips = clips

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        return np.array(self.clips[round(100 * float(audio.load()[0]))], dtype=np.float32)


def spoken(number: int) -> Utterance:
    samples = np.full(200 + number, number / 100, dtype=np.float32)
    return Utterance(f"c{number}", Audio.from_array(samples), f"text {number}", "xxx")


CLIPS = [
    [[0.0, 1.0, 2.0], [0.2, 1.4, 2.0], [0.1, 0.0, 1.0]],
    [[0.0, 1.2, 2.2]],
    [[3.0, 0.0, 0.0], [2.0, 1.0, 0.0]],
    [[0.0, 0.9, 1.9], [0.2, 1.0, 1.8]],
    [[-2.0, 5.0, 1.0], [-2.0, 4.0, 1.0], [-1.0, 5.0, 1.0], [0.0, 0.0, 0.0]],
]


@pytest.mark.parametrize("variant", ["softmax-mean", "js", "gaussian"])
def test_a_variant_ranks_by_its_definition_nearest_first(variant: str) -> None:
    frames = [np.array(clip) for clip in CLIPS]
    if variant == "gaussian":
        described = [np.concatenate([rows.mean(axis=0), rows.var(axis=0)]) for rows in frames]
        of_one = gaussian
    else:
        described = [np.exp(rows.mean(axis=0)) / np.exp(rows.mean(axis=0)).sum() for rows in frames]
        of_one = kl if variant == "softmax-mean" else js
    expected = {f"c{n}": of_one(described[0], described[n]) for n in range(1, 5)}
    ranking = retrieve(
        [Query(spoken(0))], [spoken(n) for n in range(1, 5)], k=4, retriever="kl", variant=variant,
        encoder=Rows(*CLIPS),
    )[0]  # fmt: skip
    assert list(ranking.ids) == sorted(expected, key=lambda id_: expected[id_])
    assert [-score for score in ranking.scores] == pytest.approx(sorted(expected.values()), rel=1e-4)


def test_the_codebook_counts_frames_by_their_nearest_centre() -> None:
    # Two clouds far apart: k-means can only find these, whatever its start.
    near, far = [0.0, 0.0], [10.0, 10.0]
    clips = [[near, near, near, far], [near, near, far], [far, far, far], [far, near]]
    ranking = retrieve(
        [Query(spoken(0))], [spoken(n) for n in (1, 2, 3)], k=3, retriever="kl", variant="codebook", codes=2,
        encoder=Rows(*clips),
    )[0]  # fmt: skip

    def histogram(n_near: int, n_far: int) -> NDArray[np.float64]:
        return np.array([n_near + 0.5, n_far + 0.5]) / (n_near + n_far + 1)

    asked = histogram(3, 1)
    expected = {"c1": kl(asked, histogram(2, 1)), "c2": kl(asked, histogram(0, 3)), "c3": kl(asked, histogram(1, 1))}
    assert list(ranking.ids) == sorted(expected, key=lambda id_: expected[id_])
    assert [-score for score in ranking.scores] == pytest.approx(sorted(expected.values()), abs=1e-8)


def test_the_codebook_is_seeded_and_comes_from_the_pool_alone() -> None:
    rng = np.random.default_rng(0)
    pool = [
        Utterance(f"p{n}", Audio.from_array(rng.normal(0, 0.1, 3000 + n).astype(np.float32)), f"t{n}", "x")
        for n in range(8)
    ]
    targets = [
        Query(Utterance(f"q{n}", Audio.from_array(rng.normal(0, 0.2, 4000 + n).astype(np.float32)), f"r{n}", "x"))
        for n in range(3)
    ]
    options = {"variant": "codebook", "codes": 6}
    first = make("kl", seed=1, **options).rank(targets, pool, k=5)
    assert make("kl", seed=1, **options).rank(targets[::-1], pool, k=5)[::-1] == first
    assert make("kl", seed=2, **options).rank(targets, pool, k=5) != first


@pytest.mark.parametrize("variant", VARIANTS)
def test_blocks_do_not_change_the_ranking(variant: str) -> None:
    rng = np.random.default_rng(2)
    pool = [
        Utterance(f"p{n}", Audio.from_array(rng.normal(0, 0.1, 1000 + 90 * n).astype(np.float32)), f"t{n}", "x")
        for n in range(70)
    ]
    retriever = KLRetriever(variant=variant, codes=4)  # type: ignore[arg-type]
    scores = retriever.scores([Query(item) for item in pool[:5]], pool)
    full = top_k(scores, 6)
    assert full[0][:, 0].tolist() == list(range(5))
    for block in [(1, 9), (3, 64), (5, 1)]:
        part = top_k(scores, 6, block=block)
        assert np.array_equal(part[0], full[0])
        assert np.array_equal(part[1], full[1])


def test_a_higher_temperature_brings_distributions_together() -> None:
    divergence = [
        -retrieve([Query(spoken(0))], [spoken(2)], k=1, retriever="kl", encoder=Rows(*CLIPS), temperature=t)[0].scores[
            0
        ]
        for t in (1.0, 10.0)
    ]
    assert divergence[0] > 10 * divergence[1] > 0


def test_unknown_variants_and_impossible_settings_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'gaussian'"):
        make("kl", variant="gausian")
    for options in ({"temperature": 0.0}, {"temperature": math.nan}, {"codes": 0}):
        with pytest.raises(BadInput, match="must be positive"):
            make("kl", **options)
