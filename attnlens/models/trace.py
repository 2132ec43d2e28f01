"""From prompts to a trace: one forward per prompt, masses added up over its spans while the answer is read along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES, Label, Source, SpanMap
from attnlens.errors import BadInput, UnknownName
from attnlens.models.rows import RowConvention, rows_of
from attnlens.models.trace_dataset import assembled, provenance
from attnlens.traces.schema import MODALITIES

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.capture.record import Record
    from attnlens.capture.request import Method
    from attnlens.capture.sites import Kind
    from attnlens.models.library import Reading
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
    readings: Sequence[Reading | None] | None = None,
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
        For rows of the answer alone; None where there is none.
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
    read = _readings(lens, listed, readings, wanted)
    items = [
        _item(lens, known.encoded if known else lens.encode(prompt, answer), wanted, known)
        | {"n_chars": np.int32(len(answer))}
        for (prompt, answer), known in zip(_shown(listed, answers), read, strict=True)
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


def _shown(prompts: list[Prompt], answers: list[str]) -> Iterator[tuple[Prompt, str]]:
    pairs = zip(prompts, answers, strict=True)
    if len(prompts) < BAR_FROM:
        yield from pairs
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(pairs, total=len(prompts), description="tracing", console=Console(stderr=True), transient=True)


def _readings(
    lens: SpeechLM, prompts: list[Prompt], readings: Sequence[Reading | None] | None, wanted: _Wanted
) -> Sequence[Reading | None]:
    if readings is None:
        return [None] * len(prompts)
    strangers = [one for one, prompt in zip(readings, prompts, strict=True) if one and one.encoded.prompt != prompt]
    if strangers or wanted.queries != ("output",) or wanted.site != "self":
        raise BadInput(
            "readings serve the rows of their own prompts' answers",
            given=f"queries {list(wanted.queries)}, site {wanted.site!r}",
            fix="pass one reading per prompt, and queries=('output',), or no readings",
        )
    return readings


def _item(lens: SpeechLM, encoded: Encoded, wanted: _Wanted, known: Reading | None = None) -> dict[str, Any]:
    import torch

    from attnlens.capture.attention import capture
    from attnlens.capture.request import Request
    from attnlens.models.interventions import edits_for

    spans = encoded.spans
    keys = spans if wanted.site == "self" or encoded.encoder_spans is None else encoded.encoder_spans
    labels, groups = _groups(keys)
    asking = keys if wanted.site == "encoder" else spans
    picked = {query: rows_of(asking, query, rows=wanted.rows) for query in wanted.queries}
    union = np.unique(np.concatenate(list(picked.values())))
    picks = [np.searchsorted(union, positions) for positions in picked.values()]
    at, predicting = _tensor(lens, union), _tensor(lens, rows_of(spans, "output"))
    ids = _tensor(lens, encoded.ids)
    after = torch.cat([ids[1:], ids.new_full((1,), -1)])
    # What positions receive is about the output's rows alone: with others asked for, it is read in a pass of its own.
    together = wanted.queries == ("output",) and wanted.method == "rows"
    apart = APART if not together else ("contribution",)
    first = tuple(name for name in wanted.measures if name not in (*apart, *OF_LOGITS))
    request = Request(
        **_keys(lens, groups, wanted.site),
        n_groups=len(labels),
        # An encoder's rows cannot be chosen before it runs: all are read, and the span's are picked.
        rows=None if wanted.site == "encoder" else at,
        kinds=(wanted.site,),
        measures=first,
        layers=wanted.layers,
        heads=wanted.heads,
        method=wanted.method,
        gold=after[at][None] if "logit_effect" in first else None,
    )
    edits = edits_for(lens, encoded)
    forward = known.logits if known else partial(lens.logits, lens.inputs(encoded))

    with capture(lens.sites, request, edits) as record:
        logits = forward(keep=predicting, dtype=torch.float32)
    if wanted.site == "encoder":
        picks = list(picked.values())
    sums = tuple(name for name in first if name != "received")
    measured = _by_source(_Read(record, wanted.site), sums, picks, labels, keys.demos)
    if "logit_effect" in measured:
        measured["logit_effect"] *= np.float32(lens.back.logit_scale)
    if "contribution" in wanted.measures:
        # Norms do not add up: what all demonstrations write together is not the sum of what each writes. So this
        # measure is read per source, in a pass of its own.
        sources = _keys(lens, keys.sources().astype(np.int64), wanted.site)
        again = replace(request, **sources, n_groups=len(SOURCES), measures=("contribution",), gold=None)
        with capture(lens.sites, again, edits) as parts:
            forward(keep=predicting[-1:], dtype=torch.float32)
        measured["contribution"] = _means(_Read(parts, wanted.site), "contribution", picks)
    if "received" in wanted.measures:
        if not together:
            rows = _tensor(lens, rows_of(spans, "output", rows=wanted.rows))
            again = replace(request, measures=("received",), rows=rows, method="rows", gold=None)
            with capture(lens.sites, again, edits) as record:
                forward(keep=predicting[-1:], dtype=torch.float32)
        measured["received"] = _received(_Read(record, wanted.site), len(keys), len(predicting))
    nll = -logits[0].log_softmax(-1).gather(-1, after[predicting][:, None])
    if "nll_first" in wanted.measures:
        measured["nll_first"] = np.array(nll[0].item(), dtype=np.float32)
    return {
        **measured,
        "tokens": np.bincount(keys.sources(), minlength=len(SOURCES)).astype(np.int32),
        "query_tokens": np.array([len(pick) for pick in picks], dtype=np.int32),
        **_blocks(keys),
        "nll": np.float32(nll.sum().item()),
        "n_output_tokens": np.int32(len(predicting)),
        "positions": np.int32(len(keys)),
    }


@dataclass(frozen=True)
class _Read:
    record: Record
    site: Kind

    def stacked(self, name: str) -> Any:
        return self.record.stacked(name, self.site)[:, 0].float().cpu().numpy()


def _received(record: _Read, positions: int, rows: int) -> np.ndarray:
    """Return what each position receives [layers, positions], mean over heads and rows."""
    found = record.stacked("received").mean(1) / np.float32(rows)
    return np.pad(found, ((0, 0), (0, positions - found.shape[1])))


def _tensor(lens: SpeechLM, numbers: np.ndarray) -> Any:
    import torch

    return torch.as_tensor(numbers, device=lens.device)


def _keys(lens: SpeechLM, groups: np.ndarray, site: Kind) -> dict[str, Any]:
    """Name the key labels as a request does: keys of the decoder, or those of the encoder's frames."""
    return {"groups" if site == "self" else "cross_groups": _tensor(lens, groups)[None]}


