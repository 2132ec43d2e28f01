"""Carries out the edits on one call: hides and drops keys, recomputes the rows touched, replaces heads, moves keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnlens.capture.call import MASKED, Call, batched
from attnlens.capture.edits import AblateHeads, Knockout, ShuffleValues
from attnlens.errors import BadInput, listing

__all__ = ["Cuts", "ablate", "ablated_rows", "shuffle"]

MEAN_DIMS = 2


@dataclass(frozen=True)
class Cut:
    """A knockout laid over one call: ``queries`` [B, q] on the CPU, ``keys`` [B, kv] beside the keys."""

    queries: Tensor
    keys: Tensor
    heads: list[int] | None
    dropped: bool


class Cuts:
    """The knockouts of one call, as the softmax of its rows needs them; never a matrix larger than a chunk of rows."""

    def __init__(self, knockouts: Sequence[Knockout], call: Call) -> None:
        self._cuts: list[Cut] = []
        for one in knockouts:
            _known_heads(one.heads, call)
            here = None if one.heads is None else [call.heads.index(head) for head in one.heads if head in call.heads]
            if here == []:
                continue
            queries = _within(one.queries, call.query_start, call.n_queries, call).cpu()
            keys = _within(one.keys, call.key_start, call.n_keys, call)
            self._cuts.append(Cut(queries, keys, here, one.how == "zero"))

    def rows(self) -> Tensor:
        """Return the local rows that any knockout touches, sorted."""
        touched = [cut.queries.any(0) for cut in self._cuts]
        return torch.stack(touched).any(0).nonzero()[:, 0] if touched else torch.zeros(0, dtype=torch.int64)

    def hide(self, scores: Tensor, rows: Tensor) -> None:
        """Mask the cut edges in the scores [B, H, rows, end], in place."""
        for cut in self._cuts:
            if not cut.dropped:
                _fill(scores, cut, rows, MASKED)

    def drop(self, p: Tensor, rows: Tensor) -> bool:
        """Zero the cut edges in the weights [B, H, rows, end], in place; return whether there were any."""
        found = False
        for cut in self._cuts:
            if cut.dropped:
                found |= _fill(p, cut, rows, 0.0)
        return found


def _fill(target: Tensor, cut: Cut, rows: Tensor, value: float) -> bool:
    queries = cut.queries[:, rows]
    if not bool(queries.any()):
        return False
    edges = queries[:, None, :, None].to(target.device) & cut.keys[:, None, None, : target.shape[-1]]
    if cut.heads is None:
        target.masked_fill_(edges, value)
    else:
        for head in cut.heads:
            target[:, head].masked_fill_(edges[:, 0], value)
    return True


def shuffle(call: Call, edit: ShuffleValues) -> Call:
    """Return the call with keys or values moved, on copies: the tensors of the call are the cache itself."""
    heads = list(range(call.key.shape[1]) if edit.heads is None else edit.heads)
    if max(heads) >= call.key.shape[1]:
        raise BadInput(
            "there is no such key/value head to shuffle",
            given=listing(heads),
            present=f"{call.key.shape[1]} key/value heads",
            fix="heads of ShuffleValues count key/value heads, which query heads share",
        )
    first, count = call.key_start, call.n_keys
    order = edit.permutation
    grown = torch.arange(order.shape[1], max(order.shape[1], first + count), device=order.device)
    order = torch.cat([order, grown.expand(len(order), -1)], 1)[:, first : first + count].to(call.key.device) - first
    if bool((order < 0).any()) or bool((order >= count).any()):
        raise BadInput(
            "a shuffle takes keys from outside those that this call has",
            given="a permutation across the border of a sliding window, or into tokens not yet seen",
            present=f"positions {first} to {first + count - 1}",
            fix="run the whole prompt in one forward, or shuffle within the window",
        )

    def moved(tensor: Tensor) -> Tensor:
        batch, _, _, size = tensor.shape
        batched("the permutation", order, batch)
        at = order.expand(batch, -1)[:, None, :, None].expand(batch, len(heads), count, size)
        tensor = tensor.clone()
        tensor[:, heads] = tensor[:, heads].gather(2, at)
        return tensor

    return replace(
        call,
        key=moved(call.key) if "k" in edit.what else call.key,
        value=moved(call.value) if "v" in edit.what else call.value,
    )


def ablate(output: Tensor, edit: AblateHeads, call: Call) -> Tensor:
    """Return the attention output [B, q, H, dv] with some heads replaced."""
    _known_heads(edit.heads, call)
    heads = list(edit.heads)
    old = output[:, :, heads]
    if isinstance(edit.value, Tensor):
        value = edit.value.to(output)
        if value.shape[-1] != output.shape[-1]:
            raise BadInput(
                "the value of an ablation has another head size",
                given=value.shape[-1],
                present=output.shape[-1],
                fix="pass outputs of single heads, taken before the output projection",
            )
        if value.ndim > MEAN_DIMS:
            batched("the ablation value", value, len(output))
            end = call.query_start + call.n_queries
            if value.shape[1] < end:
                raise BadInput(
                    "the ablation has no value for some positions",
                    given=f"{value.shape[1]} positions",
                    present=f"positions up to {end - 1}",
                    fix="pass a value for every position, or queries= and a value padded to the sequence",
                )
            value = value[:, call.query_start : end]
        new = value.expand_as(old)
    else:
        new = torch.zeros_like(old)
    rows = ablated_rows(edit, call)
    output = output.clone()
    output[:, :, heads] = torch.where(rows[:, :, None, None], new, old)
    return output


def ablated_rows(edit: AblateHeads, call: Call) -> Tensor:
    """Return which local rows [B or 1, q] an ablation replaces."""
    if edit.queries is None:
        return torch.ones(1, call.n_queries, dtype=torch.bool, device=call.query.device)
    return _within(edit.queries, call.query_start, call.n_queries, call)


def _within(positions: Tensor, start: int, count: int, call: Call) -> Tensor:
    batched("an edit's positions", positions, len(call.query))
    missing = max(0, start + count - positions.shape[1])
    return torch.nn.functional.pad(positions.to(call.query.device), (0, missing))[:, start : start + count]


def _known_heads(heads: Sequence[int] | None, call: Call) -> None:
    # A call of some heads only is asked about the others too; only heads past the module's last are unknown.
    top = call.heads_in_module
    if heads is not None and max(heads) >= top:
        raise BadInput(
            "there is no such head to edit",
            given=listing(head for head in heads if head >= top),
            present=f"heads 0 to {top - 1}",
            fix="pass heads of the model, counted from 0",
        )
