"""The place where items are computed: a model loaded once, and what one item gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from attnlens.context.spans import SOURCES
from attnlens.models.clips import reusing_clips
from attnlens.models.decoding import decode
from attnlens.models.library import Library, Reading
from attnlens.models.named_interventions import parse_intervention
from attnlens.run.batches import Batch
from attnlens.run.folder import LOG
from attnlens.run.item import Item
from attnlens.run.plan import allow_cutting
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.models.generation import Generation
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Bench", "Done", "Facts", "failure"]


@dataclass(frozen=True)
class Facts:
    """What is known of a model only once it is loaded; ``seconds`` are those of ``probed`` items, by positions."""

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    attrs: dict[str, str]
    weights: str
    revision: str | None
    adapter: str | None
    bytes: int
    host: dict[str, Any]
    seconds: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What came of an item: its row, and unless it failed or was done before, its trace.

    ``curve`` [layers] is the item's bias per layer, where it shows both audio and text.
    """

    row: dict[str, Any]
    dataset: xr.Dataset | None = None
    curve: NDArray[np.float32] | None = None

    @property
    def item(self) -> str:
        """The item's id."""
        return str(self.row["item"])

    @property
    def failed(self) -> bool:
        """Whether there is no result."""
        return self.row["status"] == "failed"


_HELD: WeakValueDictionary[str, SpeechLM] = WeakValueDictionary()
"""Loaded models by their spec: what stands after a run must not load a second one beside the first."""


