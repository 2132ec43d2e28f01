"""What holds for every retriever: who is excluded, what is refused, what a ranking may depend on."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.retrieval import RETRIEVERS, Query, Ranking, make, retrieve
from attnlens.context.retrieval.eligible import SPARE, comparable
from attnlens.data.audio import Audio
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName

ALL = sorted(RETRIEVERS)
COMMON = ("seed", "duplicates", "cache")
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {}) for name in ALL),
    ("kl", {"variant": "js"}),
    ("kl", {"variant": "gaussian"}),
    ("kl", {"variant": "codebook", "codes": 3}),
    ("ticl", {"distance": "cosine"}),
    ("ticl+", {"candidates": 6}),
]
WORDS = ["ama", "bari", "cu", "delo", "eni", "fo"]


def clip(seed: int) -> Audio:
    rng = np.random.default_rng(seed)
    length = int(rng.integers(800, 2400))
    tone = np.sin(np.arange(length) * rng.uniform(0.05, 2.0)) * rng.uniform(0.1, 0.9)
    return Audio.from_array((tone + rng.normal(0, 0.02, length)).astype(np.float32))


def utterance(number: int, *, id_: str | None = None, text: str | None = None, audio: Audio | None = None) -> Utterance:
    rng = np.random.default_rng([number, 1])
    words = " ".join(rng.choice(WORDS, size=4)) + f" n{number}"
    return Utterance(id_ or f"u{number}", audio or clip(number), text or words, "xxx")


POOL = [utterance(number) for number in range(12)]
TARGETS = [utterance(number) for number in range(100, 104)]
QUERIES = [Query(target, hypothesis=target.text.replace("a", "e")) for target in TARGETS]


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@settings(derandomize=True, max_examples=5, deadline=None)
@given(data=st.data())
def test_neither_the_target_nor_a_duplicate_is_ever_chosen(
    name: str, options: dict[str, object], data: st.DataObject
) -> None:
    target = data.draw(st.sampled_from(TARGETS))
    same_samples = Audio.from_array(np.array(target.audio.load()))
    impostors = {
        "same id": utterance(200, id_=target.id),
        "same text": utterance(201, id_="same text", text="  " + target.text.upper().replace(" ", "\t")),
        "same audio": utterance(202, id_="same audio", audio=same_samples),
        "same audio, edited": utterance(203, id_="same audio, edited", audio=target.audio.edited("reverse")),
    }
    placed = data.draw(st.permutations([*POOL, *impostors.values()]))
    query = Query(target, hypothesis=target.text)
    k = 6 if "candidates" in options else len(POOL)
    chosen = set(retrieve([query], placed, k=k, retriever=name, **options)[0].ids)
    assert len(chosen) == k
    assert chosen <= {item.id for item in POOL}

    kept = retrieve([query], placed, k=6, retriever=name, duplicates="keep-text", **options)[0].ids
    assert not {target.id, "same audio", "same audio, edited"} & set(kept)
    if name in {"text", "ticl", "oracle"}:
        assert kept[0] == "same text"


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_ranking_depends_on_its_query_and_the_pool_alone(name: str, options: dict[str, object]) -> None:
    retriever = make(name, **options)
    together = retriever.rank(QUERIES, POOL, k=5)
    assert retriever.rank(QUERIES, POOL, k=5) == together
    assert retriever.rank(QUERIES[::-1], POOL, k=5)[::-1] == together
    for query, ranking in zip(QUERIES, together, strict=True):
        assert retriever.rank([query], POOL, k=5) == [ranking]
        assert retriever.rank([query], POOL, k=3) == [Ranking(ranking.ids[:3], ranking.scores[:3])]
        assert list(ranking.scores) == sorted(ranking.scores, reverse=True)
        assert len(set(ranking.ids)) == 5


@pytest.mark.parametrize(("name", "options"), [variant for variant in VARIANTS if variant != ("ticl+", {})])
def test_a_retriever_uses_what_it_says_and_nothing_else(name: str, options: dict[str, object]) -> None:
    retriever = make(name, **options)
    before = retriever.rank(QUERIES, POOL, k=4)
    other = {
        "gold-text": [replace(q, utterance=replace(q.utterance, text="zz yy " + q.utterance.id)) for q in QUERIES],
        "hypothesis": [replace(q, hypothesis="delo fo n3 n4 " + q.utterance.id) for q in QUERIES],
        "audio": [replace(q, utterance=replace(q.utterance, audio=clip(i + 900))) for i, q in enumerate(QUERIES)],
    }
    for used, queries in other.items():
        assert (retriever.rank(queries, POOL, k=4) != before) == (used in retriever.uses), used
    assert ("gold-text" in retriever.uses) == (name == "oracle")


@pytest.mark.parametrize("name", ALL)
def test_without_a_hypothesis_text_retrievers_refuse_and_name_the_oracle(name: str) -> None:
    retriever = make(name)
    bare = [Query(target) for target in TARGETS]
    if "hypothesis" not in retriever.uses:
        assert len(retriever.rank(bare, POOL, k=2)) == len(bare)
        return
    with pytest.raises(BadInput, match="4 of 4 queries have no hypothesis") as caught:
        retriever.rank(bare, POOL, k=2)
    assert "hypothesis=" in str(caught.value.fix)
    assert "'oracle'" in str(caught.value.fix)


@pytest.mark.parametrize("name", ALL)
def test_counts_that_cannot_be_had_are_refused_before_any_work(name: str) -> None:
    unheard = [replace(item, audio=Audio(Path(f"/nowhere/{item.id}.wav"))) for item in POOL]
    retriever = make(name)
    assert retriever.rank(QUERIES, unheard, k=0) == [Ranking((), ())] * 4
    assert retriever.rank(QUERIES, [], k=0) == [Ranking((), ())] * 4
    assert retriever.rank([], POOL, k=3) == []
    with pytest.raises(BadInput, match="negative"):
        retriever.rank(QUERIES, unheard, k=-1)
    with pytest.raises(BadInput, match="the pool is empty"):
        retriever.rank(QUERIES, [], k=1)
    with pytest.raises(BadInput, match="too few demonstrations for utterance 'u100'"):
        retriever.rank(QUERIES, unheard, k=13)
    with pytest.raises(BadInput, match="'u3' occurs twice in the pool"):
        retriever.rank(QUERIES, [*unheard, unheard[3]], k=1)


@pytest.mark.parametrize("name", ALL)
def test_when_exclusions_leave_too_few_the_error_says_for_whom(name: str) -> None:
    pool = [*POOL[:3], replace(TARGETS[2], id="again"), utterance(300, id_="heard", audio=TARGETS[2].audio)]
    assert len(make(name).rank(QUERIES[:2], pool, k=5)) == 2
    with pytest.raises(BadInput, match="too few demonstrations for utterance 'u102'") as caught:
        make(name).rank(QUERIES, pool, k=4)
    assert "k=4" in str(caught.value.given)
    assert "3 to choose from" in str(caught.value.present) or "4 to choose from" in str(caught.value.present)


@pytest.mark.parametrize("name", ALL)
def test_what_is_advised_against_too_few_is_not_already_done(name: str) -> None:
    # Found too small before and after the audio is looked at.
    for pool in (POOL[:3], [*POOL[:3], utterance(300, id_="heard", audio=TARGETS[0].audio)]):
        for duplicates, advised in (("exclude", True), ("keep-text", False)):
            with pytest.raises(BadInput, match="too few demonstrations") as caught:
                make(name, duplicates=duplicates).rank(QUERIES[:1], pool, k=4)
            assert str(caught.value.fix).startswith("pass a smaller k")
            assert ("duplicates='keep-text'" in str(caught.value.fix)) == advised


@pytest.mark.parametrize("name", ALL)
def test_more_copies_of_the_clip_than_foreseen_are_left_out_too(name: str) -> None:
    target = TARGETS[0]
    copies = [replace(target, id=f"copy{n}", text=f"{target.text} {n}") for n in range(5 * SPARE)]
    query = Query(target, hypothesis=target.text)
    ranking = retrieve([query], [*copies, *POOL], k=4, retriever=name, **({"candidates": 4} if name == "ticl+" else {}))
    assert set(ranking[0].ids) <= {item.id for item in POOL}
    assert len(ranking[0].ids) == 4


def test_clips_are_decoded_only_when_they_could_be_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    load = Audio.load

    def counting(self: Audio) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        decoded.append(self)
        return load(self)

    monkeypatch.setattr(Audio, "load", counting)
    fresh = [replace(item, audio=replace(item.audio)) for item in POOL]
    target = replace(TARGETS[0], audio=replace(TARGETS[0].audio))
    query = Query(target, hypothesis="ama bari")
    assert len(retrieve([query], fresh, k=6)[0].ids) == 6
    assert decoded == []

    # Of equal duration, but other samples: now both have to be listened to, and nothing else.
    length = len(load(target.audio))
    near = utterance(400, text="ama bari", audio=Audio.from_array(np.full(length, 0.1, np.float32)))
    assert retrieve([query], [*fresh, near], k=6)[0].ids[0] == near.id
    assert decoded == [target.audio, near.audio]


def test_ties_go_to_the_earlier_pool_item() -> None:
    twins = [replace(POOL[n % 2], id=f"t{n}", text="ama bari" if n % 2 else "cu delo") for n in range(10)]
    query = Query(TARGETS[0], hypothesis="ama bari")
    assert retrieve([query], twins, k=10, retriever="text")[0].ids == tuple(
        f"t{n}" for n in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)
    )
    assert retrieve([query], twins, k=4, retriever="ticl")[0].ids == ("t1", "t3", "t5", "t7")
    for name in ("audio", "kl", "length", "ticl+"):
        ids = retrieve([query], twins, k=10, retriever=name)[0].ids
        assert ids in {
            tuple(f"t{n}" for n in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)),
            tuple(f"t{n}" for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)),
        }


def test_an_unknown_text_is_nobodys_duplicate() -> None:
    pool = [replace(POOL[0], text=""), *POOL[1:]]
    query = Query(replace(TARGETS[0], text=""), hypothesis="ama")
    assert "u0" in retrieve([query], pool, k=12)[0].ids


def test_texts_are_the_same_when_only_form_and_case_and_spaces_differ() -> None:
    assert comparable("\u1e9eA  \ufb01n\n") == comparable("SSA fin") == "ssa fin"
    assert comparable("a b") != comparable("ab")
    # Case folding can undo a normal form; the key is one all the same.
    assert comparable("\u0345\u0301") == comparable("\u0301\u0345")


def test_options_are_checked_by_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'encoder'"):
        make("text", encodr="x")
    with pytest.raises(UnknownName, match="did you mean 'ticl'"):
        make("tickl")
    with pytest.raises(UnknownName, match="did you mean 'keep-text'"):
        retrieve(QUERIES, POOL, k=1, duplicates="keep-texts")
    with pytest.raises(UnknownName, match="euclidean"):
        make("ticl", distance="euclid")


def test_the_page_names_every_retriever_with_what_it_uses_and_takes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "retrieval-and-controls.md").read_text(encoding="utf-8")
    rows = {cells[1].strip("` "): cells for line in page.splitlines() if len(cells := line.split("|")) == 6}
    for name in ALL:
        _, _, _, uses, options, _ = rows[name]
        assert set(uses.strip().replace("gold text", "gold-text").split(", ")) == (make(name).uses or {"nothing"}), name
        own = [option for option in inspect.signature(RETRIEVERS[name]).parameters if option not in COMMON]
        assert sorted(options.strip().replace("`", "").split(", ")) == (sorted(own) or [""]), name


def test_every_retriever_takes_the_common_options_and_has_a_summary() -> None:
    names = {"random", "first", "length", "text", "audio", "text+audio", "kl", "ticl", "ticl+", "oracle", "coverage"}
    assert names | {"degraded"} == set(ALL)
    for entry in RETRIEVERS.entries():
        assert 20 < len(entry.summary) < 90
        assert make(entry.name, seed=3, duplicates="exclude", cache=None).uses <= {"hypothesis", "audio", "gold-text"}
