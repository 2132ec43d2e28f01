"""Span maps are partitions, whatever they are built from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.spans import SOURCES, Label, Span, SpanMap
from attnlens.errors import BadInput, UnknownName

labels = st.one_of(
    st.sampled_from([Label("system"), Label("instruction"), Label("target", "audio"), Label("task"), Label("other")]),
    st.builds(Label, st.just("demo"), st.sampled_from(["audio", "text", "label"]), st.integers(0, 3)),
)
layouts = st.lists(st.tuples(labels, st.integers(0, 5)), max_size=12)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(layout=layouts)
def test_every_position_has_exactly_one_label(layout: list[tuple[Label, int]]) -> None:
    spans = SpanMap.of(layout)
    flat = [label for label, length in layout for _ in range(length)]
    if flat:
        flat[0] = Label("sink")
    assert len(spans) == len(flat)
    assert [label for span in spans for label in [span.label] * len(span)] == flat
    assert spans.sources().tolist() == [SOURCES.index(label.source) for label in flat]
    assert spans.demo_of().tolist() == [-1 if label.demo is None else label.demo for label in flat]
    found = np.concatenate([spans.positions(source) for source in SOURCES])
    assert sorted(found.tolist()) == list(range(len(flat)))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(layout=layouts, more=st.integers(0, 4))
def test_extending_keeps_what_was_there(layout: list[tuple[Label, int]], more: int) -> None:
    spans = SpanMap.of(layout)
    longer = spans.extended(Label("output"), more)
    assert longer.sources()[: len(spans)].tolist() == spans.sources().tolist()
    assert longer.positions("output").tolist() == list(range(len(spans), len(spans) + more))


def test_neighbouring_clips_of_one_label_stay_two_clips() -> None:
    spans = SpanMap.of([(Label("other"), 2), (Label("target", "audio"), 3, 1.0), (Label("target", "audio"), 3, 1.0)])
    assert [span.seconds for span in spans] == [None, None, 1.0, 1.0]


def test_a_gap_or_an_overlap_is_refused() -> None:
    with pytest.raises(BadInput, match="partition"):
        SpanMap((Span(Label("system"), 0, 3), Span(Label("task"), 4, 6)))
    with pytest.raises(BadInput, match="partition"):
        SpanMap((Span(Label("system"), 0, 3), Span(Label("task"), 2, 6)))


def test_unknown_source_and_demo_are_refused() -> None:
    spans = SpanMap.of([(Label("demo", "audio", 0), 4)])
    with pytest.raises(UnknownName, match="demo_audoi"):
        spans.positions("demo_audoi")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no demonstration 1"):
        spans.positions("demo_audio", demo=1)


def test_a_demo_label_without_a_demo_is_refused() -> None:
    with pytest.raises(BadInput):
        Label("demo", "audio")
    with pytest.raises(BadInput):
        Label("task", demo=0)