def _means(record: _Read, name: str, picks: list[np.ndarray]) -> np.ndarray:
    """Average the rows of each query span: [layers, heads, queries] or [layers, heads, queries, groups]."""
    values = record.stacked(name)
    return np.stack([values[:, :, pick].mean(2) for pick in picks], 2)


def _groups(spans: SpanMap) -> tuple[list[Label], np.ndarray]:
    """Number the labels of a prompt: masses are read per label and added up to sources afterwards."""
    labels = list(dict.fromkeys(span.label for span in spans))
    number = {label: index for index, label in enumerate(labels)}
    groups = np.empty(len(spans), dtype=np.int64)
    for span in spans:
        groups[span.start : span.stop] = number[span.label]
    return labels, groups


def _by_source(
    record: _Read, measures: tuple[str, ...], picks: list[np.ndarray], labels: list[Label], demos: int
) -> dict[str, np.ndarray]:
    """Add labels up to sources, and keep the masses of each demonstration's blocks."""
    onto = np.zeros((len(labels), len(SOURCES)), dtype=np.float32)
    onto[np.arange(len(labels)), [SOURCES.index(label.source) for label in labels]] = 1
    out: dict[str, np.ndarray] = {}
    for name in measures:
        means = _means(record, name, picks)
        out[name] = means if name in PER_ROW else means @ onto
        if name == "mass":
            blocks = np.zeros((*means.shape[:-1], demos, len(MODALITIES)), dtype=np.float32)
            for index, label in enumerate(labels):
                if label.demo is not None:
                    blocks[..., label.demo, MODALITIES.index(label.modality)] += means[..., index]
            out["demo_mass"] = blocks
    return out


def _blocks(spans: SpanMap) -> dict[str, np.ndarray]:
    tokens = np.zeros((spans.demos, len(MODALITIES)), dtype=np.int32)
    starts = np.full((spans.demos, len(MODALITIES)), -1, dtype=np.int32)
    for span in spans:
        if span.label.demo is not None:
            place = span.label.demo, MODALITIES.index(span.label.modality)
            starts[place] = span.start if tokens[place] == 0 else starts[place]
            tokens[place] += len(span)
    return {"demo_tokens": tokens, "demo_start": starts}
