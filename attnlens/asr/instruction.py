"""Selection by instruction: the hypotheses stand in the prompt, and the model writes the one it prefers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from attnlens.asr.error_rate import edit_distance
from attnlens.asr.nbest import NBest
from attnlens.asr.repetition import guard_options
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Label, Span, SpanMap
from attnlens.errors import BadInput, UnsupportedModel

if TYPE_CHECKING:
    from attnlens.asr.causal_lm import CausalLM
    from attnlens.context.encode import Encoded
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Answer", "listed", "match_answer", "select_by_instruction", "select_by_text"]

ASK = "These are possible transcriptions of it:\n{options}\nAnswer with the best of them and nothing else."
ASK_TEXT = "Possible next sentences:\n{options}\nThe best of them is:"


@dataclass(frozen=True)
class Answer:
    """What the model wrote and which hypothesis that was taken for.

    ``how`` is ``exact`` (the text of one), ``number`` (its number in the list), or ``nearest`` by edit distance, the
    first of equals; ``empty`` when there was nothing to choose from. Only the first two are obedience.
    """

    utterance_id: str
    place: int | None
    text: str
    written: str
    how: str


def listed(texts: Sequence[str]) -> str:
    """Number the hypotheses, one a line.

    >>> print(listed(["ka to", "ka do"]))
    1. ka to
    2. ka do
    """
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))


def match_answer(written: str, texts: Sequence[str]) -> tuple[int, str]:
    """Return which hypothesis an answer means, and how that was found.

    >>> match_answer("2. ka do", ["ka to", "ka do"]), match_answer("1", ["ka to", "ka do"])
    ((1, 'exact'), (0, 'number'))
    >>> match_answer("ka dow", ["ka to", "ka do"])
    (1, 'nearest')
    """
    if not texts:
        raise BadInput("there is nothing to choose from", given=repr(written))
    said = " ".join(written.split())
    bare = re.sub(r"^\d+[.):]?\s+", "", said)
    for form in (said, bare):
        for place, text in enumerate(texts):
            if form == " ".join(text.split()):
                return place, "exact"
    number = re.fullmatch(r"(\d+)[.):]?", said)
    if number and 1 <= int(number.group(1)) <= len(texts):
        return int(number.group(1)) - 1, "number"
    distances = [edit_distance(bare, text) for text in texts]
    return int(np.argmin(distances)), "nearest"


def select_by_instruction(
    lens: SpeechLM, prompt: Prompt, nbest: NBest, *, guard: str = "loops", max_new_tokens: int = 200
) -> Answer:
    """Let a speech LLM choose from a list that stands behind the task of its prompt.

    >>> from attnlens.asr.nbest import Hypothesis
    >>> from attnlens.models.load import load
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.testing import utterance
    >>> nbest = NBest("t", (Hypothesis("ka to", -1.0), Hypothesis("ka do", -2.0)))
    >>> prompt = build_prompt(utterance("t"), [], condition="asr")
    >>> select_by_instruction(load("tiny:qwen3-asr"), prompt, nbest, max_new_tokens=4).text in ("ka to", "ka do")
    True
    """
    texts = [one.text for one in nbest.hypotheses]
    if not texts:
        return Answer(nbest.utterance_id, None, "", "", "empty")
    encoded = _with_list(lens, lens.encode(prompt), texts)
    options = guard_options(guard, encoded.ids.tolist())
    written = lens.generate(encoded, max_new_tokens=max_new_tokens, **options).text
    place, how = match_answer(written, texts)
    return Answer(nbest.utterance_id, place, texts[place], written, how)


def select_by_text(
    lm: CausalLM, nbest: NBest, *, demonstrations: Sequence[str] = (), max_new_tokens: int = 64
) -> Answer:
    """Let a causal language model choose from a list that stands behind text demonstrations."""
    texts = [one.text for one in nbest.hypotheses]
    if not texts:
        return Answer(nbest.utterance_id, None, "", "", "empty")
    shown = "".join(f"{text}\n" for text in demonstrations)
    written = lm.write(f"{shown}{ASK_TEXT.format(options=listed(texts))}\n", max_new_tokens=max_new_tokens)
    place, how = match_answer(written, texts)
    return Answer(nbest.utterance_id, place, texts[place], written, how)


def _with_list(lens: SpeechLM, encoded: Encoded, texts: Sequence[str]) -> Encoded:
    """Return the prompt with the list behind its task, labelled as part of it."""
    tasks = [span for span in encoded.spans if span.label.source == "task"]
    if not tasks:
        raise UnsupportedModel(
            f"the prompt of {lens.name} asks nothing that a list could be added to",
            given=f"template {encoded.prompt.template!r}",
            fix="use a template with a task, such as 'default', or a model that takes instructions",
        )
    before, after = ASK.split("{options}")
    said = [
        *lens.front.tokenise(f"\n{before}", kind="markup"),
        *lens.front.tokenise(listed(texts), kind="content"),
        *lens.front.tokenise(after, kind="markup"),
    ]
    at = tasks[-1].stop
    ids = np.concatenate([encoded.ids[:at], np.array(said, dtype=np.int64), encoded.ids[at:]])
    spans = []
    for span in encoded.spans:
        shift = len(said) if span.start >= at else 0
        spans.append(replace(span, start=span.start + shift, stop=span.stop + shift))
        if span.stop == at:
            spans.append(Span(Label("task"), at, at + len(said)))
    return replace(encoded, ids=ids, spans=SpanMap(tuple(spans)))
