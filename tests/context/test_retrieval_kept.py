"""Finished rankings are read back when nothing they depend on has changed, and never otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnlens.context.retrieval import RETRIEVERS, Query, Ranking, make, retrieve
from attnlens.context.retrieval.scored import ScoredRetriever
from attnlens.context.retrieval.vectors import Cosine
from attnlens.data.audio import Audio
from attnlens.data.cache import ArrayCache
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

LISTENING = ["audio", "kl", "text+audio", "ticl+"]
WORDS = ["ama", "bari", "cu", "delo", "eni", "fo"]


class Watched(ArrayCache):
    """A cache that notes what it did not have."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.missed: list[str] = []

    def get_or_compute(self, key: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        def noted() -> NDArray[Any]:
            self.missed.append(key.partition(".")[0])
            return compute()

        return super().get_or_compute(key, noted)


def samples(number: int, length: int = 1600) -> NDArray[np.float32]:
    rng = np.random.default_rng(number)
    tone = np.sin(np.arange(length) * rng.uniform(0.05, 2.0)) * 0.3
    return (tone + rng.normal(0, 0.02, length)).astype(np.float32)


def said(number: int, audio: Audio) -> Utterance:
    words = np.random.default_rng([number, 1]).choice(WORDS, size=3)
    return Utterance(f"u{number}", audio, " ".join(words) + f" n{number}", "xxx", speaker=f"s{number % 3}")


def corpus(folder: Path) -> tuple[list[Query], list[Utterance]]:
    """Return two targets in memory and a pool of eight files; new objects each time, for clips remember their hash."""
    pool = []
    for number in range(8):
        path = folder / f"{number}.wav"
        if not path.exists():
            soundfile.write(path, samples(number), 16_000)
        pool.append(said(number, Audio(path)))
    targets = [said(number, Audio.from_array(samples(number))) for number in (50, 51)]
    return [Query(target, hypothesis=target.text.replace("a", "e")) for target in targets], pool


def rewritten_in_secret(path: Path, content: NDArray[np.float32]) -> None:
    """Change a file and nothing that a look at its folder would tell."""
    before = path.stat()
    soundfile.write(path, content, 16_000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("name", sorted(RETRIEVERS))
def test_a_second_call_reads_back_what_the_first_computed(name: str, tmp_path: Path) -> None:
    plain = retrieve(*corpus(tmp_path), k=4, retriever=name)
    first, second = Watched(tmp_path / "cache"), Watched(tmp_path / "cache")
    assert retrieve(*corpus(tmp_path), k=4, retriever=name, cache=first) == plain
    assert ("ranking" in first.missed) == (name != "length")
    again = retrieve(*corpus(tmp_path), k=4, retriever=name, cache=second)
    assert again == plain
    assert second.missed == []
    assert all(type(score) is float for ranking in again for score in ranking.scores)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), k=st.integers(0, 8), targets=st.integers(0, 2))
