from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from attnlens.context.retrieval.progress import tracked
from attnlens.context.retrieval.scores import Row, Sum, top_k
from attnlens.context.retrieval.vectors import Cosine, SquaredEuclidean, compared
from attnlens.errors import BadInput

QUICK = settings(derandomize=True, max_examples=50, deadline=None)
EVERYTHING = (slice(None), slice(None))


class Table:
    """Scores that are there already, and that note which blocks were asked for."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table
        self.shape = (table.shape[0], table.shape[1])
        self.largest = 0

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        part = self.table[rows, columns].copy()
        self.largest = max(self.largest, part.size)
        return part


def naive(
    table: NDArray[np.float64], k: int, excluded: list[NDArray[np.intp]]
) -> tuple[list[list[int]], list[list[float]]]:
    """Sort the whole of every row: best first, then in pool order."""
    ids, values = [], []
    for row, hidden in zip(table, excluded, strict=True):
        order = sorted((item for item in range(len(row)) if item not in hidden), key=lambda item: (-row[item], item))
        missing = min(k, len(row)) - len(order[:k])
        ids.append(order[:k] + [-1] * missing)
        values.append([float(row[item]) for item in order[:k]] + [-np.inf] * missing)
    return ids, values


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float64], int, tuple[int, int], list[NDArray[np.intp]]]:
    n_queries, n_pool = draw(st.integers(1, 7)), draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Few different values, so that ties are the rule.
    table = rng.integers(-2, draw(st.integers(-1, 30)), size=(n_queries, n_pool)) / 4
    excluded = [np.flatnonzero(rng.random(n_pool) < draw(st.sampled_from([0.0, 0.3, 1.0]))) for _ in range(n_queries)]
    block = draw(st.integers(1, 8)), draw(st.integers(1, 27))
    return table, draw(st.integers(0, 28)), block, excluded


@QUICK
@given(problems())
def test_blockwise_equals_sorting_the_full_matrix(
    problem: tuple[NDArray[np.float64], int, tuple[int, int], list[NDArray[np.intp]]],
) -> None:
    table, k, block, excluded = problem
    scores = Table(table)
    best, value = top_k(scores, k, excluded=excluded, block=block)
    ids, values = naive(table, k, excluded)
    assert best.tolist() == ids
    assert value.tolist() == values
    assert scores.largest <= block[0] * block[1]


@QUICK
@given(seed=st.integers(0, 2**32), sparse=st.booleans(), distance=st.sampled_from(["cosine", "euclidean"]))
def test_blocks_of_vectors_give_the_same_ranking_whatever_their_size(seed: int, sparse: bool, distance: str) -> None:
    rng = np.random.default_rng(seed)
    different = rng.normal(size=(4, 9)) * (rng.random((4, 9)) < 0.7)
    # Copies: their products differ in the last bits with the place in the block, and must tie all the same.
    pool, queries = different[rng.integers(0, 4, size=40)], rng.normal(size=(6, 9))
    wrapped = (csr_array(queries), csr_array(pool)) if sparse else (queries.astype(np.float32), pool.astype(np.float32))
    scores = compared(*wrapped, distance="cosine" if distance == "cosine" else "euclidean")
    whole = top_k(scores, 7)
    for block in [(1, 3), (2, 16), (4, 39), (100, 100)]:
        part = top_k(scores, 7, block=block)
        assert np.array_equal(whole[0], part[0])
        assert np.array_equal(whole[1], part[1])


@QUICK
@given(seed=st.integers(0, 2**32))
def test_vectors_are_compared_as_a_plain_loop_would(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, pool = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    pool[0] = 0
    cosine = Cosine(queries, pool).block(*EVERYTHING)
    euclidean = SquaredEuclidean(queries, pool).block(*EVERYTHING)
    for row, query in enumerate(queries):
        for column, item in enumerate(pool):
            norms = float(np.linalg.norm(query) * np.linalg.norm(item))
            assert cosine[row, column] == pytest.approx(float(query @ item) / norms if norms else 0.0, abs=1e-12)
            assert euclidean[row, column] == pytest.approx(-float(((query - item) ** 2).sum()), abs=1e-12)
    assert np.allclose(Cosine(csr_array(queries), csr_array(pool)).block(*EVERYTHING), cosine, atol=1e-12)
    assert np.allclose(SquaredEuclidean(csr_array(queries), csr_array(pool)).block(*EVERYTHING), euclidean, atol=1e-12)


def test_a_vector_is_nearest_to_itself_under_either_distance() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32) * 50
    for distance in ("cosine", "euclidean"):
        best, value = top_k(compared(vectors, vectors, distance=distance), 1)
        assert best[:, 0].tolist() == list(range(30))
        assert value[:, 0].tolist() == [1.0 if distance == "cosine" else 0.0] * 30


def test_sums_and_single_rows_are_scores_too() -> None:
    first, second = np.arange(6.0).reshape(2, 3), np.array([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]])
    both = Sum(Table(first), Table(second))
    assert top_k(both, 3)[0].tolist() == [[1, 2, 0], [0, 2, 1]]
    assert top_k(Row(both, 1), 3)[0].tolist() == [[0, 2, 1]]
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_similarity_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(BadInput, match="not a number"):
        top_k(Table(np.array([[1.0, np.nan, 0.0]])), 1)


def test_vectors_of_different_lengths_are_refused() -> None:
    with pytest.raises(BadInput, match="different lengths"):
        Cosine(np.ones((1, 2)), np.ones((1, 3)))


def test_the_progress_bar_goes_to_standard_error_and_only_for_long_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(3), total=3, what="quick work")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    assert list(tracked(range(3), total=3, what="long work", after=-1)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "long work" in err
    assert "3/3" in err
