from __future__ import annotations

from dataclasses import replace

import pytest

from attnlens.context.retrieval import Query, make, retrieve
from attnlens.errors import BadInput, UnknownName
from attnlens.testing import clip, corpus

POOL = corpus(pool=12).pool
QUERIES = [Query(one, hypothesis=POOL[n].text) for n, one in enumerate(corpus(test=6).test)]


def chosen(name: str, k: int = 4) -> list[tuple[str, ...]]:
    return [ranking.ids for ranking in retrieve(QUERIES, POOL, k=k, retriever=name, seed=3)]


def test_a_larger_share_replaces_more_and_what_a_smaller_one_did() -> None:
    whole = chosen("text")
    assert chosen("degraded:of=text:share=0") == whole
    kept = []
    for share in (0.25, 0.5, 0.75, 1):
        mixed = chosen(f"degraded:of=text:share={share}")
        assert all(len(set(ids)) == 4 for ids in mixed)
        kept.append({(q, p) for q, ids in enumerate(mixed) for p, one in enumerate(ids) if one == whole[q][p]})
    assert kept[0] >= kept[1] >= kept[2] >= kept[3] == set()
    assert len(kept[0]) > len(kept[2])


def test_options_follow_the_name() -> None:
    assert getattr(make("kl:variant=js"), "variant") == "js"  # noqa: B009
    assert chosen("audio:distance=euclidean") != chosen("audio:distance=cosine")
    with pytest.raises(UnknownName, match="varient"):
        make("kl:varient=js")
    with pytest.raises(UnknownName, match="distance"):
        make("audio:distance=manhattan")
    with pytest.raises(BadInput, match="name:key=value"):
        make("kl:js")
    with pytest.raises(BadInput, match="between 0 and 1"):
        make("degraded:share=2")


def test_demonstrations_of_a_fixed_length_together() -> None:
    pool = [replace(one, audio=clip(seconds=1.0 + n, seed=n)) for n, one in enumerate(POOL)]
    for k, due in ((1, 8.0), (2, 4.0), (4, 2.0)):
        ids = retrieve(QUERIES[:1], pool, k=k, retriever="length:total=8")[0].ids
        seconds = sorted(abs(one.audio.seconds - due) for one in pool)
        found = sorted(abs(one.audio.seconds - due) for one in pool if one.id in ids)
        assert found == seconds[:k]
