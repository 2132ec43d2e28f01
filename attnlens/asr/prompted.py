"""What a speech LLM does with a prompt: score an N-best list, or write the transcript itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnlens.asr.candidates import Candidates
from attnlens.asr.language_model import TextScore
from attnlens.asr.nbest import NBest
from attnlens.asr.repetition import guard_options
from attnlens.context.positions import PositionCounter
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput
from attnlens.models.clips import reusing_clips

if TYPE_CHECKING:
    from attnlens.context.encode import Encoded
    from attnlens.models.generation import Generation
    from attnlens.models.scoring import Method
    from attnlens.models.speechlm import SpeechLM

__all__ = ["ScoringLog", "score_lists", "score_texts", "speed_up", "write_transcript"]

NEW_TOKENS = 200
"""What the published experiments allowed an answer."""


@dataclass(frozen=True, kw_only=True)
class ScoringLog:
    """What scoring cost, and by how much the shared prompt made it cheaper; ``speed_up`` is None when not measured."""

    lists: int
    hypotheses: int
    seconds: float
    speed_up: float | None
    measured_on: int

    def __str__(self) -> str:
        told = f"{self.hypotheses:,} hypotheses of {self.lists:,} lists scored in {self.seconds:.1f} s"
        if self.speed_up is None:
            return told
        return f"{told}, {self.speed_up:.1f} times as fast as one by one (measured on {self.measured_on} lists)"


def score_texts(
    lens: SpeechLM, prompt: Prompt | Encoded, texts: Sequence[str], *, method: Method = "auto"
) -> list[TextScore]:
    """Score texts as answers to a prompt, first token and end included; the prompt is read once for all of them.

    >>> from attnlens.models.load import load
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.testing import utterance
    >>> scores = score_texts(load("tiny:qwen3-asr"), build_prompt(utterance("t"), [], condition="asr"), ["kato", ""])
    >>> [score.tokens for score in scores], scores[1].total == scores[1].end < 0
    ([4, 0], True)
    """
    scored = lens.score(prompt, texts, end="eos", method=method)
    return [TextScore(one.logprobs[:-1].astype(np.float64), float(one.logprobs[-1])) for one in scored]


def score_lists(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    lists: Sequence[NBest],
    *,
    measure: int = 0,
    tick: Callable[[int], None] | None = None,
) -> tuple[list[Candidates], ScoringLog]:
    """Score every list after its prompt; an empty list costs nothing and stays empty.

    A prompt that is too long for the model with any of its hypotheses is refused before the first one is scored.

    Parameters
    ----------
    measure
        Score so many of the lists again, hypotheses one by one, to tell the speed-up.
    tick
        Told how many lists are done.
    """
    if len(prompts) != len(lists):
        raise BadInput("every list needs its prompt", given=f"{len(prompts)} prompts, {len(lists)} lists")
    for prompt, one in zip(prompts, lists, strict=True):
        if prompt.target.id != one.utterance_id:
            raise BadInput("a prompt and a list are of two utterances", given=f"{prompt.target.id}, {one.utterance_id}")
    _require_room(lens, prompts, lists)
    found, began = [], time.perf_counter()
    with reusing_clips(lens):
        for number, (prompt, one) in enumerate(zip(prompts, lists, strict=True), start=1):
            found.append(Candidates.of(one, score_texts(lens, prompt, _texts(one)) if len(one) else []))
            if tick is not None:
                tick(number)
    seconds = time.perf_counter() - began
    full = [place for place, one in enumerate(lists) if len(one)]
    chosen = full[:: max(1, len(full) // measure)][:measure] if measure else []
    ratios = [speed_up(lens, prompts[place], _texts(lists[place])) for place in chosen]
    return found, ScoringLog(
        lists=len(lists),
        hypotheses=sum(map(len, lists)),
        seconds=seconds,
        speed_up=float(np.median(ratios)) if ratios else None,
        measured_on=len(ratios),
    )


def speed_up(lens: SpeechLM, prompt: Prompt, texts: Sequence[str]) -> float:
    """Return how many times as fast hypotheses are scored together as one by one, each with its prompt read anew.

    On a CPU it is the processor's time that counts, so that what else runs on the machine does not.
    """
    encoded = lens.encode(prompt)
    clock = time.process_time if lens.device.type == "cpu" else time.perf_counter

    def together() -> None:
        score_texts(lens, encoded, texts)

    def one_by_one() -> None:
        for text in texts:
            score_texts(lens, encoded, [text], method="full")

    taken = []
    for way in (together, one_by_one):
        # The first call pays for what is allocated once.
        score_texts(lens, encoded, texts[:1], method="auto" if way is together else "full")
        began = clock()
        way()
        taken.append(clock() - began)
    return taken[1] / taken[0]


def write_transcript(
    lens: SpeechLM, prompt: Prompt, *, guard: str = "loops", max_new_tokens: int = NEW_TOKENS
) -> Generation:
    """Let the model write the transcript, greedily, kept from running in circles by a guard by name.

    The guards look at the answer alone; ``paper`` also forbids what stands in the prompt, as was published.

    >>> from attnlens.models.load import load
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.testing import utterance
    >>> prompt = build_prompt(utterance("t"), [], condition="asr")
    >>> len(write_transcript(load("tiny:qwen3-asr"), prompt, max_new_tokens=3).ids) <= 3
    True
    """
    encoded = lens.encode(prompt)
    options = guard_options(guard, encoded.ids.tolist())
    return lens.generate(encoded, max_new_tokens=max_new_tokens, **options)


def _require_room(lens: SpeechLM, prompts: Sequence[Prompt], lists: Sequence[NBest]) -> None:
    # One alone is refused as soon when it is scored, and need not be read twice.
    if lens.front.context_length is None or len(lists) == 1:
        return
    counter = PositionCounter(lens.front)
    for prompt, one in zip(prompts, lists, strict=True):
        if len(one):
            # And the end, which is scored too.
            reserve = 1 + max(counter.text(text, "content") for text in _texts(one))
            lens.require_positions(prompt, counter.count(prompt), reserve=reserve)


def _texts(one: NBest) -> list[str]:
    return [hypothesis.text for hypothesis in one.hypotheses]
