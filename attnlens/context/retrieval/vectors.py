"""Similarities of vectors, dense or sparse, computed a block at a time in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Cosine", "Distance", "SquaredEuclidean", "Vectors", "compared"]

Vectors: TypeAlias = "NDArray[np.floating[Any]] | csr_array"
"""One row per text or clip, [items, dimensions]."""

Distance = Literal["cosine", "euclidean"]


class Cosine:
    """Cosine of every query [queries, dimensions] with every pool item [pool, dimensions]; 0 where a vector is zero."""

    def __init__(self, queries: Vectors, pool: Vectors) -> None:
        self.shape = _shape(queries, pool)
        self._queries, self._pool = queries, pool
        self._query_norms, self._pool_norms = np.sqrt(_squares(queries)), np.sqrt(_squares(pool))

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return the cosines at ``rows`` x ``columns``."""
        product = _product(self._queries, self._pool, rows, columns)
        product /= _or_one(self._query_norms[rows, None])
        product /= _or_one(self._pool_norms[None, columns])
        return product


class SquaredEuclidean:
    """Minus the squared Euclidean distance, which ranks as the distance does.

    The root is not taken: of two equal vectors it would make a distance of 1e-8 out of a rounding error of 1e-16.
    """

    def __init__(self, queries: Vectors, pool: Vectors) -> None:
        self.shape = _shape(queries, pool)
        self._queries, self._pool = queries, pool
        self._query_squares, self._pool_squares = _squares(queries), _squares(pool)

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Return minus the squared distances at ``rows`` x ``columns``."""
        product = _product(self._queries, self._pool, rows, columns)
        product *= 2
        product -= self._query_squares[rows, None]
        product -= self._pool_squares[None, columns]
        return np.minimum(product, 0, out=product)


def compared(queries: Vectors, pool: Vectors, *, distance: Distance) -> Cosine | SquaredEuclidean:
    """Compare by a named distance; the nearest has the largest score under either.

    >>> compared(np.eye(2)[:1], np.eye(2), distance="euclidean").block(slice(0, 1), slice(0, 2)).tolist()
    [[0.0, -2.0]]
    """
    return Cosine(queries, pool) if distance == "cosine" else SquaredEuclidean(queries, pool)


def _shape(queries: Vectors, pool: Vectors) -> tuple[int, int]:
    if queries.shape[1] != pool.shape[1]:
        raise BadInput(
            "query and pool vectors have different lengths",
            given=f"{queries.shape[1]} and {pool.shape[1]} dimensions",
            fix="embed both with the same encoder",
        )
    return int(queries.shape[0]), int(pool.shape[0])


def _squares(vectors: Vectors) -> NDArray[np.float64]:
    """Return the squared norms [items], in slices: a float64 copy of everything may not fit."""
    if not isinstance(vectors, np.ndarray):
        return np.asarray(vectors.multiply(vectors).sum(axis=1), dtype=np.float64).ravel()
    squares = np.empty(len(vectors))
    for begin in range(0, len(vectors), 8192):
        part = vectors[begin : begin + 8192].astype(np.float64)
        squares[begin : begin + 8192] = np.einsum("id,id->i", part, part)
    return squares


def _product(queries: Vectors, pool: Vectors, rows: slice, columns: slice) -> NDArray[np.float64]:
    if isinstance(queries, np.ndarray) and isinstance(pool, np.ndarray):
        return np.asarray(queries[rows].astype(np.float64) @ pool[columns].astype(np.float64).T)
    # A product of sparse by sparse; the cast says so, because indexing a union of types forgets it.
    return np.asarray(cast("csr_array", queries[rows] @ pool[columns].T).toarray())


def _or_one(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(norms > 0, norms, 1.0)
