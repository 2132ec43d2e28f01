"""What can be changed in the attention: knockouts, head ablations, shuffled values; plain data, checked when made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from attnlens.capture.sites import KINDS, Kind, Site, Sites
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["AblateHeads", "Edit", "Knockout", "ShuffleValues", "applies", "check_edits"]

How = Literal["mask", "zero"]
What = Literal["v", "k", "kv"]
PLANE = 2
"""Dimensions of labels over positions: batch and position."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Knockout:
    """Cuts the edges from some queries to some keys, to see whether information flows along them.

    ``queries`` and ``keys`` are boolean [batch or 1, n] over absolute positions; positions past n are not touched.
    ``how="mask"`` hides the keys before the softmax: the rest of the row takes over their weight. ``how="zero"`` drops
    their weights after it: the rest stays as it was and the row sums to less than 1. These are different experiments.
    ``layers`` and ``heads`` None means all.

    >>> tail, audio = torch.tensor([[False, False, True]]), torch.tensor([[True, False, False]])
    >>> Knockout(queries=tail, keys=audio, layers=(1,)).how
    'mask'
    """

    queries: Tensor
    keys: Tensor
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    how: How = "mask"
    kind: Kind = "self"

    def __post_init__(self) -> None:
        _common(self)
        if self.how not in get_args(How):
            raise UnknownName.among("way to knock out", self.how, get_args(How))
        for name, positions in (("queries", self.queries), ("keys", self.keys)):
            _positions(name, positions)


@dataclass(frozen=True, eq=False, kw_only=True)
class AblateHeads:
    """Replaces the output of whole heads before the output projection, to see what they were needed for.

    ``value`` is ``"zero"``, a mean [heads, head_dim], or one output per position [batch or 1, n, heads, head_dim],
    such as another prompt's. ``queries`` boolean [batch or 1, n] limits it to some rows.

    >>> AblateHeads(layers=(0,), heads=(1, 2)).value
    'zero'
    """

    layers: tuple[int, ...] | None
    heads: tuple[int, ...]
    value: Literal["zero"] | Tensor = "zero"
    queries: Tensor | None = None
    kind: Kind = "self"

    def __post_init__(self) -> None:
        _common(self)
        if self.queries is not None:
            _positions("queries", self.queries)
        if isinstance(self.value, Tensor):
            shape = tuple(self.value.shape)
            if len(shape) not in (2, 4) or shape[-2] != len(self.heads):
                raise BadInput(
                    "the value of an ablation does not fit its heads",
                    given=f"shape {shape}",
                    present=f"{len(self.heads)} heads",
                    fix="pass [heads, head_dim] or [batch or 1, n, heads, head_dim]",
                )
        elif self.value != "zero":
            raise UnknownName.among("value of an ablation", str(self.value), ["zero"], fix="pass 'zero' or a tensor")


@dataclass(frozen=True, eq=False, kw_only=True)
class ShuffleValues:
    """Moves keys or values between positions, to see whether what was written there matters or only that it was there.

    ``permutation`` int64 [batch or 1, n]: position i gets what was at ``permutation[i]``; the identity outside
    the span. ``what`` is ``"v"``, ``"k"`` or ``"kv"``; ``heads`` counts key/value heads.

    >>> ShuffleValues(layers=None, permutation=torch.tensor([[1, 0, 2]])).what
    'v'
    """

    layers: tuple[int, ...] | None
    permutation: Tensor
    what: What = "v"
    heads: tuple[int, ...] | None = None
    kind: Kind = "self"

    def __post_init__(self) -> None:
        _common(self)
        if self.what not in get_args(What):
            raise UnknownName.among("thing to shuffle", self.what, get_args(What))
        order = self.permutation
        square = order.ndim == PLANE and order.dtype == torch.int64
        if not square or not bool((order.sort(-1).values == torch.arange(order.shape[1], device=order.device)).all()):
            raise BadInput(
                "the permutation is not one: every position must occur once in each row",
                given=f"{order.dtype} of shape {tuple(order.shape)}",
                fix="pass int64 [batch or 1, n], the identity outside the span",
            )


Edit = Knockout | AblateHeads | ShuffleValues


def applies(edit: Edit, site: Site) -> bool:
    """Return whether an edit touches a site."""
    return edit.kind == site.kind and (edit.layers is None or site.layer in edit.layers)


def check_edits(edits: Sequence[Edit], sites: Sites) -> None:
    """Refuse edits of layers that the model does not have, before it is run."""
    for edit in edits:
        present = sites.layers(edit.kind)
        missing = sorted(set(edit.layers or ()) - set(present))
        if not present or missing:
            raise BadInput(
                f"there is no such {edit.kind} layer to edit",
                given=f"{type(edit).__name__} of layers {listing(missing) or 'all'}",
                present=f"layers {present[0]} to {present[-1]}" if present else f"no {edit.kind} attention",
                fix="pass layers of the model, counted from 0",
            )


def _common(edit: Edit) -> None:
    if edit.kind not in KINDS:
        raise UnknownName.among("kind of attention", edit.kind, KINDS)
    for what, numbers in (("layers", edit.layers), ("heads", edit.heads)):
        if numbers is not None and (not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0):
            raise BadInput(
                f"{what} of an edit must be different numbers from 0", given=numbers, fix=f"name some {what}"
            )


def _positions(name: str, positions: Tensor) -> None:
    if positions.dtype != torch.bool or positions.ndim != PLANE:
        raise BadInput(
            f"{name} must be boolean [batch or 1, n]",
            given=f"{positions.dtype} of shape {tuple(positions.shape)}",
            fix="pass a mask over absolute positions",
        )
    if not bool(positions.any()):
        raise BadInput(f"{name} select no position: the edit would do nothing", fix="select a span that is not empty")