def test_what_is_read_back_equals_what_is_computed(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, targets: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    queries, pool = corpus(folder)
    options: dict[str, Any] = {"k": k, "retriever": "random", "seed": seed}
    for _ in range(2):
        kept = retrieve(queries[:targets], pool, cache=ArrayCache(folder / "cache"), **options)
        assert kept == retrieve(queries[:targets], pool, **options)


Asked = tuple[list[Query], list[Utterance], dict[str, Any]]


def of_target(**change: Any) -> Callable[[Asked], Asked]:
    return lambda asked: (
        [replace(asked[0][0], utterance=replace(asked[0][0].utterance, **change)), *asked[0][1:]],
        *asked[1:],
    )


def of_pool(**change: Any) -> Callable[[Asked], Asked]:
    return lambda asked: (asked[0], [*asked[1][:-1], replace(asked[1][-1], **change)], asked[2])


def option(**change: Any) -> Callable[[Asked], Asked]:
    return lambda asked: (*asked[:2], asked[2] | change)


CHANGES: list[tuple[str, str, Callable[[Asked], Asked]]] = [
    ("another hypothesis", "text", lambda a: ([replace(a[0][0], hypothesis="fo fo"), a[0][1]], a[1], a[2])),
    ("no hypothesis", "audio", lambda a: ([Query(a[0][0].utterance), a[0][1]], a[1], a[2])),
    ("another gold text", "oracle", of_target(text="fo fo")),
    ("a gold text that makes a duplicate", "text", of_target(text=said(3, Audio(Path("x"))).text)),
    ("another target id", "random", of_target(id="someone")),
    ("another target clip", "text", of_target(audio=Audio.from_array(samples(99)))),
    ("fewer targets", "text", lambda a: (a[0][:1], *a[1:])),
    ("targets in another order", "text", lambda a: (a[0][::-1], *a[1:])),
    ("another pool text", "text", of_pool(text="fo fo")),
    ("another pool id", "text", of_pool(id="someone")),
    ("another speaker", "text", of_pool(speaker="someone")),
    ("an edited pool clip", "audio", of_pool(audio=Audio.from_array(samples(7)).edited("reverse"))),
    ("a smaller pool", "text", lambda a: (a[0], a[1][:-1], a[2])),
    ("a pool in another order", "coverage", lambda a: (a[0], a[1][::-1], a[2])),
    ("another k", "text", option(k=3)),
    ("another seed", "random", option(seed=1)),
    ("duplicates kept", "text", option(duplicates="keep-text")),
    ("another distance", "ticl", option(distance="cosine")),
    ("another variant", "kl", option(variant="js")),
    ("another temperature", "kl", option(temperature=np.float64(2.0))),
    ("other candidates", "ticl+", option(candidates=5)),
    ("another retriever with the same options", "text", option(retriever="oracle")),
]


@pytest.mark.parametrize(("name", "change"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_whatever_changes_is_computed_anew(name: str, change: Callable[[Asked], Asked], tmp_path: Path) -> None:
    before: Asked = (*corpus(tmp_path), {"k": 4, "retriever": name})
    retrieve(*before[:2], cache=Watched(tmp_path / "cache"), **before[2])
    queries, pool, options = change(before)
    cache = Watched(tmp_path / "cache")
    assert retrieve(queries, pool, cache=cache, **options) == retrieve(queries, pool, **options)
    assert "ranking" in cache.missed


@pytest.mark.parametrize("name", LISTENING)
def test_a_file_that_sounds_otherwise_is_a_miss_however_alike_it_looks(name: str, tmp_path: Path) -> None:
    before = retrieve(*corpus(tmp_path), k=4, retriever=name, cache=ArrayCache(tmp_path / "cache"))
    queries, _ = corpus(tmp_path)
    near = np.roll(queries[0].utterance.audio.load(), 1)
    for number in range(8):
        rewritten_in_secret(tmp_path / f"{number}.wav", near if number == 5 else samples(number + 20))
    cache = Watched(tmp_path / "cache")
    after = retrieve(*corpus(tmp_path), k=4, retriever=name, cache=cache)
    assert "ranking" in cache.missed
    assert after == retrieve(*corpus(tmp_path), k=4, retriever=name)
    assert after != before


def test_a_file_that_became_the_targets_own_clip_is_left_out_of_a_text_ranking(tmp_path: Path) -> None:
    options: dict[str, Any] = {"k": 7, "retriever": "text"}
    queries, pool = corpus(tmp_path)
    chosen = retrieve(queries[:1], pool, cache=ArrayCache(tmp_path / "cache"), **options)[0].ids[0]
    same = queries[0].utterance.audio.load()
    soundfile.write(tmp_path / f"{chosen[1:]}.wav", same, 16_000, subtype="FLOAT")
    again = retrieve(queries[:1], corpus(tmp_path)[1], cache=ArrayCache(tmp_path / "cache"), **options)
    assert chosen not in again[0].ids


def test_with_a_cache_too_only_candidates_are_listened_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, pool = corpus(tmp_path)
    heard: set[str] = set()
    load = Audio.load
    monkeypatch.setattr(Audio, "load", lambda clip: heard.add(clip.describe()) or load(clip))  # type: ignore[func-returns-value]
    cache = ArrayCache(tmp_path / "cache")
    retrieve(queries[:1], pool, k=2, retriever="ticl+", candidates=3, cache=cache)
    assert len({name for name in heard if name.endswith(".wav")}) == 3
    with pytest.raises(BadInput, match="more demonstrations are asked for than survive"):
        retrieve(queries, pool, k=4, retriever="ticl+", candidates=3, cache=cache)


class Counts:
    """An encoder of texts and clips, told apart by the weights it claims to have."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[len(text), text.count("a"), 1] for text in texts], dtype=np.float32)

    def frames(self, audio: Audio) -> NDArray[np.float32]:
        return audio.load()[:100].reshape(-1, 4)


def always(encoder: Counts) -> Callable[..., Counts]:
    return lambda *_, **__: encoder


@pytest.mark.parametrize(("name", "what"), [("text", "encoder"), ("ticl+", "audio_encoder"), ("kl", "encoder")])
def test_other_weights_are_a_miss_and_equal_weights_are_not(name: str, what: str, tmp_path: Path) -> None:
    missed = []
    for weights in ("step 1", "step 1", "step 2"):
        cache = Watched(tmp_path / "cache")
        make(name, cache=cache, **{what: Counts(weights)}).rank(*corpus(tmp_path), k=4)
        missed.append("ranking" in cache.missed)
    assert missed == [True, False, True]


@pytest.mark.parametrize(
    ("name", "loader", "what"),
    [
        ("text", "text.text_encoder", "encoder"),
        ("text+audio", "text.text_encoder", "encoder"),
        ("text+audio", "audio.audio_encoder", "audio_encoder"),
        ("ticl+", "text.text_encoder", "encoder"),
        ("ticl+", "audio.audio_encoder", "audio_encoder"),
        ("audio", "audio.audio_encoder", "encoder"),
        ("kl", "kl.audio_encoder", "encoder"),
    ],
)
def test_of_an_encoder_that_is_named_the_weights_are_looked_at(
    name: str, loader: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = []
    for weights in ("step 1", "step 1", "step 2"):
        monkeypatch.setattr(f"attnlens.context.retrieval.{loader}", always(Counts(weights)))
        cache = Watched(tmp_path / "cache")
        make(name, cache=cache, **{what: "a/checkpoint"}).rank(*corpus(tmp_path), k=4)
        missed.append("ranking" in cache.missed)
    assert missed == [True, False, True]


@dataclass(frozen=True, kw_only=True)
class Vowels(ScoredRetriever):
    """A retriever as another package may add it; it says nothing about its version."""

    weight: object = 1.0

    def scores(self, queries: Sequence[Query], pool: Sequence[Utterance]) -> Cosine:
        rows = [query.utterance for query in queries], pool
        return Cosine(*(np.array([[u.text.count(v) for v in "aeiou"] for u in side], dtype=float) for side in rows))


@dataclass(frozen=True, kw_only=True)
class First(Vowels):
    version: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Derived(First):
    pass


def ranked(retriever: ScoredRetriever, folder: Path) -> list[Ranking]:
    return retriever.rank(*corpus(folder), k=4)


def test_rankings_of_a_class_that_states_no_version_of_its_own_are_not_kept(tmp_path: Path) -> None:
    for made, kept in ((Vowels, []), (First, ["ranking"]), (Derived, [])):
        cache = Watched(tmp_path / made.__name__)
        assert ranked(made(cache=cache), tmp_path) == ranked(made(), tmp_path)
        assert cache.missed == kept


def test_another_version_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(First(cache=ArrayCache(tmp_path / "cache")), tmp_path)
    monkeypatch.setattr(First, "version", 2)
    cache = Watched(tmp_path / "cache")
    ranked(First(cache=cache), tmp_path)
    assert cache.missed == ["ranking"]


def test_an_option_that_cannot_be_told_from_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="from the option 'weight'") as caught:
        ranked(First(weight=[1, 2], cache=ArrayCache(tmp_path / "cache")), tmp_path)
    assert "identity" in str(caught.value.fix)
    assert len(ranked(First(weight=[1, 2]), tmp_path)) == 2
    cache = Watched(tmp_path / "cache")
    ranked(First(weight=Counts("known"), cache=cache), tmp_path)
    assert cache.missed == ["ranking"]


def test_where_it_was_computed_is_no_matter(tmp_path: Path) -> None:
    cache = Watched(tmp_path / "cache")
    for device in ("cpu", "cuda"):
        make("kl", cache=cache, device=device).rank(*corpus(tmp_path), k=4)
    assert cache.missed.count("ranking") == 1
