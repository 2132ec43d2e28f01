"""Changes of the computation by name of span, in force inside a ``with``: knockouts, ablated heads, shuffled values.

What is cut is said in terms of spans and resolved anew for every prompt, so that one ``with`` serves many prompts, in
``trace``, ``score`` and ``generate`` alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES, Source
from attnlens.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.capture.edits import Edit
    from attnlens.models.speechlm import SpeechLM

__all__ = [
    "Active",
    "ablate_heads",
    "edits_for",
    "key_flags",
    "knockout",
    "named",
    "query_flags",
    "shuffle_values",
]

Sources = Source | Sequence[Source] | Literal["all"]
Resolve = Callable[[Encoded, int], "list[Edit]"]


@dataclass(frozen=True)
class Active:
    """One change in force on one model; ``resolve`` makes the edit for a prompt and so many generated tokens."""

    lens: int
    name: str
    resolve: Resolve


_ACTIVE: ContextVar[tuple[Active, ...]] = ContextVar("attnlens_interventions", default=())


@contextlib.contextmanager
def _in_force(lens: SpeechLM, name: str, resolve: Resolve) -> Iterator[None]:
    token = _ACTIVE.set((*_ACTIVE.get(), Active(id(lens), name, resolve)))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def edits_for(lens: SpeechLM, encoded: Encoded, *, new: int = 0) -> list[Edit]:
    """Return the edits in force on a model, for one prompt and up to ``new`` tokens after it."""
    return [edit for active in _ACTIVE.get() if active.lens == id(lens) for edit in active.resolve(encoded, new)]


def named(lens: SpeechLM) -> str:
    """Return what is in force on a model as text, ``none`` when nothing is."""
    return "+".join(active.name for active in _ACTIVE.get() if active.lens == id(lens)) or "none"


def knockout(
    lens: SpeechLM,
    *,
    queries: Sources,
    keys: Sources,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    how: Literal["mask", "zero"] = "mask",
    site: Literal["self", "cross"] = "self",
) -> contextlib.AbstractContextManager[None]:
    """Forbid rows of some spans to look at keys of others.

    Parameters
    ----------
    queries, keys
        A source, several, or ``all``. Rows of ``output`` are those that predict it: the last position of the prompt
        and every output position but the last.
    layers, heads
        Which ones; None is all.
    how
        ``mask`` cuts before the softmax, and other keys take over the weight; ``zero`` cuts after it, and the weight
        is lost. They are different experiments.
    site
        ``cross`` cuts what an encoder-decoder's decoder sees of the encoder: keys are then spans of the audio.
    """
    from attnlens.capture.edits import Knockout

    rows, columns = _sources(queries), _sources(keys)
    _check(lens, layers, heads)
    if how not in ("mask", "zero"):
        raise UnknownName.among("way to cut", how, ["mask", "zero"])

    def resolve(encoded: Encoded, new: int) -> list[Edit]:
        cut = Knockout(
            queries=_flags(lens, query_flags(encoded, rows, new)),
            keys=_flags(lens, key_flags(encoded, columns, new) if site == "self" else _frames(lens, encoded, columns)),
            layers=_tuple(layers),
            heads=_tuple(heads),
            how=how,
            kind=site,
        )
        return [cut]

    where = _where(layers, heads) + ("" if site == "self" else f",{site}")
    name = f"knockout({'|'.join(rows)}->{'|'.join(columns)}{where},{how})"
    return _in_force(lens, name, resolve)


def ablate_heads(
    lens: SpeechLM,
    *,
    layers: Sequence[int],
    heads: Sequence[int],
    value: Literal["zero", "mean", "resample"] = "zero",
    queries: Sources = "output",
    reference: Sequence[Prompt] = (),
    seed: int = 0,
) -> contextlib.AbstractContextManager[None]:
    """Replace what heads put out, before the output projection.

    Parameters
    ----------
    value
        ``zero`` is far from anything the model has seen. ``mean`` takes the head's mean output over the rows of
        ``queries`` in the reference prompts; ``resample`` draws one such row for every row.
    queries
        Spans whose rows are replaced; of ``output``, the rows that predict it.
    reference
        Prompts for ``mean`` and ``resample``, with their references as answers; never the prompt under study.
    """
    from attnlens.capture.edits import AblateHeads
    from attnlens.models.head_outputs import head_outputs

    rows = _sources(queries)
    _check(lens, layers, heads)
    if value not in ("zero", "mean", "resample"):
        raise UnknownName.among("value of an ablation", value, ["zero", "mean", "resample"])
    if value != "zero" and not reference:
        raise BadInput(f"value={value!r} needs prompts to take it from", fix="pass reference=[prompt, ...]")
    donors = {} if value == "zero" else head_outputs(lens, reference, layers=layers, heads=heads, queries=rows)

    def resolve(encoded: Encoded, new: int) -> list[Edit]:
        import torch

        flags = query_flags(encoded, rows, new)
        edits: list[Edit] = []
        for layer in layers:
            put: Literal["zero"] | Tensor = "zero"
            if value == "mean":
                put = donors[layer].mean(0)
            elif value == "resample":
                drawn = np.random.default_rng([seed, layer, len(flags)]).integers(len(donors[layer]), size=len(flags))
                put = donors[layer][torch.as_tensor(drawn, device=lens.device)][None]
            where = _flags(lens, flags)
            edits.append(AblateHeads(layers=(layer,), heads=tuple(heads), value=put, queries=where))
        return edits

    return _in_force(lens, f"ablate_heads({'|'.join(rows)}{_where(layers, heads)},{value})", resolve)


def shuffle_values(
    lens: SpeechLM,
    *,
    span: Source,
    layers: Sequence[int] | None = None,
    what: Literal["v", "k", "kv"] = "v",
    seed: int = 0,
) -> contextlib.AbstractContextManager[None]:
    """Permute the values (or keys) within a span: what is there stays, where it is is lost."""
    from attnlens.capture.edits import ShuffleValues

    (source,) = _sources(span)
    _check(lens, layers, None)

    def resolve(encoded: Encoded, new: int) -> list[Edit]:
        import torch

        order = np.arange(len(encoded.ids) + new)
        positions = encoded.spans.positions(source)
        order[positions] = np.random.default_rng([seed, len(positions)]).permutation(positions)
        permutation = torch.as_tensor(order, device=lens.device)[None]
        return [ShuffleValues(layers=_tuple(layers), permutation=permutation, what=what)]

    return _in_force(lens, f"shuffle_values({source}{_where(layers, None)},{what}@{seed})", resolve)


def _sources(names: Sources) -> tuple[Source, ...]:
    if names == "all":
        return tuple(SOURCES)
    listed: Sequence[Source] = [names] if isinstance(names, str) else names  # type: ignore[list-item]
    if not listed:
        raise BadInput("no span is named", present=", ".join(SOURCES), fix="name at least one, or pass 'all'")
    for name in listed:
        if name not in SOURCES:
            raise UnknownName.among("source", name, SOURCES)
    return tuple(listed)


def _check(lens: SpeechLM, layers: Sequence[int] | None, heads: Sequence[int] | None) -> None:
    for what, chosen, count in [("layer", layers, lens.n_layers), ("head", heads, lens.n_heads)]:
        wrong = [one for one in chosen or () if not 0 <= one < count]
        if wrong or (chosen is not None and not len(chosen)):
            raise BadInput(
                f"there is no such {what}" if wrong else f"no {what} is named",
                given=wrong or "an empty list",
                present=f"{what}s 0 to {count - 1}",
                fix="leave it out for all of them",
            )


def query_flags(encoded: Encoded, sources: Sequence[Source], new: int = 0) -> np.ndarray:
    """Return which positions are rows of some sources [positions + new]; those of the output are what predicts it."""
    spans, flags = encoded.spans, np.zeros(len(encoded.ids) + new, dtype=bool)
    for source in sources:
        flags[spans.positions(source)] = True
    if "output" in sources:
        output = spans.positions("output")
        begin = output[0] if len(output) else len(encoded.ids)
        # The position before the first output token predicts it; the last output token predicts nothing that is kept.
        flags[begin - 1 :] = True
    return flags


def key_flags(encoded: Encoded, sources: Sequence[Source], new: int = 0) -> np.ndarray:
    """Return which positions hold some sources [positions + new]; generated tokens are output."""
    flags = np.zeros(len(encoded.ids) + new, dtype=bool)
    for source in sources:
        flags[encoded.spans.positions(source)] = True
    flags[len(encoded.ids) :] = "output" in sources
    return flags


def _frames(lens: SpeechLM, encoded: Encoded, sources: tuple[Source, ...]) -> np.ndarray:
    if encoded.encoder_spans is None:
        raise BadInput(f"{lens.name} has no encoder that its decoder looks at", fix="leave site='self'")
    flags = np.zeros(len(encoded.encoder_spans), dtype=bool)
    for source in sources:
        flags[encoded.encoder_spans.positions(source)] = True
    return flags


def _flags(lens: SpeechLM, flags: np.ndarray) -> Tensor:
    import torch

    return torch.as_tensor(flags, device=lens.device)[None]


def _tuple(numbers: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(numbers)


def _where(layers: Sequence[int] | None, heads: Sequence[int] | None) -> str:
    where = "" if layers is None else f",L{'.'.join(map(str, layers))}"
    return where + ("" if heads is None else f",H{'.'.join(map(str, heads))}")
