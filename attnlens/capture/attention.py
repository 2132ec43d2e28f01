"""The one attention function: the model's own output untouched, statistics beside it, edits through it.

The output comes from the implementation the model already uses. Without an open capture nothing is registered; with
one, modules that it does not watch pass straight through. Captures live in a context variable: other threads do not see
them, and one opened inside a greenlet, such as the body of an nnsight trace, is not seen by the model. Open it outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from attnlens.capture.call import Call, read_call
from attnlens.capture.cuts import Cuts, ablate, shuffle
from attnlens.capture.dense import widened
from attnlens.capture.edits import AblateHeads, Edit, Knockout, ShuffleValues, applies, check_edits
from attnlens.capture.logits import freeze
from attnlens.capture.observe import Reading
from attnlens.capture.record import Record
from attnlens.capture.registration import Passed, installed
from attnlens.capture.request import Request
from attnlens.capture.rows import softmax_rows
from attnlens.capture.sites import Site, Sites
from attnlens.capture.tape import Tape
from attnlens.errors import BadInput

__all__ = ["capture"]

_OPEN: ContextVar[tuple[Tape, ...]] = ContextVar("attnlens_open_captures", default=())


@contextmanager
def capture(sites: Sites, request: Request | None = None, edits: Sequence[Edit] = ()) -> Iterator[Record]:
    """Read and edit the attention of every forward of a model that is run inside the block.

    With nothing but a request of method ``rows`` the logits are bit-identical to the bare model's. Captures nest:
    edits of the outer ones apply inside, and statistics see the edited pattern. Everything is undone at the end of the
    block, also after an exception.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> model = LlamaModel(LlamaConfig(vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
    ...                                num_attention_heads=4, num_key_value_heads=2)).eval()
    >>> sites = Sites.of(model, layers=[layer.self_attn for layer in model.layers])
    >>> request = Request(groups=torch.tensor([[0, 0, 1, 1]]), n_groups=2, rows=torch.tensor([3]))
    >>> with torch.no_grad(), capture(sites, request) as record:
    ...     _ = model(torch.tensor([[1, 2, 3, 4]]))
    >>> mass = record.stacked("mass")
    >>> mass.shape
    torch.Size([2, 1, 4, 1, 2])
    >>> bool((mass.sum(-1) - 1).abs().max() < 1e-6)
    True
    """
    edits = tuple(edits)
    check_edits(edits, sites)
    if request is not None:
        request.check_sites(sites)
    record = Record(sites, request)
    tape = Tape(sites, request, edits, record)
    if request is not None and request.method == "widened":
        for other in _OPEN.get():
            if other.widens and any(sites.find(module) for module in other.sites.modules.values()):
                raise BadInput(
                    "two captures want to widen the values of the same model",
                    fix="use method='second-pass' for one of them",
                )
    with ExitStack() as undo:
        undo.enter_context(installed(_attend))
        for hook in _hooks(tape):
            undo.callback(hook.remove)
        token = _OPEN.set((*_OPEN.get(), tape))
        undo.callback(_OPEN.reset, token)
        yield record
    record.check_reached(tape.needed())
    record.verify()


def _hooks(tape: Tape) -> Iterator[Any]:
    sites = tape.sites
    if sites.decoder is not None:

        def seen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # The hook is on the module, the capture in this thread: another thread's forward is none of its business.
            if tape in _OPEN.get():
                tape.begin(args, kwargs)

        yield sites.decoder.register_forward_pre_hook(seen, with_kwargs=True)
    if tape.request is None or "logit_effect" not in tape.request.measures or sites.final_norm is None:
        return
    norms = {"final": sites.final_norm}
    wanted = set(tape.request.wanted(sites))
    norms |= {str(site): module for site, module in sites.post_norms.items() if site in wanted}
    for name, norm in norms.items():

        def scale(module: nn.Module, args: tuple[Any, ...], output: Tensor, *, name: str = name) -> None:
            if tape in _OPEN.get():
                tape.note_scale(name, args[0], output)

        weight = getattr(sites.unembedding, "weight", None)
        if isinstance(weight, Tensor):
            dtype = next((one.dtype for one in norm.parameters()), weight.dtype)
            device = next((one.device for one in norm.parameters()), weight.device)
            tape.norms[name] = freeze(norm, weight.shape[-1], torch.empty(0, dtype=dtype, device=device))
        yield norm.register_forward_hook(scale)


def _attend(passed: Passed) -> tuple[Tensor, Any]:
    tapes = [(tape, site) for tape in _OPEN.get() if (site := tape.sites.find(passed.module)) is not None]
    for tape, site in tapes:
        tape.record.reached.add(site)
    edits = [edit for tape, site in tapes for edit in tape.edits if applies(edit, site)]
    readers = [(tape, site) for tape, site in tapes if tape.reads(site)]
    if not edits and not readers:
        return passed.run(*passed.tensors)

    call = _call(passed, *tapes[-1])
    for edit in edits:
        if isinstance(edit, ShuffleValues):
            call = shuffle(call, edit)
    knockouts = [edit for edit in edits if isinstance(edit, Knockout)]
    ablations = [edit for edit in edits if isinstance(edit, AblateHeads)]
    readings = [Reading(tape, site, call, passed.run, knockouts, ablations) for tape, site in readers]
    wide = next((one for one in readings if one.tape.widens), None)
    if wide is None:
        output, weights = passed.run(call.query, call.key, call.value)
    else:
        output, weights, wide.mass = widened(passed.run, call, wide.spans())
    for one in readings:
        _read(one, one.probe, output)
    if knockouts:
        output, weights = _recompute(call, knockouts, output), None
    for ablation in ablations:
        output = ablate(output, ablation, call)
    for one in readings:
        _read(one, one.observe)
    return output, weights


def _call(passed: Passed, tape: Tape, site: Site) -> Call:
    query, key, _ = passed.tensors
    query_start, key_start = tape.starts(site, query.shape[2], key.shape[2])
    return read_call(
        passed.module,
        passed.tensors,
        passed.mask,
        passed.options,
        style=passed.implementation.mask_style(),
        query_start=query_start,
        key_start=key_start,
    )


def _recompute(call: Call, knockouts: list[Knockout], output: Tensor) -> Tensor:
    rows = Cuts(knockouts, call).rows()
    if not len(rows):
        return output
    every = any(one.heads is None for one in knockouts)
    part = call if every else call.take(sorted({head for one in knockouts for head in one.heads or ()}))
    cuts = Cuts(knockouts, part)
    heads = torch.tensor(part.heads, device=output.device)
    output = output.clone()
    with torch.autocast(call.query.device.type, enabled=False):
        for weights in softmax_rows(part, rows, cuts=cuts):
            at = weights.rows.to(output.device)
            output[:, at[:, None], heads] = weights.times(part.value).transpose(1, 2).to(output.dtype)
    return output


def _read(reading: Reading, read: Callable[..., None], *args: Tensor) -> None:
    call, request = reading.call, reading.tape.asked
    try:
        with torch.no_grad(), torch.autocast(call.query.device.type, enabled=False):
            read(*args)
    except RuntimeError as error:
        # The CPU allocator has no exception of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        lower = max(1, request.chunk // 4)
        raise BadInput(
            f"not enough memory to read {', '.join(request.measures)} of {call.n_queries} rows and {call.n_keys} keys",
            given=f"{reading.site}, {len(call.heads)} heads, chunk={request.chunk}, method={request.method!r}",
            fix=f"lower chunk to {lower}, select rows, layers or heads, or average over query_groups",
        ) from error
