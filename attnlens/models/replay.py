"""One prompt with its answer, read again and again under edits; what stands before an edit is read once."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.errors import BadInput
from attnlens.models.hooks import HookPoint
from attnlens.models.prefix import Prefix
from attnlens.models.rows import rows_of
from attnlens.models.teacher_forcing import reader

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.capture.edits import Edit
    from attnlens.models.speechlm import SpeechLM

__all__ = ["INPUT", "Replay", "Stream"]

INPUT = -1
"""Stands for what the first layer reads, where layers are counted from 0."""
SLICED = {"inputs_embeds", "attention_mask", "position_ids"}
"""Inputs that say nothing but what stands where, so that a part of them can be read on its own."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Puts other values in the residual stream after a layer: ``values`` [positions, hidden] at ``positions``."""

    layer: int
    positions: np.ndarray
    values: Tensor


class Replay:
    """Ask what the reference costs, under many edits of one prompt.

    The clean prompt is read once. An edit that touches rows from some position on leaves all before as it was, so only
    the rest is read again, over the keys and values that are kept; the result is that of a whole pass, but for
    rounding. Where a model's cache cannot be cut (sliding windows, running states) whole passes are made.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens, prompt = load("tiny:qwen3-asr"), probe()
    >>> replay = Replay(lens, lens.encode(prompt, prompt.target.text))
    >>> abs(replay.clean - lens.trace(prompt).nll.item()) < 1e-4
    True
    """

    def __init__(self, lens: SpeechLM, encoded: Encoded) -> None:
        import torch

        if not len(encoded.spans.positions("output")):
            raise BadInput("there is no answer to read along", fix="encode the prompt with its output")
        self.lens, self.encoded = lens, encoded
        self.rows = rows_of(encoded.spans, "output")
        self.gold = torch.as_tensor(encoded.ids[self.rows + 1], device=lens.device)
        self.inputs = lens.inputs(encoded)

    def __len__(self) -> int:
        return len(self.encoded.ids)

    @property
    def tokens(self) -> int:
        """How many tokens the answer has."""
        return len(self.rows)

    @cached_property
    def clean(self) -> float:
        """What the answer costs in nats, with nothing changed."""
        return self._cost(self._whole[1])

    def nll(self, edits: Sequence[Edit] = (), *, streams: Sequence[Stream] = ()) -> float:
        """Return what the answer costs in nats under edits of attention and of the residual stream."""
        import torch

        if not edits and not streams:
            return self.clean
        first = min([_first(edit) for edit in edits] + [int(one.positions[0]) for one in streams] + [int(self.rows[0])])
        cache = self._cache(first)
        begin = 0 if cache is None else first
        inputs = dict(self.inputs)
        for one in streams:
            if one.layer == INPUT:
                inputs["inputs_embeds"] = self._put(inputs["inputs_embeds"], one, 0)
        with torch.no_grad(), self._edited(edits), self._replaced(streams, begin):
            if cache is None:
                return self._cost(self._logits(inputs))
            part = {name: value[..., begin:] for name, value in inputs.items() if name == "position_ids"}
            part |= {"inputs_embeds": inputs["inputs_embeds"][:, begin:], "attention_mask": inputs["attention_mask"]}
            model = reader(self.lens.back)
            assert model is not None  # noqa: S101 - there is a cache
            hidden = model.read({**part, "past_key_values": cache}).last_hidden_state
            return self._cost(model.unembed(hidden[0, self.rows - begin]))

    def streams(self, layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the residual stream after some layers of the clean prompt, [positions, hidden] each."""
        import torch

        found: dict[int, Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_module: Any, _args: Any, output: Any) -> None:
                found[layer] = HookPoint.tensor(output)[0].detach().clone()

            return hook

        if INPUT in layers:
            self._require_embeddings()
            found[INPUT] = self.inputs["inputs_embeds"][0].detach().clone()
        hooks = [self._module(layer).register_forward_hook(keep(layer)) for layer in layers if layer != INPUT]
        try:
            if hooks:
                with torch.no_grad():
                    self._logits(self.inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def received(self, queries: np.ndarray) -> np.ndarray:
        """Return the mean weight that each key gets from some rows [layers, keys], averaged over heads.

        ``queries`` is boolean [positions].
        """
        import torch

        from attnlens.capture.attention import capture
        from attnlens.capture.request import Request

        rows = torch.as_tensor(np.flatnonzero(queries), device=self.lens.device)
        nothing = torch.full((1, len(self)), -1, device=self.lens.device)
        request = Request(groups=nothing, n_groups=1, rows=rows, measures=("received",))
        with torch.no_grad(), capture(self.lens.sites, request) as record:
            self._logits(self.inputs)
        found = record.stacked("received", "self")[:, 0].float().mean(1).cpu().numpy()
        return np.pad(found, ((0, 0), (0, len(self) - found.shape[1]))) / max(len(rows), 1)

    @cached_property
    def _whole(self) -> tuple[Any, Tensor]:
        """Return the clean prompt's cache, where it can be cut, and the logits of the answer."""
        import torch

        model = reader(self.lens.back)
        if model is None or set(self.inputs) - SLICED or "position_ids" not in self.inputs:
            return None, self.lens.logits(self.inputs, keep=torch.as_tensor(self.rows))[0]
        with torch.no_grad():
            made = model.read(self.inputs)
            hidden = made.last_hidden_state
            prefix = Prefix(model, len(self), hidden[:, -1:], torch.zeros(0), 0, made.past_key_values)
            plain = prefix.reusable and all(
                not layer.is_sliding and (layer.keys is None or layer.keys.shape[-2] == len(self))
                for layer in prefix.self_attention.layers
            )
            border = self.lens.cache_border
            usable = plain and border is None and prefix.self_attention is prefix.stored
            return (prefix if usable else None), model.unembed(hidden[0, self.rows])

    def _cache(self, first: int) -> Any:
        prefix = self._whole[0]
        if prefix is None or not first:
            return None
        cut = copy.copy(prefix.self_attention)
        cut.layers = [_cut(layer, first) for layer in cut.layers]
        return Prefix(prefix.model, first, prefix.last, prefix.following, 0, cut).cache()

    def _logits(self, inputs: Mapping[str, Any]) -> Tensor:
        import torch

        return self.lens.logits(dict(inputs), keep=torch.as_tensor(self.rows))[0]

    def _cost(self, logits: Tensor) -> float:
        logprobs = logits.float().log_softmax(-1)
        return -float(logprobs.gather(-1, self.gold[:, None]).sum(dtype=logprobs.dtype).double())

    @contextlib.contextmanager
    def _edited(self, edits: Sequence[Edit]) -> Iterator[None]:
        if not edits:
            yield
            return
        from attnlens.capture.attention import capture

        with capture(self.lens.sites, None, edits):
            yield

    @contextlib.contextmanager
    def _replaced(self, streams: Sequence[Stream], begin: int) -> Iterator[None]:
        hooks: list[Any] = []

        def put(one: Stream) -> Any:
            def hook(_module: Any, _args: Any, output: Any) -> Any:
                changed = self._put(HookPoint.tensor(output), one, begin)
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            return hook

        try:
            inside = [one for one in streams if one.layer != INPUT]
            hooks.extend(self._module(one.layer).register_forward_hook(put(one)) for one in inside)
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _put(self, stream: Tensor, one: Stream, begin: int) -> Tensor:
        import torch

        self._require_embeddings()
        changed = stream.clone()
        at = torch.as_tensor(one.positions - begin, device=stream.device)
        changed[0, at] = one.values.to(stream)
        return changed

    def _module(self, layer: int) -> Any:
        if not 0 <= layer < self.lens.n_layers:
            raise BadInput(
                f"there is no layer {layer}",
                present=f"layers 0 to {self.lens.n_layers - 1}, and {INPUT} for the input",
                fix="count from 0",
            )
        return self.lens.layers[layer].module

    def _require_embeddings(self) -> None:
        if "inputs_embeds" not in self.inputs:
            raise BadInput(
                f"{self.lens.name} is not given embeddings, so a span of them cannot be replaced",
                fix="ablate from the prompt or from attention",
            )


def _first(edit: Edit) -> int:
    """Return the first position an edit touches."""
    queries = getattr(edit, "queries", None)
    return 0 if queries is None else int(queries[0].nonzero()[0, 0])


def _cut(layer: Any, first: int) -> Any:
    twin = copy.copy(layer)
    if layer.keys is not None:
        twin.keys, twin.values = layer.keys[..., :first, :], layer.values[..., :first, :]
    return twin
