"""Texts as vectors: character n-grams by default, sentence encoders when named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnlens.context.retrieval.checkpoints import fingerprint, located, unreadable
from attnlens.context.retrieval.eligible import comparable
from attnlens.context.retrieval.progress import tracked
from attnlens.context.retrieval.sonar import SonarTextEncoder
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from attnlens.data.cache import ArrayCache

__all__ = ["SentenceEncoder", "TextEncoder", "embedded", "text_encoder", "tfidf"]

CHUNK = 256
"""Texts per cache entry and progress step."""


class TextEncoder(Protocol):
    """Anything that makes one vector of each text."""

    @property
    def identity(self) -> str:
        """Return what tells this encoder's vectors from any other's, for the cache."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [texts, dimensions]; a text's vector does not depend on the other texts."""
        ...


def text_encoder(encoder: str | TextEncoder | None, *, src_lang: str | None, device: str) -> TextEncoder | None:
    """Return the encoder meant by an option: None for character n-grams, ``sonar:<name or path>``, any other name or
    path for sentence-transformers, or itself.
    """
    if isinstance(encoder, str) and encoder.startswith("sonar:"):
        return SonarTextEncoder(encoder.removeprefix("sonar:"), src_lang=src_lang, device=device)
    if src_lang is not None:
        raise BadInput(
            "only a SONAR text encoder takes a source language",
            given=f"encoder={encoder!r}, src_lang={src_lang!r}",
            fix="leave src_lang out, or name the encoder as 'sonar:<name or path>'",
        )
    return SentenceEncoder(encoder, device=device) if isinstance(encoder, str) else encoder


class SentenceEncoder:
    """A sentence-transformers model, such as the multilingual MPNet of TICL. That package is an optional dependency."""

    def __init__(self, name: str, *, device: str = "cpu") -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise BadInput(
                f"the text encoder {name!r} needs the package sentence-transformers, which is not installed",
                fix="pip install sentence-transformers, or leave encoder= out to use character n-grams",
            ) from error
        source, on_disk = located(name)
        self.name = name
        try:
            self.model: Any = SentenceTransformer(source, device=device, local_files_only=on_disk)
        except (OSError, ValueError) as error:
            raise unreadable(name, error) from error

    @cached_property
    def identity(self) -> str:
        """Return the kind of encoder and a hash of its weights."""
        return f"sentence-transformers:{fingerprint(self.model)}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [texts, dimensions], refusing a text that the model would cut off."""
        limit = self.model.max_seq_length
        if limit is not None:
            for text, ids in zip(texts, self.model.tokenizer(list(texts))["input_ids"], strict=True):
                if len(ids) > limit:
                    raise BadInput(
                        f"a text is longer than the encoder {self.name!r} can read",
                        given=f"{len(ids)} tokens: {text[:40]!r}...",
                        present=f"at most {limit} tokens",
                        fix="choose an encoder with a longer window, or shorten the utterance",
                    )
        vectors: NDArray[np.float32] = self.model.encode(
            list(texts), convert_to_numpy=True, show_progress_bar=False, batch_size=32
        )
        return vectors


def embedded(texts: Sequence[str], encoder: TextEncoder, *, cache: ArrayCache | None) -> NDArray[np.float32]:
    """Encode texts [texts, dimensions], each different text once, looking in the cache by content first."""
    unique = list(dict.fromkeys(texts))
    chunks = [unique[begin : begin + CHUNK] for begin in range(0, len(unique), CHUNK)]
    parts = []
    for chunk in tracked(chunks, total=len(chunks), what="embedding texts"):
        compute = partial(encoder.encode, chunk)
        parts.append(compute() if cache is None else cache.get_or_compute(_key(encoder, chunk), compute))
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        bad = unique[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise BadInput("the text encoder returned numbers that are not finite", given=f"for {bad[:60]!r}")
    row = {text: index for index, text in enumerate(unique)}
    return vectors[[row[text] for text in texts]]


def _key(encoder: TextEncoder, texts: Sequence[str]) -> str:
    content = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode()
        content.update(len(encoded).to_bytes(8, "big") + encoded)
    return f"text-embedding.v1:{encoder.identity}:{content.hexdigest()}"


def tfidf(queries: Sequence[str], pool: Sequence[str]) -> tuple[csr_array, csr_array]:
    """Weigh character n-grams (1 to 4, within words) by sublinear TF-IDF; the weights come from the pool alone.

    Characters rather than words, because a hypothesis in an unseen language gets few words entirely right, and a pool
    of some thousand sentences repeats few. Single characters are kept for scripts that write a word in one or two.

    >>> queries, pool = tfidf(["tree"], ["trees", "house"])
    >>> (queries @ pool.T).toarray()[0].round(2).tolist()
    [0.8, 0.19]
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(comparable(text) for text in pool):
        raise BadInput(
            "no utterance of the pool has a text",
            given=f"{len(pool)} empty texts",
            fix="give a pool with transcripts, or choose a retriever that needs none, such as 'audio'",
        )
    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, preprocessor=comparable, dtype=np.float64
    )
    of_pool = csr_array(vectorizer.fit_transform(pool))
    return csr_array(vectorizer.transform(queries)), of_pool
