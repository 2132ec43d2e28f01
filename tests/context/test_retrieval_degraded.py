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


def test_a_larger_share_leaves_less_of_what_was_chosen() -> None:
    whole = chosen("text")
    assert chosen("degraded:of=text:share=0") == whole
    assert chosen("degraded:of=text:share=1") == chosen("random")
    kept = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        mixed = chosen(f"degraded:of=text:share={share}")
        assert all(len(set(ids)) == 4 for ids in mixed)
        assert [ids[:2] for ids in mixed] == chosen(f"degraded:of=text:share={share}", k=2)
        kept.append(
            sum(
                one == best
                for ids, bests in zip(mixed, whole, strict=True)
                for one, best in zip(ids, bests, strict=True)
            )
        )
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[2] > kept[4]


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
