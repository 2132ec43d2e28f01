"""Encoding: labels follow the pieces, borders hold against merging tokenizers, overflow is said or recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.encode import Features, encode, encode_fitting
from attnlens.context.pieces import Clip, Markup, Text
from attnlens.context.prompt import CONDITIONS, Condition, Prompt
from attnlens.context.spans import SOURCES
from attnlens.context.templates import TEMPLATES
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, SelfCheckFailed
from attnlens.models.qwen3_asr import Qwen3AsrFrontEnd, tiny
from attnlens.models.registry import FAMILIES
from attnlens.testing import clip, corpus, front_end

FRONT = front_end("qwen3-asr")
SOME = corpus(pool=4)


def prompt_of(condition: Condition, *, shots: int = 2, template: str = "default", some: Corpus = SOME) -> Prompt:
    pool = [] if condition == "asr" else some.pool
    return build_prompt(
        some.test[0], pool, condition=condition, shots=0 if condition == "asr" else shots, template=template
    )


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"whisper"}))
@pytest.mark.parametrize("condition", sorted(CONDITIONS))
def test_labels_say_what_the_tokens_are(family: str, condition: Condition) -> None:
    front = front_end(family)
    prompt = prompt_of(condition)
    encoded = encode(prompt, front, output="kaypi")
    decode = front.tokenizer.decode
    for index, demo in enumerate(prompt.demonstrations):
        text = decode(encoded.ids[encoded.spans.positions("demo_text", demo=index)])
        assert text.strip() == (demo.text or "")
        audio = encoded.ids[encoded.spans.positions("demo_audio", demo=index)]
        due = front.audio_positions(len(demo.audio.load())) if demo.audio else 0
        assert int((audio == front.audio_token_id).sum()) == due
    target = encoded.ids[encoded.spans.positions("target_audio")]
    due = front.audio_positions(len(prompt.target.audio.load())) if prompt.target.audio else 0
    assert int((target == front.audio_token_id).sum()) == due
    assert decode(encoded.ids[encoded.spans.positions("output")]) == "kaypi"
    assert encoded.spans.positions("sink").tolist() == [0]
    assert prompt.target.text not in decode(encoded.ids)


def test_conditions_differ_in_context_only() -> None:
    zero = [encode(build_prompt(SOME.test[0], [], condition=c), FRONT).ids.tolist() for c in ("asr", "icl", "micl")]
    assert zero[0] == zero[1] == zero[2]


@settings(derandomize=True, max_examples=40, deadline=None)
@given(texts=st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=3))
def test_any_text_keeps_its_borders(texts: list[str]) -> None:
    demos = [Utterance(f"d{i}", clip(seconds=0.5, seed=i), text, "xx") for i, text in enumerate(texts)]
    prompt = build_prompt(SOME.test[0], demos, condition="micl")
    encoded = encode(prompt, FRONT)
    for index, text in enumerate(texts):
        spelled = FRONT.tokenizer.decode(encoded.ids[encoded.spans.positions("demo_text", demo=index)])
        assert spelled == f" {text}"


def merging_front() -> Qwen3AsrFrontEnd:
    """A tokenizer that joins a letter with a following line break or a preceding colon, as real ones do."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    base, extractor, config = tiny()
    vocabulary = dict(base.get_vocab())
    merges = [("a", "Ċ"), (":", "Ġ"), (".", "Ċ")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in base.all_special_tokens])
    special = [t for t in base.get_vocab() if t.startswith("<|")]
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>")
    return Qwen3AsrFrontEnd(tokenizer, extractor, config)


def test_a_tokenizer_that_merges_across_borders_cannot_move_them() -> None:
    front = merging_front()
    joined = front.tokenizer("a\n", add_special_tokens=False)["input_ids"]
    assert len(joined) == 1, "the tokenizer is meant to merge here"
    demo = Utterance("d", clip(seconds=0.5), "mama", "xx")
    encoded = encode(build_prompt(SOME.test[0], [demo], condition="micl"), front)
    words = front.tokenizer.decode(encoded.ids[encoded.spans.positions("demo_text", demo=0)])
    assert words == " mama"


