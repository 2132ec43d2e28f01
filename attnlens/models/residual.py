"""The residual stream: patching and the logit lens, through nnsight, which no other module imports.

nnsight changes a model when it wraps it and mounts helpers on builtins when imported, so both happen when asked for.
Its traces run in a greenlet of their own, where a capture opened inside would not be seen: open captures outside. Two
threads may not trace one model at once, hence a lock per model. Remote execution is not promised.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput
from attnlens.models.hooks import HookPoint
from attnlens.models.rows import rows_of

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["logit_lens", "patched_logits", "wrapped"]

_LOCKS: weakref.WeakKeyDictionary[Any, threading.RLock] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


def _lock(model: Any) -> threading.RLock:
    with _GUARD:
        return _LOCKS.setdefault(model, threading.RLock())


def wrapped(lens: SpeechLM) -> Any:
    """Return the model as nnsight sees it, wrapped once; ``lens.layers[i].residual.path`` names places in it."""
    import nnsight

    with _lock(lens.model):
        if "_nnsight" not in lens.__dict__:
            with warnings.catch_warnings():
                # A submodule called `output` is renamed in nnsight's tree; none of our hook points lies below one.
                warnings.filterwarnings("ignore", message=".*has a submodule named 'output'")
                lens.__dict__["_nnsight"] = nnsight.NNsight(lens.model)
        return lens.__dict__["_nnsight"]


def patched_logits(
    lens: SpeechLM, prompt: Prompt, source: Prompt, *, span: Source, layer: int, output: str | None = None
) -> Tensor:
    """Return the logits [output tokens, vocabulary] of a prompt whose residual stream at a span is another prompt's.

    The stream after ``layer`` at the span's positions is replaced by what the source prompt has there. Both spans must
    have as many positions: patch between prompts that differ in content, not in length (a control of the same prompt).

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens, clean = load("tiny:qwen2-audio"), probe()
    >>> same = patched_logits(lens, clean, clean, span="demo_text", layer=1, output="suti")
    >>> bool((same == output_logits(lens, lens.encode(clean, "suti"))).all())
    True
    """
    import nnsight
    import torch

    answer = prompt.target.text if output is None else output
    into, donor = lens.encode(prompt, answer), lens.encode(source, answer)
    there, here = into.spans.positions(span), donor.spans.positions(span)
    if not len(there) or len(there) != len(here):
        raise BadInput(
            f"the span {span!r} cannot be patched from {source.target.id!r} into {prompt.target.id!r}",
            given=f"{len(here)} positions",
            present=f"{len(there)} positions",
            fix="patch between prompts of equal spans, such as a prompt and its control",
        )
    if not 0 <= layer < lens.n_layers:
        raise BadInput(f"there is no layer {layer}", present=f"layers 0 to {lens.n_layers - 1}", fix="count from 0")
    place = lens.layers[layer].residual.path
    model = wrapped(lens)
    to, of = torch.as_tensor(there, device=lens.device), torch.as_tensor(here, device=lens.device)
    with _lock(lens.model), torch.no_grad():
        inputs = lens.inputs(donor)
        with model.trace(**inputs):
            stream = nnsight.save(HookPoint.tensor(_at(model, place).output)[:, of])
        inputs = lens.inputs(into)
        with model.trace(**inputs):
            HookPoint.tensor(_at(model, place).output)[:, to] = stream
            logits = nnsight.save(model.output.logits)
    return _scaled(lens, logits)[0, torch.as_tensor(rows_of(into.spans, "output"))]


def output_logits(lens: SpeechLM, encoded: Encoded) -> Tensor:
    """Return the logits [output tokens, vocabulary] that predict the output of an encoded prompt, untouched."""
    import torch

    return lens.logits(lens.inputs(encoded), keep=torch.as_tensor(rows_of(encoded.spans, "output")))[0]


def logit_lens(
    lens: SpeechLM, prompt: Prompt, *, output: str | None = None, layers: Sequence[int] | None = None
) -> xr.Dataset:
    """Read each layer's residual stream as if it were the last: what would be answered if the model stopped there?

    Returns ``logprob`` and ``rank`` of every output token (dims ``layer``, ``token``), with the final norm and the
    unembedding applied to the stream after each layer. The last layer's row is the model's own answer.
    """
    import nnsight
    import torch
    import xarray as xr

    answer = prompt.target.text if output is None else output
    encoded = lens.encode(prompt, answer)
    rows = torch.as_tensor(rows_of(encoded.spans, "output"), device=lens.device)
    chosen = list(range(lens.n_layers)) if layers is None else list(layers)
    model = wrapped(lens)
    norm, unembedding = lens.sites.final_norm, lens.sites.unembedding
    if norm is None or unembedding is None:
        raise BadInput(f"{lens.name} names no final norm and unembedding", fix="pass them when wrapping the model")
    streams = []
    with _lock(lens.model), torch.no_grad():
        inputs = lens.inputs(encoded)
        with model.trace(**inputs):
            # A comprehension would be a frame of its own, which the recompiled body of a trace does not see into.
            for layer in chosen:
                streams.append(  # noqa: PERF401
                    nnsight.save(HookPoint.tensor(_at(model, lens.layers[layer].residual.path).output)[0, rows])
                )
        logits = torch.stack([_scaled(lens, unembedding(norm(stream))) for stream in streams]).float()
    gold = torch.as_tensor(encoded.ids[encoded.spans.positions("output")], device=lens.device)
    logprobs = logits.log_softmax(-1)
    of_gold = logprobs.gather(-1, gold.expand(len(chosen), -1)[..., None])
    ranks = (logprobs > of_gold).sum(-1)
    return xr.Dataset(
        {
            "logprob": (("layer", "token"), of_gold[..., 0].cpu().numpy()),
            "rank": (("layer", "token"), ranks.cpu().numpy().astype(np.int64)),
        },
        coords={"layer": chosen, "token": lens.front.strings(encoded.ids[encoded.spans.positions("output")])},
    )


def _scaled(lens: SpeechLM, logits: Tensor) -> Tensor:
    return logits * lens.back.logit_scale


def _at(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model
