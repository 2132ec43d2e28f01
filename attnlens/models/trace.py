"""From prompts to a trace: one forward per prompt, masses added up over its spans while the answer is read along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES, Source
from attnlens.errors import BadInput, UnknownName
from attnlens.models.frames import Frame, Read, Stacks, Whole
from attnlens.models.rows import RowConvention, rows_of
from attnlens.models.trace_dataset import assembled, provenance
from attnlens.traces.schema import MODALITIES

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.capture.request import Method
    from attnlens.capture.sites import Kind
    from attnlens.models.library import Reading
    from attnlens.models.side_by_side import SideBySide
    from attnlens.models.speechlm import SpeechLM

__all__ = ["trace"]

MEASURES = ("mass", "entropy", "max", "contribution", "logit_effect", "received", "nll_first")
APART = ("contribution", "received")
"""Read in a pass of their own: norms per source, and what positions receive from the output alone."""
OF_LOGITS = ("nll_first",)
PER_ROW = ("entropy", "max")
BAR_FROM = 4
"""Fewer prompts than this are done before a progress bar would be read."""


@dataclass(frozen=True)
class _Wanted:
    queries: tuple[Source, ...]
    rows: RowConvention
    measures: tuple[str, ...]
    layers: tuple[int, ...] | None
    heads: tuple[int, ...] | None
    method: Method
    site: Kind


def trace(
    lens: SpeechLM,
    prompts: Prompt | Sequence[Prompt],
    *,
    outputs: str | Sequence[str] | None = None,
    queries: Sequence[Source] = ("output",),
    rows: RowConvention = "predicting",
    measures: Sequence[str] = ("mass", "entropy"),
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    method: Method = "rows",
    site: Kind = "self",
    seed: int = 0,
    readings: Sequence[Reading | None] | SideBySide | None = None,
) -> xr.Dataset:
    """Measure what each head draws from each span of one or several prompts, while the answer is read along.

    Parameters
    ----------
    prompts
        What the model is shown; each becomes an item.
    outputs
        The answers read along, one per prompt; by default each target's reference.
    queries
        Spans whose rows are measured.
    rows
        See :func:`attnlens.models.rows.rows_of`.
    measures
        Of ``mass`` (always there), ``entropy``, ``max``, ``contribution``, ``logit_effect``, ``received``
        (what each position gets from the output's rows, heads averaged), ``nll_first``.
    layers, heads
        Which ones, by index; None is all.
    method
        How masses are computed; see :class:`attnlens.capture.request.Request`.
    site
        ``self`` is the text decoder. Encoder-decoders also have ``cross`` (rows of the decoder over the encoder's
        frames) and ``encoder``, whose queries are spans of the audio, such as ``target_audio``.
    seed
        Recorded as the items' seed.
    readings
        Of prompts with these answers, by :class:`attnlens.models.library.Library`: what was read is not read again.
        For rows of the answer alone; None where there is none. Passed as
        :class:`attnlens.models.side_by_side.SideBySide`, all are read on in one forward pass.
    """
    from attnlens.models.interventions import named
    from attnlens.models.self_check import ensure_checked

    listed = [prompts] if isinstance(prompts, Prompt) else list(prompts)
    answers = _answers(listed, outputs)
    for name in measures:
        if name not in MEASURES:
            raise UnknownName.among("measure of a trace", name, MEASURES)
    wanted = _Wanted(
        queries=tuple(queries),
        rows=rows,
        measures=tuple(dict.fromkeys(["mass", *measures])),
        layers=None if layers is None else tuple(layers),
        heads=None if heads is None else tuple(heads),
        method=method,
        site=site,
    )
    _require_site(lens, site)
    if site == "encoder" and "received" in measures:
        raise BadInput("an encoder has no rows of the output", given="received", fix="leave it out, or site='self'")
    ensure_checked(lens)
    items = [
        item | {"n_chars": np.int32(len(answer))}
        for item, answer in zip(_measured(lens, listed, answers, readings, wanted), answers, strict=True)
    ]
    return assembled(
        items,
        listed,
        coordinates={
            "layer": np.array(sorted(wanted.layers or lens.sites.layers(site))),
            "head": np.arange(items[0]["mass"].shape[1]) if wanted.heads is None else np.array(wanted.heads),
            "query": list(wanted.queries),
        },
        intervention=named(lens),
        seed=seed,
        attributes=provenance(lens, rows=rows, method=method, site=site),
    )


def _require_site(lens: SpeechLM, site: Kind) -> None:
    if not lens.sites.layers(site):
        raise BadInput(
            f"{lens.name} has no {site!r} attention that runs with its decoder",
            present=", ".join(sorted({one.kind for one in lens.sites.modules})),
            fix="trace site='self'; encoders of decoder-only families run apart, clip by clip",
        )


def _answers(prompts: Sequence[Prompt], outputs: str | Sequence[str] | None) -> list[str]:
    if not prompts:
        raise BadInput("there is no prompt to trace", fix="pass one prompt or a list")
    answers = (
        [p.target.text for p in prompts] if outputs is None else [outputs] if isinstance(outputs, str) else outputs
    )
    if len(answers) != len(prompts):
        raise BadInput(
            "one output per prompt is due", given=f"{len(answers)} outputs", present=f"{len(prompts)} prompts"
        )
    empty = [prompt.target.id for prompt, answer in zip(prompts, answers, strict=True) if not answer.strip()]
    if empty:
        raise BadInput(
            f"the answer of {empty[0]!r} is empty, so nothing is predicted",
            fix="pass outputs=, for instance what `generate` returned",
        )
    return list(answers)


def _measured(
    lens: SpeechLM,
    prompts: list[Prompt],
    answers: list[str],
    readings: Sequence[Reading | None] | SideBySide | None,
    wanted: _Wanted,
) -> Iterator[dict[str, Any]]:
    """Yield the variables of each prompt, in order."""
    from attnlens.models.side_by_side import SideBySide

    beside = readings if isinstance(readings, SideBySide) else None
    known: list[Reading | None] = (
        list(readings.readings) if isinstance(readings, SideBySide) else list(readings or [None] * len(prompts))
    )
    _refuse_strangers(lens, known, prompts, wanted)
    if beside is not None:
        yield from _items(lens, beside, wanted)
        return
    for prompt, answer, reading in _shown(list(zip(prompts, answers, known, strict=True))):
        way = SideBySide.of([reading]) if reading else Whole(lens, lens.encode(prompt, answer))
        yield from _items(lens, way, wanted)


def _shown(rows: list[Any]) -> Iterator[Any]:
    if len(rows) < BAR_FROM:
        yield from rows
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(rows, description="tracing", console=Console(stderr=True), transient=True)


def _refuse_strangers(lens: SpeechLM, readings: list[Reading | None], prompts: list[Prompt], wanted: _Wanted) -> None:
    from attnlens.models.interventions import edits_for

    if not any(readings):
        return
    strangers = [one for one, prompt in zip(readings, prompts, strict=True) if one and one.encoded.prompt != prompt]
    if strangers or wanted.queries != ("output",) or wanted.site != "self":
        raise BadInput(
            "readings serve the rows of their own prompts' answers",
            given=f"queries {list(wanted.queries)}, site {wanted.site!r}",
            fix="pass one reading per prompt, and queries=('output',), or no readings",
        )
    if any(one and edits_for(lens, one.encoded) for one in readings):
        raise BadInput(
            "what was read before an intervention is not what would be read under it",
            given="readings, inside an intervention",
            fix="leave readings out",
        )


def _items(lens: SpeechLM, way: SideBySide | Whole, wanted: _Wanted) -> list[dict[str, Any]]:
    """Measure the prompts of one forward pass."""
    import torch

    from attnlens.capture.attention import capture
    from attnlens.capture.request import Request
    from attnlens.models.interventions import edits_for

    frames = [
        Frame(encoded, wanted.queries, rows=wanted.rows, site=wanted.site, shift=shift)
        for encoded, shift in zip(way.prompts, way.shifts, strict=True)
    ]
    width = max(frame.shift + len(frame.spans) for frame in frames)
    union = np.unique(np.concatenate([frame.all_rows for frame in frames]))
    predicting = np.unique(np.concatenate([frame.predicting for frame in frames]))
    after = _tensor(lens, np.stack([frame.placed(frame.after, width) for frame in frames]))
    at, keep = _tensor(lens, union), _tensor(lens, predicting)
    # What positions receive is about the output's rows alone: with others asked for, it is read in a pass of its own.
    together = wanted.queries == ("output",) and wanted.method == "rows"
    apart = APART if not together else ("contribution",)
    first = tuple(name for name in wanted.measures if name not in (*apart, *OF_LOGITS))
    request = Request(
        **_keys(lens, frames, [frame.groups for frame in frames], wanted.site),
        n_groups=max(len(frame.labels) for frame in frames),
        # An encoder's rows cannot be chosen before it runs: all are read, and the span's are picked.
        rows=None if wanted.site == "encoder" else at,
        kinds=(wanted.site,),
        measures=first,
        layers=wanted.layers,
        heads=wanted.heads,
        method=wanted.method,
        gold=after[:, at] if "logit_effect" in first else None,
        counted=_counted(lens, [frame.all_rows for frame in frames], union),
    )
    edits = edits_for(lens, way.prompts[0])
    with capture(lens.sites, request, edits) as record:
        logits = way.logits(keep=keep, dtype=torch.float32)
    stacks, read = Stacks(record, wanted.site), None if wanted.site == "encoder" else union
    found = [Read(stacks, place, frame, read) for place, frame in enumerate(frames)]
    sums = tuple(name for name in first if name != "received")
    items: list[dict[str, Any]] = [_by_source(one, sums) for one in found]
    if "contribution" in wanted.measures:
        # Norms do not add up: what all demonstrations write together is not the sum of what each writes. So this
        # measure is read per source, in a pass of its own.
        sources = _keys(lens, frames, [frame.keys.sources().astype(np.int64) for frame in frames], wanted.site)
        again = replace(request, **sources, n_groups=len(SOURCES), measures=("contribution",), gold=None)
        with capture(lens.sites, again, edits) as parts:
            way.logits(keep=keep[-1:], dtype=torch.float32)
        stacks = Stacks(parts, wanted.site)
        for item, one in zip(items, found, strict=True):
            item["contribution"] = replace(one, stacks=stacks).means("contribution")
    if "received" in wanted.measures:
        if not together:
            rows = [rows_of(frame.spans, "output", rows=wanted.rows) + frame.shift for frame in frames]
            every = np.unique(np.concatenate(rows))
            picked = {"rows": _tensor(lens, every), "counted": _counted(lens, rows, every), "method": "rows"}
            again = replace(request, measures=("received",), gold=None, **picked)
            with capture(lens.sites, again, edits) as record:
                way.logits(keep=keep[-1:], dtype=torch.float32)
            found = [replace(one, stacks=Stacks(record, wanted.site)) for one in found]
        for item, one in zip(items, found, strict=True):
            item["received"] = one.received()
    for place, (item, frame) in enumerate(zip(items, frames, strict=True)):
        own = logits[place, _tensor(lens, np.searchsorted(predicting, frame.predicting))]
        nll = -own.log_softmax(-1).gather(-1, after[place, _tensor(lens, frame.predicting)][:, None])
        if "nll_first" in wanted.measures:
            item["nll_first"] = np.array(nll[0].item(), dtype=np.float32)
        if "logit_effect" in item:
            item["logit_effect"] *= np.float32(lens.back.logit_scale)
        item |= {
            "tokens": frame.tokens,
            "query_tokens": np.array([len(rows) for rows in frame.rows.values()], dtype=np.int32),
            **frame.blocks(),
            "nll": np.float32(nll.sum().item()),
            "n_output_tokens": np.int32(len(frame.predicting)),
            "positions": np.int32(len(frame.keys)),
        }
    return items


def _tensor(lens: SpeechLM, numbers: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(numbers, device=lens.device)


def _keys(lens: SpeechLM, frames: list[Frame], groups: list[np.ndarray], site: Kind) -> dict[str, Any]:
    """Name the key labels as a request does: keys of the decoder, or those of the encoder's frames."""
    width = max(frame.shift + len(one) for frame, one in zip(frames, groups, strict=True))
    placed = np.stack([frame.placed(one, width) for frame, one in zip(frames, groups, strict=True)])
    return {"groups" if site == "self" else "cross_groups": _tensor(lens, placed)}


def _counted(lens: SpeechLM, rows: list[np.ndarray], union: np.ndarray) -> Any:
    """Say which rows are each prompt's own, where they are not the same for all."""
    own = np.stack([np.isin(union, some) for some in rows])
    return None if own.all() else _tensor(lens, own)


def _by_source(read: Read, measures: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Add labels up to sources, and keep the masses of each demonstration's blocks."""
    labels, demos = read.frame.labels, read.frame.keys.demos
    onto = np.zeros((len(labels), len(SOURCES)), dtype=np.float32)
    onto[np.arange(len(labels)), [SOURCES.index(label.source) for label in labels]] = 1
    out: dict[str, np.ndarray] = {}
    for name in measures:
        means = read.means(name)
        if name in PER_ROW:
            out[name] = means
            continue
        # Another prompt of the same pass may have more labels.
        means = means[..., : len(labels)]
        out[name] = means @ onto
        if name == "mass":
            blocks = np.zeros((*means.shape[:-1], demos, len(MODALITIES)), dtype=np.float32)
            for index, label in enumerate(labels):
                if label.demo is not None:
                    blocks[..., label.demo, MODALITIES.index(label.modality)] += means[..., index]
            out["demo_mass"] = blocks
    return out
