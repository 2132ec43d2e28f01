"""Reading tokens after a prompt to see how probable they were: in packs, one after another, or in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Encoded
from attnlens.errors import UnsupportedModel, listing
from attnlens.models.backend import BaseBackEnd
from attnlens.models.prefix import CausalModel, Prefix

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["ANY_STOP", "Around", "Item", "Job", "Layout", "Method", "not_packed", "reader"]

Method = Literal["auto", "packed", "sequential", "full"]
PROMPT = -1
"""Stands in a layout for the prompt's own rows."""
ANY_STOP = -1
"""Stands among the targets for whichever token ends an answer."""
ROWS = 128
"""How many rows are unembedded at a time, so that a large vocabulary costs no large matrix of logits."""


@dataclass(frozen=True)
class Layout:
    """What the rows of one forward pass are, for whoever watches or edits it.

    ``hypothesis`` [rows] is an index into the hypotheses passed (of duplicates the first), -1 for the prompt.
    ``position`` [rows] is where the row would stand in a forward pass over the prompt and that hypothesis alone. The
    keys of the pass are the prompt's positions 0 .. ``cached`` - 1, then its rows.

    >>> two = Layout(np.array([0, 0, 1]), np.array([4, 5, 4]), 4)
    >>> cut = np.array([True, False, False, False, False, True])
    >>> cut[two.places].astype(int)
    array([1, 0, 0, 0, 0, 1, 0])
    """

    hypothesis: NDArray[np.int64]
    position: NDArray[np.int64]
    cached: int

    @property
    def places(self) -> NDArray[np.int64]:
        """The position of every key [cached + rows].

        What is said by position (flags, labels, values) and indexed with it is said by key of this pass, which is how
        capture and edits count.
        """
        return np.concatenate([np.arange(self.cached), self.position])


Around = Callable[[Layout], AbstractContextManager[object]]
"""Makes the context of one forward pass from what its rows are."""


@dataclass(frozen=True)
class Item:
    """One distinct hypothesis: its index in the caller's list, its tokens, and what is to be predicted."""

    index: int
    ids: tuple[int, ...]
    targets: list[int]

    @property
    def read(self) -> tuple[int, ...]:
        """The tokens that predict another target; the prompt's end predicts the first."""
        return self.ids[: len(self.targets) - 1]