class WrongExtractor(Qwen3AsrFrontEnd):
    def features(self, samples: Any) -> Features:
        right = super().features(samples)
        return Features(right.arrays, right.positions + 1)


def test_a_length_rule_that_disagrees_is_refused() -> None:
    with pytest.raises(SelfCheckFailed, match="disagree"):
        encode(prompt_of("asr"), WrongExtractor(FRONT.tokenizer, FRONT.extractor, FRONT.config))


class Short(Qwen3AsrFrontEnd):
    @property
    def context_length(self) -> int:
        return 200


def test_overflow_is_refused_or_recorded() -> None:
    front = Short(FRONT.tokenizer, FRONT.extractor, FRONT.config)

    def build(shots: int) -> Prompt:
        return prompt_of("micl", shots=shots)

    with pytest.raises(BadInput, match="longer than the model's context"):
        encode_fitting(build, front, shots=4)
    fitted = encode_fitting(build, front, shots=4, on_overflow="fewer-shots", reserve=8)
    kept = len(fitted.prompt.demonstrations)
    assert fitted.shots_dropped == 4 - kept > 0
    assert len(fitted.ids) + 8 <= 200
    assert len(encode(build(kept + 1), front).ids) + 8 > 200, "one more would have fitted"
    with pytest.raises(BadInput, match="even without demonstrations"):
        encode_fitting(build, front, shots=4, on_overflow="fewer-shots", reserve=195)
    assert encode_fitting(build, FRONT, shots=4).shots_dropped == 0


@pytest.mark.parametrize("family", ["phi4-multimodal", "qwen3-omni"])
@pytest.mark.parametrize("condition", ["asr", "t-icl", "icl", "micl"])
@pytest.mark.parametrize("template", ["paper", "paper-code"])
def test_paper_prompts_exist_for_the_papers_models(family: str, condition: Condition, template: str) -> None:
    front = front_end(family)
    encoded = encode(prompt_of(condition, template=template), front)
    text = front.tokenizer.decode(encoded.ids)
    assert ("Transcription:" in text) == (condition == "micl" or (template == "paper" and condition != "asr"))
    closes = text.rstrip("\n").endswith(front.markup.assistant.rstrip("\n"))
    assert closes == (not (template == "paper-code" and condition == "t-icl"))


def test_the_released_qwen_prompt_keeps_its_faults() -> None:
    front = front_end("qwen3-omni")
    sent = front.tokenizer.decode(encode(prompt_of("micl", template="paper-code"), front).ids)
    assert sent.startswith("<|im_start|><|system|>\n")
    assert sent.endswith("<|im_start|>assistant")
    mended = front.tokenizer.decode(encode(prompt_of("micl", template="paper"), front).ids)
    assert mended.startswith("<|im_start|>system\n")
    assert mended.endswith("<|im_start|>assistant\n")


def test_paper_prompts_are_refused_where_the_paper_has_none() -> None:
    with pytest.raises(BadInput, match="two models only"):
        encode(prompt_of("micl", template="paper"), front_end("voxtral"))
    with pytest.raises(BadInput, match="a-icl"):
        encode(prompt_of("a-icl", template="paper"), front_end("qwen3-omni"))


def test_bare_prompt_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="says nothing"):
        encode(build_prompt(SOME.test[0], [], condition="t-icl", template="bare"), front_end("qwen3-asr"))


@pytest.mark.parametrize("template", ["default", "bare", "paper", "paper-code"])
def test_a_template_writes_each_demo_once_in_order(template: str) -> None:
    prompt = prompt_of("micl", template=template, shots=3)
    pieces = TEMPLATES[template].pieces(prompt, Markup(audio=("", "<a>", ""), dialect="phi4"))
    clips = [piece.label.demo for piece in pieces if isinstance(piece, Clip)]
    texts = [piece.label.demo for piece in pieces if isinstance(piece, Text) and piece.label.source == "demo_text"]
    assert clips == [0, 1, 2, None]
    assert texts == [0, 1, 2]


def test_sources_are_those_of_the_trace_schema() -> None:
    assert len(SOURCES) == len(set(SOURCES)) == 10
    assert np.int16(len(SOURCES)) == 10
