"""The place where items are computed: a model loaded once, and what one item gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
from attnlens.models.side_by_side import SideBySide, stackable
from attnlens.run.batches import Batch, middles, planned_batches
from attnlens.run.decoder import Decoder
from attnlens.run.folder import LOG
from attnlens.run.item import Item
from attnlens.run.plan import Plan, allow_cutting
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.models.generation import Generation
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Bench", "Done", "Facts", "failure", "measured_facts"]


@dataclass(frozen=True)
class Facts:
    """What is known of a model only once it is loaded; ``seconds`` are those of the middle batch of each stratum."""

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    attrs: dict[str, str]
    weights: str
    revision: str | None
    adapter: str | None
    bytes: int
    cache: int
    """Bytes of the keys and values of one position."""
    host: dict[str, Any]
    seconds: tuple[float, ...] = ()


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
        self._shared: dict[str, _Shared] = {}
        self._ready: dict[frozenset[str], list[Done]] = {}

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

    def facts(self) -> Facts:
        """Return what the plan could not know."""
        from attnlens.models.trace_dataset import provenance
        from attnlens.run.provenance import host_facts

        lens = self.lens
        return Facts(
            layers=tuple(int(layer) for layer in lens.sites.layers("self")),
            heads=tuple(range(lens.n_heads)),
            attrs=provenance(lens, rows=self.rows, method="rows", site="self"),
            weights=self.weights,
            revision=getattr(lens.model.config, "_commit_hash", None),
            adapter=lens.adapter,
            bytes=sum(one.numel() * one.element_size() for one in lens.model.parameters()),
            cache=Decoder.of(lens.front).cached * lens.dtype.itemsize,
            host=host_facts(),
        )

    @property
    def rows(self) -> Any:
        """Which rows are measured; the paper's convention reads shifted by one."""
        return "reading" if self.spec.convention == "paper" else "predicting"

    @cached_property
    def library(self) -> Library:
        """What was read of the last prompts; parts end where the prompts of this spec do."""
        reserve = self.spec.decoding.max_new_tokens if self.spec.decoding.conditions else 0
        return Library(self.lens, cuts=self.spec.context.shots, reserve=reserve)

    def measure(self, item: Item) -> Done:
        """Trace the reference, and transcribe where the spec says so; what its batch gave is not computed again."""
        shared = self._shared.get(item.id)
        if shared is not None:
            return self._done(item, shared.dataset, shared.answer)
        lens = self.lens
        cut = nullcontext() if item.intervention == "none" else parse_intervention(item.intervention).on(lens)
        with reusing_clips(lens), cut:
            reading = self._read(item)
            dataset = self._trace([item], [reading])
            answer = self._answer(item, reading) if item.transcribed else None
        return self._done(item, dataset, answer)

    def timed(self, batches: Sequence[Batch]) -> list[float]:
        """Return the seconds that batches take; what came of them is kept until their turn, and not computed again.

        None where one fails and the spec says to stop at the first that does.
        """
        seconds = []
        for place, batch in enumerate(batches):
            for _ in range(1 if place else 2):  # the first time includes what is done once
                start = time.perf_counter()
                found = list(self._attempt(batch, lambda _item: None))
                taken = time.perf_counter() - start
            seconds.append(taken)
            self._ready[batch.due] = found
            if self.spec.execution.on_error == "stop" and any(done.failed for done in found):
                return []
        return seconds

    def attempt(self, batch: Batch, *, started: Callable[[Item], None] = lambda _item: None) -> Iterator[Done]:
        """Measure what is due of a batch, or say how it failed: one bad item must not cost the others."""
        ready = self._ready.pop(batch.due, None)
        yield from self._attempt(batch, started) if ready is None else ready

    def _attempt(self, batch: Batch, started: Callable[[Item], None]) -> Iterator[Done]:
        try:
            for place, item in enumerate(batch.wanted):
                started(item)
                if not place:
                    self._shared = self._together(batch)
                try:
                    yield self.measure(item)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this item's
                    LOG.warning("item %s (%s) failed", item.id, item.describe(), exc_info=True)
                    yield failure(item, error)
        finally:
            self._shared = {}

    def _read(self, item: Item) -> Reading | None:
        return self.library.read(self.lens.encode(item.prompt, item.reference))

    def _trace(self, items: Sequence[Item], readings: Sequence[Reading | None] | SideBySide) -> xr.Dataset:
        return self.lens.trace(
            [item.prompt for item in items],
            outputs=[item.reference for item in items],
            rows=self.rows,
            measures=("mass", "nll_first", *self.spec.tracing.measures),
            readings=readings,
        )

    def _answer(self, item: Item, reading: Reading | None) -> Generation:
        most = self.spec.decoding.max_new_tokens
        return (
            self.lens.generate(item.prompt, max_new_tokens=most)
            if reading is None
            else decode([reading], max_new_tokens=most)[0]
        )

    def _done(self, item: Item, dataset: xr.Dataset, answer: Generation | None) -> Done:
        row: dict[str, Any] = {"item": item.id, "status": "finished"}
        row |= {name: float(dataset[name].values[0]) for name in ("nll", "nll_first")}
        row |= {name: int(dataset[name].values[0]) for name in ("n_output_tokens", "n_chars", "positions")}
        if self.spec.context.on_overflow == "cut-window":
            lost = self.lens.encode(item.prompt).frames_lost
            row |= {"frames_lost": lost[0], "target_frames_lost": lost[1]}
        if answer is not None:
            row |= {"transcription": answer.text, "ended": answer.ended}
        # One number per item needs no place in the store; tables read it from the row.
        dataset = dataset.drop_vars("nll_first")
        # An intervention under the name that the spec gives it, by which the store expects it.
        dataset = dataset.assign_coords(intervention=("item", [item.intervention]), seed=("item", [item.seed]))
        return Done(row, dataset, _curve(dataset) if item.control == item.intervention == "none" else None)

    def _together(self, batch: Batch) -> dict[str, _Shared]:
        """Trace and answer the items of a batch side by side, where that is exact; nobody where it is not.

        All its items, due or not: who stands beside an item moves its last digits.
        """
        from attnlens.models.self_check import ensure_checked

        asked = [item for item in batch.items if item.intervention == "none"]
        exact = len(asked) > 1 and self.library.possible and ensure_checked(self.lens).batching_exact
        if not exact:
            return {}
        with reusing_clips(self.lens):
            return self._side_by_side(asked)

    def _side_by_side(self, items: Sequence[Item]) -> dict[str, _Shared]:
        """Compute items in one go; where that fails, for want of memory or for a bad one among them, in two halves."""
        if len(items) < 2:  # noqa: PLR2004
            return {}
        try:
            found = [(item, reading) for item in items if (reading := self._read(item)) is not None]
            items, readings = [item for item, _ in found], [reading for _, reading in found]
            if len(items) < 2 or not all(stackable(one) for one in readings):  # noqa: PLR2004
                return {}
            beside = SideBySide.of(readings)
            dataset = self._trace(items, beside)
            spoken = [place for place, item in enumerate(items) if item.transcribed]
            heard = beside if len(spoken) == len(items) else [readings[place] for place in spoken]
            answers = decode(heard, max_new_tokens=self.spec.decoding.max_new_tokens)
        except Exception:  # noqa: BLE001 - whose fault it is shows when each is done alone
            LOG.warning("%d items could not be computed together", len(items), exc_info=True)
            half = len(items) // 2
            return self._side_by_side(items[:half]) | self._side_by_side(items[half:])
        said = dict(zip(spoken, answers, strict=True))
        return {item.id: _Shared(dataset.isel(item=[place]), said.get(place)) for place, item in enumerate(items)}


@dataclass(frozen=True)
class _Shared:
    """What an item has from being computed beside others."""

    dataset: xr.Dataset
    answer: Generation | None


def measured_facts(plan: Plan) -> Facts:
    """Load the model of a plan and time a few of its batches; their results are thrown away."""
    bench = Bench(plan.spec)
    facts = bench.facts()
    return replace(facts, seconds=tuple(bench.timed(middles(planned_batches(plan, facts, plan.items)))))


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
