"""A text language model as a re-ranker: it reads the pool's texts nearest to what was heard, and hears nothing."""

from __future__ import annotations

from collections.abc import Sequence

from attnlens.asr.candidates import Candidates, score_candidates
from attnlens.asr.causal_lm import CausalLM, load_causal_lm
from attnlens.asr.nbest import NBest
from attnlens.asr.rerank_spec import TextLmPart
from attnlens.context.retrieval.base import Query, retrieve
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, listing

__all__ = ["load_text_lm", "nearest_texts", "score_by_text_lm"]


def load_text_lm(part: TextLmPart, corpus: Corpus) -> CausalLM:
    """Load the model that a spec names for a corpus."""
    name = part.model if isinstance(part.model, str) else part.model.get(corpus.name)
    if name is None:
        raise BadInput(
            f"there is no text model for {corpus.name!r}", given=f"{part.name}: {listing(part.model)}", fix="name one"
        )
    return load_causal_lm(name, separator="\n" if part.shots else None, device=part.device)


def score_by_text_lm(
    lm: CausalLM,
    part: TextLmPart,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    lists: Sequence[NBest],
    *,
    seed: int,
) -> list[Candidates]:
    """Score lists after the texts of the pool that are nearest to their best hypotheses."""
    shown = nearest_texts(corpus, utterances, lists, shots=part.shots, retriever=part.retriever, seed=seed)
    return score_candidates(lists, lm, demonstrations=shown)


def nearest_texts(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    lists: Sequence[NBest],
    *,
    shots: int,
    retriever: str = "text",
    seed: int = 0,
) -> list[list[str]]:
    """Return the texts shown with each utterance, nearest first; none are asked for with 0 shots.

    >>> from attnlens.asr.nbest import Hypothesis
    >>> from attnlens.testing import corpus
    >>> speech = corpus()
    >>> heard = [NBest(one.id, (Hypothesis(speech.pool[2].text, -1.0),)) for one in speech.test]
    >>> nearest_texts(speech, speech.test, heard, shots=1)[0] == [speech.pool[2].text]
    True
    """
    queries = [
        Query(one, hypothesis=listed.best.text if len(listed) else "")
        for one, listed in zip(utterances, lists, strict=True)
    ]
    rankings = retrieve(queries, corpus.pool, k=shots, retriever=retriever, seed=seed)
    return [[corpus[name].text for name in ranking.ids] for ranking in rankings]
