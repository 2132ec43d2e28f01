from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.build import build_prompt
from attnlens.context.encode import Features, encode
from attnlens.context.prompt import Condition
from attnlens.context.spans import SOURCES, Label, SpanMap
from attnlens.data.audio import Audio
from attnlens.errors import BadInput, UnknownName
from attnlens.testing import corpus, front_end
from attnlens.train.example import IGNORED, encode_example, next_tokens


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.sampled_from(["demo", "output", "task"]), st.integers(1, 4)), min_size=1, max_size=8),
    ends=st.sampled_from(["with-end", "without-end"]),
)
def test_targets_are_the_next_tokens_of_trained_spans(lengths: list[tuple[str, int]], ends: str) -> None:
    labels = {"demo": Label("demo", "text", 0), "output": Label("output"), "task": Label("task")}
    spans = SpanMap.of([(labels[name], length) for name, length in lengths])
    ids = np.arange(100, 100 + len(spans))
    sources = [SOURCES[code] for code in spans.sources()]
    trained = ("demo_text", "output")
    expected = []
    for position in range(len(ids)):
        after = position + 1
        here = after < len(ids) and sources[after] in trained
        ending = ends == "with-end" and after < len(ids) and sources[position] in trained
        expected.append(int(ids[after]) if here or ending else IGNORED)
    found = next_tokens(ids, spans, trained=trained, ends=ends)  # type: ignore[arg-type]
    assert found.tolist() == expected


@pytest.mark.parametrize("condition", ["asr", "icl", "micl", "a-icl", "t-icl"])
@pytest.mark.parametrize("template", ["default", "bare"])
def test_features_from_elsewhere_give_the_same_example(condition: Condition, template: str) -> None:
    front, made = front_end("qwen3-asr"), corpus(pool=2, test=1)
    prompt = build_prompt(made.test[0], () if condition == "asr" else made.pool, condition=condition, template=template)

    def ears(audio: Audio) -> Features:
        return front.features(audio.load())

    direct = encode_example(prompt, front, end_token=2, trained=("demo_text", "output"))
    cached = encode_example(prompt, front, end_token=2, trained=("demo_text", "output"), ears=ears)
    assert np.array_equal(direct.encoded.ids, cached.encoded.ids)
    assert np.array_equal(direct.targets, cached.targets)
    assert direct.encoded.spans == cached.encoded.spans
    for one, other in zip(direct.encoded.features, cached.encoded.features, strict=True):
        assert one.positions == other.positions
        assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def test_the_answer_ends_with_the_end_token() -> None:
    front, made = front_end("qwen3-asr"), corpus(pool=1, test=1)
    prompt = build_prompt(made.test[0], (), condition="asr")
    example = encode_example(prompt, front, end_token=2)
    answer = front.tokenise(made.test[0].text, kind="content")
    assert example.targets[example.targets != IGNORED].tolist() == [*answer, 2]


def test_unknown_sources_and_other_lengths_are_refused() -> None:
    spans = SpanMap.of([(Label("output"), 3)])
    with pytest.raises(UnknownName, match="source"):
        next_tokens(np.arange(3), spans, trained=("demo_txt",))  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="differ"):
        next_tokens(np.arange(4), spans)


def test_features_from_elsewhere_need_a_family_that_reads_them_among_its_tokens() -> None:
    prompt = build_prompt(corpus().test[0], [], condition="asr")
    front = front_end("whisper")
    with pytest.raises(BadInput, match="cannot be given"):
        encode(prompt, front, ears=lambda _audio: Features({}, 1))
