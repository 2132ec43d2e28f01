"""The organism's report card: transcription and bits per character on corpora, by context, shots and control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attnlens.asr.error_rate import edit_distance
from attnlens.context.build import build_prompt
from attnlens.context.controls import apply_control
from attnlens.context.encode import Encoded
from attnlens.context.prompt import Condition, Prompt
from attnlens.context.retrieval.base import Query, retrieve
from attnlens.data.corpus import Corpus
from attnlens.models.speechlm import SpeechLM

__all__ = ["CELLS", "Answer", "Cell", "answered", "evaluate"]


@dataclass(frozen=True)
class Cell:
    """One way of asking: a condition, a number of demonstrations, a control."""

    condition: Condition
    shots: int
    control: Literal["none", "mismatched-pairs"] = "none"

    def __str__(self) -> str:
        return f"{self.condition} k={self.shots}" + ("" if self.control == "none" else f" {self.control}")


CELLS: tuple[Cell, ...] = (
    Cell("asr", 0),
    *(Cell("micl", shots) for shots in (1, 2, 4, 8, 16)),
    Cell("micl", 8, "mismatched-pairs"),
    Cell("icl", 8),
    Cell("a-icl", 8),
    Cell("t-icl", 8),
)
"""How the organism is judged: shots from 0 to 16, and every control at 8."""


@dataclass(frozen=True)
class Answer:
    """One test utterance asked in one way: edits and characters of the transcription, bits of the reference."""

    cell: str
    language: str
    utterance: str
    voice: str
    seed: int
    edits: int
    characters: int
    bits: float
    heard: str
    reference: str


def evaluate(
    lens: SpeechLM,
    corpora: Sequence[Corpus],
    *,
    cells: Sequence[Cell] = CELLS,
    seeds: Sequence[int] = (0,),
    limit: int = 0,
) -> Iterator[Answer]:
    """Ask every test utterance in every way, with demonstrations drawn from the pool by each seed.

    ``limit`` asks at most so many utterances of each corpus, from the front; 0 asks all. ``t-icl`` hears nothing, so
    its transcription is a guess; its bits are the point.
    """
    for corpus in corpora:
        asked = corpus.test[: limit or None]
        most = max(cell.shots for cell in cells)
        for seed in seeds:
            queries = [Query(one) for one in asked]
            rankings = retrieve(queries, corpus.pool, k=most, retriever="random", seed=seed)
            for utterance, ranking in zip(asked, rankings, strict=True):
                demonstrations = [corpus[name] for name in ranking.ids]
                for cell in cells:
                    prompt = build_prompt(
                        utterance, demonstrations[: cell.shots], condition=cell.condition, order="as-given"
                    )
                    if cell.control != "none":
                        prompt = apply_control(prompt, cell.control, seed=seed, corpus=corpus)
                    yield _answer(lens, prompt, cell, voice=utterance.speaker or "", seed=seed)


def _answer(lens: SpeechLM, prompt: Prompt, cell: Cell, *, voice: str, seed: int) -> Answer:
    said, bits, edits = answered(lens, lens.encode(prompt))
    target = prompt.target
    return Answer(str(cell), target.language, target.id, voice, seed, edits, len(target.text), bits, said, target.text)


def answered(lens: SpeechLM, encoded: Encoded) -> tuple[str, float, int]:
    """Return what a model answers greedily, the bits of the reference, and the edits between the two.

    What is cut on the lens is cut here too.
    """
    text = encoded.prompt.target.text
    said = lens.generate(encoded, max_new_tokens=2 * len(text) + 8).text
    bits = -lens.score(encoded, [text], end="eos")[0].total / float(np.log(2))
    return said, bits, edit_distance(said, text)
