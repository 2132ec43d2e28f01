"""Where the prompts of one forward pass stand in it, and what a record of the pass says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.context.spans import SOURCES, Label, Source, SpanMap
from attnlens.models.rows import RowConvention, rows_of
from attnlens.traces.schema import MODALITIES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from attnlens.capture.record import Record
    from attnlens.capture.sites import Kind
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Frame", "Read", "Stacks", "Whole"]


@dataclass(frozen=True)
class Whole:
    """One prompt read from its beginning, where every position stands where it is."""

    lens: SpeechLM
    encoded: Encoded

    @property
    def prompts(self) -> list[Encoded]:
        """What is read."""
        return [self.encoded]

    @property
    def shifts(self) -> list[int]:
        """How far it stands from where it would stand alone."""
        return [0]

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The model's arguments, made once."""
        return self.lens.inputs(self.encoded)

    def logits(self, *, keep: Tensor, dtype: torch.dtype) -> Tensor:
        """Return logits [1, kept, vocabulary] of positions [kept]."""
        return self.lens.logits(self.inputs, keep=keep, dtype=dtype)


class Frame:
    """One prompt as it stands in a forward pass: ``shift`` positions from where it would stand alone."""

    def __init__(
        self, encoded: Encoded, queries: Sequence[Source], *, rows: RowConvention, site: Kind, shift: int
    ) -> None:
        self.spans, self.shift = encoded.spans, shift
        own = site == "self" or encoded.encoder_spans is None
        self.keys: SpanMap = self.spans if own else encoded.encoder_spans  # type: ignore[assignment]
        self.labels, self.groups = _groups(self.keys)
        asking = self.keys if site == "encoder" else self.spans
        self.rows = {one: rows_of(asking, one, rows=rows) + shift for one in queries}
        self.predicting = rows_of(self.spans, "output") + shift
        # The token that follows each position; none follows the last.
        self.after = np.append(encoded.ids[1:], -1)

    @property
    def all_rows(self) -> np.ndarray:
        """The rows of all queries, each once."""
        return np.unique(np.concatenate(list(self.rows.values())))

    @property
    def tokens(self) -> np.ndarray:
        """How many keys each source has [sources]."""
        return np.bincount(self.keys.sources(), minlength=len(SOURCES)).astype(np.int32)

    def blocks(self) -> dict[str, np.ndarray]:
        """Return how many keys the halves of each demonstration have, and where each begins in the prompt."""
        tokens = np.zeros((self.keys.demos, len(MODALITIES)), dtype=np.int32)
        starts = np.full((self.keys.demos, len(MODALITIES)), -1, dtype=np.int32)
        for span in self.keys:
            if span.label.demo is not None:
                place = span.label.demo, MODALITIES.index(span.label.modality)
                starts[place] = span.start if tokens[place] == 0 else starts[place]
                tokens[place] += len(span)
        return {"demo_tokens": tokens, "demo_start": starts}

    def placed(self, values: np.ndarray, width: int) -> np.ndarray:
        """Return values of each position [positions] where they stand in the pass [width], -1 where nothing does."""
        placed = np.full(width, -1, dtype=np.int64)
        placed[self.shift : self.shift + len(values)] = values
        return placed


class Stacks:
    """The measures of a record as arrays [layers, prompts, heads, ...], each fetched once."""

    def __init__(self, record: Record, site: Kind) -> None:
        self.record, self.site = record, site
        self._found: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._found:
            self._found[name] = self.record.stacked(name, self.site).float().cpu().numpy()
        return self._found[name]


@dataclass(frozen=True)
class Read:
    """What was read of one prompt, the one at ``place``; ``read`` [rows] are the positions read, None all."""

    stacks: Stacks
    place: int
    frame: Frame
    read: np.ndarray | None

    def means(self, name: str) -> np.ndarray:
        """Average the rows of each query span: [layers, heads, queries] or [layers, heads, queries, groups]."""
        values = self.stacks[name][:, self.place]
        picks = [rows if self.read is None else np.searchsorted(self.read, rows) for rows in self.frame.rows.values()]
        return np.stack([values[:, :, pick].mean(2) for pick in picks], 2)

    def received(self) -> np.ndarray:
        """Return what each position receives [layers, positions], mean over heads and rows."""
        found = self.stacks["received"][:, self.place].mean(1) / np.float32(len(self.frame.predicting))
        begin, count = self.frame.shift, len(self.frame.keys)
        found = found[:, begin : begin + count]
        return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def _groups(spans: SpanMap) -> tuple[list[Label], np.ndarray]:
    """Number the labels of a prompt: masses are read per label and added up to sources afterwards."""
    labels = list(dict.fromkeys(span.label for span in spans))
    number = {label: index for index, label in enumerate(labels)}
    groups = np.empty(len(spans), dtype=np.int64)
    for span in spans:
        groups[span.start : span.stop] = number[span.label]
    return labels, groups
