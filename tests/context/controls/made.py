"""What the tests of controls share: two small corpora, prompts made of them, and what is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.controls import apply_control
from attnlens.context.prompt import CONDITIONS, SHOWN, Condition, Demonstration, Prompt, Target
from attnlens.data.audio import Audio
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance

properties = settings(derandomize=True, max_examples=50, deadline=None)
seeds = st.integers(0, 2**32)
WITH_DEMONSTRATIONS: list[Condition] = [name for name in CONDITIONS if SHOWN[name]]
WITH_TEXT: list[Condition] = ["t-icl", "icl", "micl"]
WITH_AUDIO: list[Condition] = ["micl", "a-icl"]
AUDIO_EDITS = {
    "audio-reversed": "reverse",
    "audio-chunk-shuffled": "chunk-shuffle",
    "audio-silenced": "silence",
    "audio-noise": "spectrum-noise",
}
# Scripts with marks, joiners, several kinds of space, and a right-to-left letter.
letters = st.sampled_from("abcé\u0301\u0303ŋ क\u093fम\u094d\u200d\u00a0\tא日")
texts = st.text(letters, min_size=1, max_size=12).filter(str.strip)


def clip(seed: int) -> Audio:
    return Audio.from_array(np.random.default_rng(seed).standard_normal(8000).astype(np.float32) / 10)


def utterances(prefix: str, count: int, language: str = "que", speakers: int = 4, words: int = 3) -> list[Utterance]:
    return [
        Utterance(
            id=f"{prefix}{number}",
            audio=clip(base_seed(prefix) + number),
            text=" ".join(f"{prefix}{number}{letter}" for letter in "abcdefgh"[: words + number % 3]),
            language=language,
            speaker=f"s{number % speakers}",
        )
        for number in range(count)
    ]


def base_seed(text: str) -> int:
    return sum(ord(letter) for letter in text) * 1000


CORPUS = Corpus(
    "kichwa",
    "que",
    {
        "pool": tuple(utterances("p", 24)),
        "dev": tuple(utterances("d", 4)),
        "test": tuple(utterances("t", 5)),
    },
)
OTHER = Corpus("mboshi", "mdw", {"pool": tuple(utterances("m", 24, language="mdw"))})
OPTIONS: dict[str, dict[str, Any]] = {
    "order-permutation": {"index": 3},
    "other-language": {"other": OTHER},
    "other-language-text": {"other": OTHER, "tolerance": 0.5},
}
CHANCE = {
    "mismatched-pairs",
    "word-shuffle",
    "character-shuffle",
    "order-shuffled",
    "audio-chunk-shuffled",
    "audio-noise",
    "other-speaker",
    "same-speaker",
    "target-audio-swapped",
    "other-language",
    "other-language-text",
    "decoy-inserted",
}


def prompt_of(condition: Condition, shots: int = 4, target: int = 0) -> Prompt:
    shots = 0 if condition == "asr" else shots
    return build_prompt(CORPUS.test[target], CORPUS.pool[:shots], condition=condition)


def prompt_with(contents: Sequence[str], condition: Condition = "micl", target: str = "t0") -> Prompt:
    demonstrations = tuple(
        Demonstration(f"x{i}", clip(i) if "audio" in SHOWN[condition] else None, text, f"x{i}", f"x{i}")
        for i, text in enumerate(contents)
    )
    audio = None if condition == "t-icl" else clip(99)
    return Prompt(condition, demonstrations, Target(target, audio, "the reference", "que"))


def applied(prompt: Prompt, name: str, seed: int = 0, **options: Any) -> Prompt:
    return apply_control(prompt, name, seed=seed, corpus=CORPUS, **(OPTIONS.get(name, {}) | options))


def content(prompt: Prompt) -> tuple[object, ...]:
    shown = tuple((demonstration.audio, demonstration.text) for demonstration in prompt.demonstrations)
    return shown, prompt.target.audio, prompt.pair_order


def audios(prompt: Prompt) -> list[tuple[Audio | None, str]]:
    return [(demonstration.audio, demonstration.audio_id) for demonstration in prompt.demonstrations]


def words_of(prompt: Prompt) -> list[tuple[str | None, str]]:
    return [(demonstration.text, demonstration.text_id) for demonstration in prompt.demonstrations]


def shown_texts(prompt: Prompt) -> list[str]:
    return [demonstration.text or "" for demonstration in prompt.demonstrations]