@dataclass(frozen=True)
class Job:
    """One prompt and what is asked of every hypothesis after it; ``stops`` is empty where the end is not scored."""

    lens: SpeechLM
    encoded: Encoded
    stops: list[int]
    around: Around

    def run(self, items: list[Item], *, method: Method, pack: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield index and log-probabilities of each item, by as few forward passes as method and model allow."""
        if not items:
            return
        inputs = self.lens.inputs(self.encoded)
        _require_continuable(self.lens, inputs)
        model = None if method == "full" else reader(self.lens.back)
        cached = [item for item in items if model is not None and self._within_border(item)]
        if model is not None and cached:
            prefix = self._read_prompt(model, inputs)
            if not prefix.reusable:
                cached = []
            elif method == "sequential" or (method == "auto" and prefix.unpackable):
                yield from self._after(prefix, [[item] for item in cached])
            elif prefix.unpackable:
                raise not_packed(self.lens, prefix.unpackable)
            else:
                yield from self._after(prefix, _packs(cached, pack))
        done = {item.index for item in cached}
        for item in items:
            if item.index not in done:
                yield item.index, self._in_full(inputs, item)

    def _within_border(self, item: Item) -> bool:
        border, length = self.lens.cache_border, len(self.encoded.ids)
        return border is None or (length <= border) == (length + len(item.ids) <= border)

    def _read_prompt(self, model: CausalModel, inputs: dict[str, Any]) -> Prefix:
        n = len(self.encoded.ids)
        with self.around(Layout(np.full(n, PROMPT), np.arange(n), 0)):
            return Prefix.of(model, inputs, length=n)

    def _after(self, prefix: Prefix, groups: Iterable[list[Item]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        start = prefix.model.unembed(prefix.last[0])
        for group in groups:
            first = self._predicted(_as_they_are, start.expand(len(group), -1), [item.targets[0] for item in group])
            rest = self._read_pack(prefix, group)
            ends = np.cumsum([len(item.read) for item in group])
            for item, head, tail in zip(group, first, np.split(rest, ends[:-1]), strict=True):
                yield item.index, np.concatenate([[head], tail])

    def _read_pack(self, prefix: Prefix, group: list[Item]) -> NDArray[np.float32]:
        """Return log-probabilities [rows] of the targets after the first of each item, in one forward pass."""
        import torch

        lengths = [len(item.read) for item in group]
        if not sum(lengths):
            return np.zeros(0, dtype=np.float32)
        owner = np.repeat(np.arange(len(group)), lengths)
        offsets = np.concatenate([np.arange(length) for length in lengths])
        device, n = self.lens.device, prefix.length
        ids, at = (
            torch.as_tensor(array, device=device) for array in ([t for item in group for t in item.read], offsets)
        )
        mask = (
            torch.ones(1, n + len(ids), dtype=torch.long, device=device)
            if len(set(owner)) == 1
            else prefix.mask(torch.as_tensor(owner, device=device), at)
        )
        read = prefix.model.after(ids, mask=mask, positions=prefix.positions(at), cache=prefix.cache())
        with self.around(Layout(np.asarray([item.index for item in group])[owner], n + offsets, n)):
            hidden = prefix.model.read(read).last_hidden_state[0]
        return self._predicted(prefix.model.unembed, hidden, [t for item in group for t in item.targets[1:]])

    def _in_full(self, inputs: dict[str, Any], item: Item) -> NDArray[np.float32]:
        import torch

        back, n, m = self.lens.back, len(self.encoded.ids), len(item.ids)
        whole = back.extended(inputs, torch.as_tensor(item.ids, device=self.lens.device)) if m else inputs
        with self.around(Layout(np.r_[np.full(n, PROMPT), np.full(m, item.index)], np.arange(n + m), 0)):
            logits = back.logits(whole, slice(n - 1, n - 1 + len(item.targets)))[0]
        return self._predicted(_as_they_are, logits, item.targets)

    def _predicted(
        self, unembed: Callable[[Tensor], Tensor], states: Tensor, targets: list[int]
    ) -> NDArray[np.float32]:
        """Return log-probabilities [rows] of targets [rows] under states [rows, ...], a few rows at a time."""
        import torch

        parts = []
        for begin in range(0, len(targets), ROWS):
            logits = unembed(states[begin : begin + ROWS]).float()
            wanted = torch.as_tensor(targets[begin : begin + ROWS], device=logits.device)
            value = logits.gather(1, wanted.clamp(min=0)[:, None])[:, 0]
            if self.stops:
                value = torch.where(wanted == ANY_STOP, logits[:, self.stops].logsumexp(1), value)
            parts.append(value - logits.logsumexp(1))
        return torch.cat(parts).cpu().numpy()


class _Reader:
    """A family's back end as something that reads on after a cached prompt."""

    def __init__(self, back: BaseBackEnd) -> None:
        self.back = back

    @property
    def decoder(self) -> Any:
        return self.back.decoder

    def read(self, inputs: dict[str, Any]) -> Any:
        return self.back.model.base_model(**inputs, use_cache=True)

    def after(self, ids: Tensor, *, mask: Tensor | dict[str, Tensor], positions: Tensor, cache: Any) -> dict[str, Any]:
        embedded = self.back.decoder.get_input_embeddings()(ids)[None]
        return {
            "inputs_embeds": embedded,
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": cache,
        }

    def unembed(self, hidden: Tensor) -> Tensor:
        return self.back.unembedding(hidden) * self.back.logit_scale


def reader(back: BaseBackEnd) -> CausalModel | None:
    """Return how to read on after a cached prompt, or None where a back end computes logits its own way and only so."""
    if isinstance(back, CausalModel):
        return back
    return _Reader(back) if type(back).logits is BaseBackEnd.logits else None


def _require_continuable(lens: SpeechLM, inputs: dict[str, Any]) -> None:
    due = ("inputs_embeds", "attention_mask", "position_ids")
    if type(lens.back).extended is BaseBackEnd.extended and any(name not in inputs for name in due):
        raise UnsupportedModel(
            f"tokens cannot be put after the inputs of {lens.name}",
            given=listing(inputs),
            present=f"a way for {', '.join(due)}",
            fix="make inputs of those names, or give the back end an `extended` of its own",
        )


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


def not_packed(lens: SpeechLM, reason: str) -> UnsupportedModel:
    """Return the refusal of a model whose hypotheses cannot stand side by side."""
    return UnsupportedModel(
        f"hypotheses cannot be packed into one row with {lens.name}: {reason}",
        given="method='packed'",
        fix="choose method='auto' or 'sequential'",
    )


def _packs(items: list[Item], pack: int) -> Iterator[list[Item]]:
    """Group items in order, up to so many rows each; a longer one stands alone."""
    group: list[Item] = []
    rows = 0
    for item in items:
        if group and rows + len(item.read) > pack:
            yield group
            group, rows = [], 0
        group.append(item)
        rows += len(item.read)
    yield group
