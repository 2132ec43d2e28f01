"""The place where items are computed: a model loaded once, and what one item gives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.models.clips import reusing_clips
from attnlens.run.folder import LOG
from attnlens.run.item import Item
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    import xarray as xr

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

    @cached_property
    def lens(self) -> SpeechLM:
        """The model, self-checked."""
        import torch

        from attnlens.models.load import load
        from attnlens.models.self_check import ensure_checked

        model = self.spec.model
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

    def measure(self, item: Item) -> Done:
        """Trace the reference, and transcribe where the spec says so."""
        lens = self.lens
        with reusing_clips(lens):
            dataset = lens.trace(
                item.prompt,
                outputs=item.reference,
                rows=self.rows,
                measures=("mass", "nll_first", *self.spec.tracing.measures),
                seed=item.seed,
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
            if item.transcribed:
                answer = lens.generate(item.prompt, max_new_tokens=self.spec.decoding.max_new_tokens)
                row |= {"transcription": answer.text, "ended": answer.ended}
        # One number per item needs no place in the store; tables read it from the row.
        dataset = dataset.drop_vars("nll_first")
        return Done(row, dataset, _curve(dataset) if item.control == "none" else None)

    def attempt(self, item: Item) -> Done:
        """Measure an item, or say how it failed: one bad item must not cost the others."""
        try:
            return self.measure(item)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this item's
            LOG.warning("item %s (%s) failed", item.id, item.describe(), exc_info=True)
            return failure(item, error)


def failure(item: Item, error: BaseException) -> Done:
    """Return the row of an item that failed."""
    message = " ".join(str(error).split())
    return Done({"item": item.id, "status": "failed", "error": f"{type(error).__name__}: {message}"})


def _curve(dataset: xr.Dataset) -> NDArray[np.float32] | None:
    from attnlens.traces.views import bias

    found = bias(dataset[["mass", "tokens"]].mean("head", keep_attrs=True)).values[0, :, 0]
    return None if np.isnan(found).all() else found.astype(np.float32)