class Bench:
    """Compute items of one spec, one after another; the model is loaded at the first need.

    >>> from attnlens.run.plan import make_plan
    >>> spec = RunSpec(
    ...     model={"name": "tiny:qwen3-asr"},
    ...     data={"corpora": "synthetic", "limit": 1},
    ...     context={"shots": "0"},
    ...     decoding={"max_new_tokens": 3},
    ... )
    >>> done = Bench(spec).measure(make_plan(spec).items[0])
    >>> done.row["status"], done.row["ended"], done.dataset.sizes["item"]
    ('finished', 'length', 1)
    """

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self._written = _Written()

    @cached_property
    def lens(self) -> SpeechLM:
        """The model, self-checked; the same object for everybody who asks for it while somebody holds it."""
        import torch

        from attnlens.models.load import load
        from attnlens.models.self_check import ensure_checked

        model = self.spec.model
        held = _HELD.get(model.model_dump_json())
        if held is not None:
            allow_cutting(held.front, self.spec)
            return held
        device = None if model.device == "auto" and not torch.cuda.is_available() else model.device
        lens = load(
            model.name,
            dtype=model.dtype,
            device_map=device,
            attn=model.attention,
            revision=model.revision,
            adapter=None if model.adapter is None else str(model.adapter),
        )
        ensure_checked(lens)
        allow_cutting(lens.front, self.spec)
        _HELD[model.model_dump_json()] = lens
        return lens

    @cached_property
    def weights(self) -> str:
        """The hash of the weights."""
        from attnlens.models.fingerprint import fingerprint

        return fingerprint(self.lens.model)

    def facts(self, probe: Sequence[Item] = ()) -> Facts:
        """Return what the plan could not know; ``probe`` items are computed and timed, their results thrown away."""
        from attnlens.models.trace_dataset import provenance
        from attnlens.run.provenance import host_facts

        lens = self.lens
        seconds = {}
        for item in [*probe[:1], *probe]:  # the first is timed twice, since its first time includes what is done once
            start = time.perf_counter()
            self.measure(item)
            seconds[item.positions] = time.perf_counter() - start
        return Facts(
            layers=tuple(int(layer) for layer in lens.sites.layers("self")),
            heads=tuple(range(lens.n_heads)),
            attrs=provenance(lens, rows=self.rows, method="rows", site="self"),
            weights=self.weights,
            revision=getattr(lens.model.config, "_commit_hash", None),
            adapter=lens.adapter,
            bytes=sum(one.numel() * one.element_size() for one in lens.model.parameters()),
            host=host_facts(),
            seconds=seconds,
        )

    @property
    def rows(self) -> Any:
        """Which rows are measured; the paper's convention reads shifted by one."""
        return "reading" if self.spec.convention == "paper" else "predicting"

    @cached_property
    def library(self) -> Library:
        """What was read of the last prompts; parts end where the prompts of this spec do."""
        return Library(self.lens, cuts=self.spec.context.shots)

    def measure(self, item: Item) -> Done:
        """Trace the reference, and transcribe where the spec says so."""
        lens = self.lens
        cut = nullcontext() if item.intervention == "none" else parse_intervention(item.intervention).on(lens)
        with reusing_clips(lens), cut:
            reading = self._written.readings.get(item.id) or self._read(item)
            dataset = lens.trace(
                item.prompt,
                outputs=item.reference,
                rows=self.rows,
                measures=("mass", "nll_first", *self.spec.tracing.measures),
                seed=item.seed,
                readings=[reading],
            )
            row = {
                "item": item.id,
                "status": "finished",
                "nll": float(dataset["nll"].values[0]),
                "nll_first": float(dataset["nll_first"].values[0]),
                "n_output_tokens": int(dataset["n_output_tokens"].values[0]),
                "n_chars": int(dataset["n_chars"].values[0]),
                "positions": int(dataset["positions"].values[0]),
            }
            if self.spec.context.on_overflow == "cut-window":
                lost = lens.encode(item.prompt).frames_lost
                row |= {"frames_lost": lost[0], "target_frames_lost": lost[1]}
            if item.transcribed:
                answer = self._written.answers.get(item.id) or self._answers(item, reading)
                row |= {"transcription": answer.text, "ended": answer.ended}
        # One number per item needs no place in the store; tables read it from the row.
        dataset = dataset.drop_vars("nll_first")
        # Under the name that the spec gives it, by which the store expects it.
        dataset = dataset.assign_coords(intervention=("item", [item.intervention]))
        return Done(row, dataset, _curve(dataset) if item.control == item.intervention == "none" else None)

    def attempt(self, batch: Batch, *, started: Callable[[Item], None] | None = None) -> Iterator[Done]:
        """Measure what is due of a batch, or say how it failed: one bad item must not cost the others."""
        self._written = self._together(batch)
        try:
            for item in batch.wanted:
                if started is not None:
                    started(item)
                try:
                    yield self.measure(item)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this item's
                    LOG.warning("item %s (%s) failed", item.id, item.describe(), exc_info=True)
                    yield failure(item, error)
        finally:
            self._written = _Written()

    def _read(self, item: Item) -> Reading | None:
        return self.library.read(self.lens.encode(item.prompt, item.reference))

    def _answers(self, item: Item, reading: Reading | None) -> Generation:
        most = self.spec.decoding.max_new_tokens
        return (
            self.lens.generate(item.prompt, max_new_tokens=most)
            if reading is None
            else decode([reading], max_new_tokens=most)[0]
        )

    def _together(self, batch: Batch) -> _Written:
        """Write the answers of a batch side by side, where that is exact; those of nobody where anything stands in it.

        Of all its items, due or not: who stands beside an answer moves its last digits.
        """
        from attnlens.models.self_check import ensure_checked

        asked = [item for item in batch.items if item.transcribed and item.intervention == "none"]
        if len(asked) < 2 or not self.library.possible or not ensure_checked(self.lens).batching_exact:  # noqa: PLR2004
            return _Written()
        try:
            with reusing_clips(self.lens):
                found = [(item.id, reading) for item in asked if (reading := self._read(item)) is not None]
                answers = decode([reading for _, reading in found], max_new_tokens=self.spec.decoding.max_new_tokens)
        except Exception:  # noqa: BLE001 - whose fault it is shows when each is done alone
            LOG.warning("answers of %d items could not be written together", len(asked), exc_info=True)
            return _Written()
        return _Written(dict(found), {name: answer for (name, _), answer in zip(found, answers, strict=True)})


@dataclass(frozen=True)
class _Written:
    """What a batch's items have from being answered together, by item id."""

    readings: dict[str, Reading] = field(default_factory=dict)
    answers: dict[str, Generation] = field(default_factory=dict)


def failure(item: Item, error: BaseException) -> Done:
    """Return the row of an item that failed."""
    message = " ".join(str(error).split())
    return Done({"item": item.id, "status": "failed", "error": f"{type(error).__name__}: {message}"})


def _curve(dataset: xr.Dataset) -> NDArray[np.float32] | None:
    """Return :func:`attnlens.traces.views.bias` [layers] of the mean over heads, for the display alone.

    Written out, since the view costs as much as the model's own work on a small item.
    """
    text, audio = (list(SOURCES).index(one) for one in ("demo_text", "demo_audio"))
    tokens = dataset["tokens"].values[0]
    mass = dataset["mass"].values[0, :, :, 0].mean(1)
    total = mass[:, text] + mass[:, audio]
    if not (tokens[text] and tokens[audio] and (total > 0).all()):
        return None
    return ((mass[:, text] - mass[:, audio]) / total).astype(np.float32)
