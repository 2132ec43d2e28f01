"""Tests that speak, down to the whole chain from speech to an evaluated model in little."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlens.data.check import check
from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.organism import udhr
from attnlens.organism.embedded import CorpusPlan, build_corpora
from attnlens.organism.espeak import Espeak
from attnlens.organism.evaluation import CELLS, evaluate
from attnlens.organism.languages import Language
from attnlens.organism.phones import NASAL, NASAL_MNEMONICS, PHONES, STRESSED, classes, phone_id
from attnlens.organism.pool import write_pool
from attnlens.organism.shipped import target_corpus
from attnlens.organism.speech import say_words
from attnlens.organism.splits import read_splits
from attnlens.organism.synthesis import PoolPlan, nasal_vowels, say_phrase, synthesise
from attnlens.train.loop import train
from attnlens.train.spec import read_train_spec

EXPERIMENTS = Path(__file__).parents[2] / "experiments" / "organism"
SPLITS = EXPERIMENTS / "splits.yaml"
WORDS = "kato mira sun taleku posi wena rima hoko tupu nela"


def declaration(seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice(WORDS.split(), 4)) for _ in range(400)]
    return "".join(f"<p>{line}.</p>" for line in lines)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "udhr.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for number, code in enumerate(("ind", "fin", "gug", "quy", "mri", "swh")):
            text = declaration(number).encode()
            member = tarfile.TarInfo(f"package/declaration/{code}.html")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return path


def test_phonemes_come_back_with_their_times() -> None:
    engine = Espeak()
    spoken = engine.say("[[k'a|t|o]] [[m'i|S|u]]", voice="id+m1", speed=100)
    assert [PHONES[one] for _, ipa in spoken.phonemes for one in classes(ipa)] == [
        "k",
        "a",
        "t",
        "o",
        "m",
        "i",
        "ʃ",
        "u",
    ]
    times = [time for time, _ in spoken.phonemes]
    assert times == sorted(times)
    assert 0.5 < len(spoken.samples) / spoken.rate < 3
    with pytest.raises(BadInput, match="no voice"):
        engine.say("ka", voice="nowhere", speed=100)


def test_speech_does_not_depend_on_what_another_copy_said() -> None:
    asked = [("[[k'a|t|o]]", "id+m1"), ("[[t'u|p|a]]", "fi+Andy"), ("anggota", "id+m1"), ("[[k'a|t|o]]", "id+m1")]

    def say() -> list[bytes]:
        engine = Espeak()
        return [engine.say(text, voice=voice, speed=100).samples.tobytes() for text, voice in asked]

    one = say()
    Espeak().say("something else", voice="en", speed=140)
    assert say() == one
    # Why copies are needed: within one, the same word is not the same samples.
    assert one[0] != one[3]


def test_words_are_said_as_asked_or_not_at_all() -> None:
    engine = Espeak()
    word = tuple(phone_id(name) for name in ("k", "a", "t", "o"))
    said = say_words([word, word], [(0, 1, 0, 0), (0, 0, 0, 1)], "id+f1", np.random.default_rng(0), engine=engine)
    assert said is not None
    assert said.phones == word + word
    assert said.words == (0,) * 4 + (1,) * 4
    assert said.marks == (0, STRESSED, 0, 0, 0, 0, 0, STRESSED)
    assert said.starts[0] >= 0
    # The pause between two words belongs to neither.
    assert said.starts[4] - said.stops[3] >= 60
    assert said.stops[-1] / 1000 <= len(said.samples) / 16_000 + 0.01
    assert np.abs(said.samples).max() <= 1
    # Finnish has no ts of one piece: rather nothing than a wrong label.
    odd = tuple(phone_id(name) for name in ("a", "ts", "a"))
    assert say_words([odd], [(1, 0, 0)], "fi+f1", np.random.default_rng(0), engine=engine) is None


def test_a_glottal_stop_may_be_a_pause_shorter_than_that_between_words() -> None:
    engine = Espeak()
    word = tuple(phone_id(name) for name in ("k", "a", "ʔ", "e", "t", "i"))
    edge = (phone_id("ʔ"), word[1], word[0])
    marked = [(0, 1, 0, 0, 0, 0), (0, 1, 0)]
    by_way = {
        way: say_words([word, edge], marked, "pt-br+f1", np.random.default_rng(0), engine=engine, glottal=way)
        for way in ("stop", "pause")
    }
    for said in by_way.values():
        assert said is not None
        assert said.phones == word + edge
    stop, pause = (said.stops[2] - said.starts[2] for said in by_way.values() if said is not None)
    assert stop < 30
    assert pause > 45
    made = by_way["pause"]
    assert made is not None
    # Between words is a longer pause, which is no sound; at the edge of one it is said as a stop.
    assert made.starts[6] - made.stops[5] > pause
    assert made.stops[6] - made.starts[6] < 30


def test_vowels_are_nasal_in_voices_that_have_them() -> None:
    engine = Espeak()
    word = tuple(phone_id(name) for name in ("k", "o", "t", "e"))
    marked = (0, NASAL, 0, STRESSED)
    said = say_words([word], [marked], "pt-br+f1", np.random.default_rng(0), engine=engine)
    assert said is not None
    assert (said.phones, said.marks) == (word, marked)
    assert say_words([word], [marked], "id+f1", np.random.default_rng(0), engine=engine) is None
    voices = read_splits(SPLITS)
    assert set(NASAL_MNEMONICS) <= set(voices.train.languages)
    assert [PHONES[one] for one in nasal_vowels(voices.train)] == ["a", "e", "i", "o", "u"]
    assert nasal_vowels(voices.dev) == ()
    for language, able in NASAL_MNEMONICS.items():
        for vowel in able:
            said = say_words(
                [(word[0], vowel, word[2])],
                [(0, NASAL | STRESSED, 0)],
                f"{language}+m1",
                np.random.default_rng(0),
                engine=engine,
            )
            assert said is not None, (language, PHONES[vowel])
            assert said.marks == (0, NASAL | STRESSED, 0)


def test_a_phrase_with_nasal_vowels_finds_a_voice_that_has_them() -> None:
    engine, voices = Espeak(), read_splits(SPLITS).train
    rng = np.random.default_rng(3)
    a, e, k, t = (phone_id(name) for name in "aekt")
    words = tuple((k, first, t, second) for first in (a, e) for second in (a, e))
    language = Language("x", words, np.full(4, 1 / 4), "last", nasal=(e,))
    said = [one for one in (say_phrase(language, voices, rng, words=(1, 2), engine=engine) for _ in range(20)) if one]
    assert len(said) > 10
    nasal = {voice.partition("+")[0] for one, voice in said if any(mark & NASAL for mark in one.marks)}
    assert nasal
    assert nasal <= set(NASAL_MNEMONICS)
    assert {voice.partition("+")[0] for _, voice in said} - set(NASAL_MNEMONICS)


@pytest.mark.slow
def test_a_pool_is_the_same_for_any_number_of_processes(tmp_path: Path, package: Path) -> None:
    plan = PoolPlan(made_up=2, utterances=4, real=1, lexicon=10)
    made = [
        write_pool(synthesise(plan, read_splits(SPLITS), package, processes=count), tmp_path / str(count))
        for count in (1, 2)
    ]
    assert len(made[0]) == 12
    for name in ("frame_start", "phones", "starts", "stops", "words", "language", "voice"):
        assert np.array_equal(getattr(made[0], name), getattr(made[1], name))
    assert made[0].texts == made[1].texts
    assert made[0].voices == made[1].voices
    # Breathy voices differ in the last bits from run to run: see Espeak.
    assert float(np.abs(made[0].mel.astype(np.float32) - made[1].mel.astype(np.float32)).mean()) < 0.01


@pytest.mark.slow
def test_embedded_corpora_are_whole_and_sound(tmp_path: Path, package: Path) -> None:
    plan = CorpusPlan(pool=8, dev=4, test=4, words=(2, 4))
    corpora = build_corpora(read_splits(SPLITS), package, tmp_path / "corpora", plan)
    for corpus in corpora:
        assert (len(corpus.pool), len(corpus.dev), len(corpus.test)) == (8, 4, 4)
        assert len({one.speaker for one in corpus.test}) == 4
        assert check(corpus).errors == ()
        assert all(" " in one.text for one in corpus)


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_chain_goes_from_nothing_to_a_table(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make organism PRESET=smoke` does, on another text than the declaration."""
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    monkeypatch.setattr(udhr, "INTEGRITY", digest)
    monkeypatch.chdir(tmp_path)
    built = Path("build/organism/smoke")
    script("synthesise").make(EXPERIMENTS / "smoke" / "pools.yaml", package, SPLITS, built, 1)
    for stage in ("discrete", "encoder", "joint"):
        outcome = train(read_train_spec(EXPERIMENTS / "smoke" / f"{stage}.yaml"), built / stage)
        assert outcome.ended == "all steps done", stage
    targets = [target_corpus("maori"), target_corpus("guarani")]
    answers = list(evaluate(load(str(built / "joint" / "model")), targets, seeds=[0], limit=2))
    assert {one.cell for one in answers} == {str(cell) for cell in CELLS}
    table = script("evaluate").render(answers)
    cells = [row.split("|")[1:-1] for row in table.splitlines() if row.startswith("|") and " k=" in row]
    assert [row[0].strip() for row in cells] == [str(cell) for cell in CELLS]
    # What one context saves over the one before is the difference of their rows.
    bits = {row[0].strip(): float(row[3]) for row in cells}
    saved = next(row for row in table.splitlines() if row.startswith("- icl k=8 -> micl k=8: "))
    assert float(saved.split(": ")[1].split()[0]) == pytest.approx(bits["icl k=8"] - bits["micl k=8"], abs=0.011)


def test_a_changed_package_is_refused(tmp_path: Path, package: Path) -> None:
    with pytest.raises(BadInput, match=r"is not udhr 6\.0\.0"):
        script("synthesise").make(EXPERIMENTS / "smoke" / "pools.yaml", package, SPLITS, tmp_path, 1)
