"""Whose token each position is: a partition of the prompt, built while encoding, never guessed afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, UnknownName

__all__ = ["SOURCES", "Label", "Modality", "Role", "Source", "Span", "SpanMap"]

Role = Literal["sink", "system", "instruction", "demo", "target", "task", "output", "other"]
Modality = Literal["audio", "text", "label"]
Source = Literal[
    "sink",
    "system",
    "instruction",
    "demo_audio",
    "demo_label",
    "demo_text",
    "target_audio",
    "task",
    "output",
    "other",
]
SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True)
class Label:
    """Whose token it is: the role in the prompt, the modality, and the demonstration it belongs to.

    >>> Label("demo", "audio", 2).source, Label("target", "audio").source, Label("task").source
    ('demo_audio', 'target_audio', 'task')
    """

    role: Role
    modality: Modality = "text"
    demo: int | None = None

    def __post_init__(self) -> None:
        if (self.role == "demo") is (self.demo is None):
            raise BadInput(
                "demonstration labels carry the demonstration's index, others carry none",
                given=f"role={self.role!r}, demo={self.demo}",
                fix="pass demo=0, 1, ... with role='demo' only",
            )

    @property
    def source(self) -> Source:
        """The name under which masses of this label are added up in a trace."""
        if self.role == "demo":
            return {"audio": "demo_audio", "text": "demo_text", "label": "demo_label"}[self.modality]  # type: ignore[return-value]
        return "target_audio" if self.role == "target" else self.role

    def __str__(self) -> str:
        return self.source if self.demo is None else f"{self.source} {self.demo + 1}"


@dataclass(frozen=True)
class Span:
    """A run of neighbouring positions with one label: ``start`` inclusive, ``stop`` exclusive."""

    label: Label
    start: int
    stop: int
    seconds: float | None = None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class SpanMap:
    """Look up whose a position is, or where something stands. Every position has exactly one label.

    >>> spans = SpanMap.of([(Label("system"), 3), (Label("demo", "audio", 0), 4), (Label("demo", "text", 0), 2)])
    >>> spans.positions("demo_audio").tolist()
    [3, 4, 5, 6]

    The first token is set apart, since it collects attention whatever it says:

    >>> [str(span.label) for span in spans.spans], len(spans)
    (['sink', 'system', 'demo_audio 1', 'demo_text 1'], 9)
    """

    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        position = 0
        for span in self.spans:
            if span.start != position or span.stop <= span.start:
                raise BadInput(
                    "spans do not partition the prompt",
                    given=f"{span.label} at {span.start}:{span.stop} after position {position}",
                    fix="make each span begin where the one before ends",
                )
            position = span.stop

    @classmethod
    def of(cls, lengths: Sequence[tuple[Label, int] | tuple[Label, int, float | None]]) -> SpanMap:
        """Lay labelled lengths end to end; the very first position becomes the sink. Empty pieces leave no span."""
        spans: list[Span] = []
        position = 0
        for label, length, *seconds in lengths:
            start = position
            if position == 0 and length > 0:
                spans.append(Span(Label("sink"), 0, 1))
                start = 1
            position += length
            if position > start:
                spans.append(Span(label, start, position, seconds[0] if seconds else None))
        return cls(_joined(spans))

    def __len__(self) -> int:
        return self.spans[-1].stop if self.spans else 0

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    @property
    def demos(self) -> int:
        """How many demonstrations the prompt holds."""
        return max((span.label.demo + 1 for span in self.spans if span.label.demo is not None), default=0)

    def sources(self) -> NDArray[np.int16]:
        """Return the index into ``SOURCES`` of every position, [n]."""
        return self._painted(lambda label: SOURCES.index(label.source))

    def demo_of(self) -> NDArray[np.int16]:
        """Return the demonstration every position belongs to, [n], -1 for none."""
        return self._painted(lambda label: -1 if label.demo is None else label.demo)

    def positions(self, source: Source, *, demo: int | None = None) -> NDArray[np.int64]:
        """Return the positions of a source, of one demonstration or of all, [positions]."""
        if source not in SOURCES:
            raise UnknownName.among("source", source, SOURCES)
        if demo is not None and not 0 <= demo < self.demos:
            raise BadInput(
                f"there is no demonstration {demo}", present=f"{self.demos} demonstrations", fix="count from 0"
            )
        found = [
            np.arange(span.start, span.stop)
            for span in self.spans
            if span.label.source == source and (demo is None or span.label.demo == demo)
        ]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)

    def extended(self, label: Label, length: int) -> SpanMap:
        """Return a map with more positions at the end, as when output tokens are appended."""
        if length == 0:
            return self
        return SpanMap(_joined([*self.spans, Span(label, len(self), len(self) + length)]))

    def rows(self, tokens: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return one plain record per span, for tables and JSON; ``tokens`` [n] adds the first and last token."""
        if tokens is not None and len(tokens) != len(self):
            raise BadInput("as many tokens are due as positions", given=len(tokens), present=len(self))
        rows = []
        for span in self.spans:
            row: dict[str, Any] = {
                "span": str(span.label),
                "start": span.start,
                "stop": span.stop,
                "tokens": len(span),
                "seconds": span.seconds,
            }
            if tokens is not None:
                row |= {"first": tokens[span.start], "last": tokens[span.stop - 1]}
            rows.append(row)
        return rows

    def __str__(self) -> str:
        lines = [f"{span.start:>6}-{span.stop - 1:<6} {len(span):>5}  {span.label}" for span in self.spans]
        return "\n".join([f"{'positions':>13} {'tokens':>5}  span", *lines])

    def _repr_html_(self) -> str:
        from attnlens.context.display import spans_html

        return spans_html(self)

    def _painted(self, code: Any) -> NDArray[np.int16]:
        painted = np.empty(len(self), dtype=np.int16)
        for span in self.spans:
            painted[span.start : span.stop] = code(span.label)
        return painted


def _joined(spans: list[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        # Two clips in a row are two clips, however alike their labels.
        if last is not None and last.label == span.label and last.seconds is None and span.seconds is None:
            joined[-1] = replace(last, stop=span.stop)
        else:
            joined.append(span)
    return tuple(joined)
