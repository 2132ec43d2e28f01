"""What is to be read: which rows, which groups of keys, which measures; refused here before any forward is run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from attnlens.capture.measures import MEASURES
from attnlens.capture.sites import KINDS, Kind, Site, Sites
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["Method", "Request"]

Method = Literal["rows", "widened", "second-pass"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Says what :func:`attnlens.capture.attention.capture` is to read.

    Parameters
    ----------
    groups
        int64 [batch or 1, n]: the group of every absolute key position of the decoder, -1 for none. Positions past n,
        such as tokens generated later, belong to no group.
    n_groups
        How many groups there are.
    rows
        int64 [rows]: the absolute query positions to read, or None for all.
    measures
        Names out of :data:`attnlens.capture.measures.MEASURES`.
    layers, heads
        Which ones, or None for all.
    method
        ``rows``: exact float32 softmax of the rows asked for. ``widened`` and ``second-pass``: masses of all rows at
        the cost of about one attention call, in the model's own precision; ``widened`` moves the logits by a
        rounding error, ``second-pass`` leaves them alone.
    query_groups, n_query_groups
        int64 [batch or 1, n], -1 for none: average over the rows of each query group instead of keeping every row.
    gold
        int64 [batch or 1, rows]: the token each row should predict, -1 for none; for ``logit_effect``.
    counted
        bool [batch, rows]: which of the rows count in each prompt, where prompts of a batch have different ones; None
        is all. The others are read too, but ``received`` leaves them out, and nothing is checked on them.
    chunk
        How many rows are worked on at once; lower it when memory is short.
    kinds
        ``self``, ``cross`` or ``encoder`` attention. Keys of the last two are labelled by ``cross_groups``.

    >>> request = Request(groups=torch.tensor([[0, 0, 1, 1]]), n_groups=2, rows=torch.tensor([3]))
    >>> request.measures
    ('mass',)
    >>> Request(groups=torch.tensor([[0, 2]]), n_groups=2)
    Traceback (most recent call last):
    attnlens.errors.BadInput: groups name a group that does not exist
      given:   group 2
      present: 2 groups, 0 to 1, and -1 for none
      fix:     raise n_groups or relabel the positions
    """

    groups: Tensor | None = None
    n_groups: int = 0
    rows: Tensor | None = None
    measures: tuple[str, ...] = ("mass",)
    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    method: Method = "rows"
    query_groups: Tensor | None = None
    n_query_groups: int = 0
    gold: Tensor | None = None
    counted: Tensor | None = None
    chunk: int = 256
    kinds: tuple[Kind, ...] = ("self",)
    cross_groups: Tensor | None = None

    def __post_init__(self) -> None:
        for name in self.measures:
            MEASURES.require(name)
        if not self.measures:
            raise BadInput("no measure is asked for", present=listing(MEASURES), fix="name at least one measure")
        if self.method not in get_args(Method):
            raise UnknownName.among("method", self.method, get_args(Method))
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownName.among("kind of attention", kind, KINDS)
        if self.chunk < 1:
            raise BadInput("chunk must be at least one row", given=self.chunk, fix="pass chunk=256 or so")
        self._check_rows()
        self._check_groups()
        self._check_measures()
        for what, numbers in (("layers", self.layers), ("heads", self.heads)):
            if numbers is not None and (not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0):
                raise BadInput(
                    f"{what} must be different numbers from 0", given=numbers, fix=f"pass {what}=None for all"
                )

    @property
    def projects(self) -> bool:
        """Whether any measure looks at what comes out of the output projection."""
        return any(MEASURES[name].projected for name in self.measures)

    def groups_of(self, kind: Kind) -> Tensor:
        """Return the key groups [batch or 1, n] that label the keys of one kind of attention."""
        groups = self.groups if kind == "self" else self.cross_groups
        if groups is None:
            name = "groups" if kind == "self" else "cross_groups"
            raise BadInput(f"the keys of {kind} attention have no labels", fix=f"pass {name}= [batch, keys]")
        return groups

    def check_sites(self, sites: Sites) -> None:
        """Refuse what a model does not have, before it is run."""
        for kind in self.kinds:
            present = sites.layers(kind)
            if not present:
                raise BadInput(
                    f"the model has no {kind} attention to read",
                    present=listing(sorted({site.kind for site in sites.modules})),
                    fix="pass kinds= of what is present",
                )
            missing = sorted(set(self.layers or ()) - set(present))
            if missing:
                raise BadInput(
                    f"there is no such {kind} layer",
                    given=listing(missing),
                    present=f"layers {present[0]} to {present[-1]}",
                    fix="pass layers of the model, counted from 0",
                )
        if self.projects:
            bare = [site for site in self.wanted(sites) if site not in sites.projections]
            if bare:
                raise BadInput(
                    "contributions need the output projection of each layer",
                    given=f"none for {listing(bare, at_most=4)}",
                    fix="pass output_projections= to Sites.of",
                )
        if "logit_effect" in self.measures and (sites.final_norm is None or sites.unembedding is None):
            raise BadInput(
                "logit_effect needs the way to the logits",
                fix="pass final_norm= and unembedding= to Sites.of",
            )

    def counts(self, rows: Tensor) -> Tensor | None:
        """Return which of some absolute ``rows`` count, float32 [batch, rows], or None where all do."""
        if self.counted is None or self.rows is None:
            return None
        return self._counted[:, rows.to(self._counted.device)]

    @cached_property
    def _counted(self) -> Tensor:
        """Whether each absolute position counts, float32 [batch, positions], made once; NaN where no row was asked."""
        rows, counted = cast(Tensor, self.rows), cast(Tensor, self.counted)
        made = torch.full((len(counted), int(rows.max()) + 1), torch.nan, device=counted.device)
        made[:, rows.to(counted.device)] = counted.float()
        return made

    def wanted(self, sites: Sites) -> list[Site]:
        """Return the sites that are to be read, by kind and layer."""
        layers = {kind: self.layers if self.layers is not None else sites.layers(kind) for kind in self.kinds}
        return [Site(layer, kind) for kind in self.kinds for layer in sorted(layers[kind])]

    def _check_rows(self) -> None:
        if self.rows is None:
            return
        _integers("rows", self.rows, dims=1)
        numbers = self.rows.tolist()
        if not numbers:
            raise BadInput("no row is selected", fix="select rows of a span that is not empty, or rows=None for all")
        if len(set(numbers)) != len(numbers):
            raise BadInput("a row is selected twice", given=listing(numbers), fix="pass each position once")
        if "encoder" in self.kinds:
            raise BadInput("rows are positions of the decoder and do not name rows of an encoder", fix="pass rows=None")
        n = None if self.groups is None else self.groups.shape[-1]
        outside = [row for row in numbers if row < 0 or (n is not None and row >= n)]
        if outside:
            raise BadInput(
                "rows lie outside the positions that groups label",
                given=listing(outside),
                present="positions from 0" if n is None else f"positions 0 to {n - 1}",
                fix="pass absolute positions; pad groups with -1 for tokens still to be generated",
            )

    def _check_groups(self) -> None:
        for kind in self.kinds:
            self.groups_of(kind)
        for name, groups, count in (
            ("groups", self.groups, self.n_groups),
            ("cross_groups", self.cross_groups, self.n_groups),
            ("query_groups", self.query_groups, self.n_query_groups),
        ):
            if groups is None:
                continue
            _integers(name, groups, dims=2)
            low, high = (int(groups.min()), int(groups.max())) if groups.numel() else (0, -1)
            if count < 1 or low < -1 or high >= count:
                raise BadInput(
                    f"{name} name a group that does not exist",
                    given=f"group {high if high >= count else low}",
                    present=f"{count} groups, 0 to {count - 1}, and -1 for none" if count > 0 else "no groups",
                    fix="raise n_groups or relabel the positions",
                )
        if self.query_groups is not None:
            chosen = self.query_groups if self.rows is None else self.query_groups[:, self.rows]
            for item, labels in enumerate(chosen):
                empty = sorted(set(range(self.n_query_groups)) - set(labels.tolist()))
                if empty:
                    raise BadInput(
                        "a query group has no rows to average",
                        given=f"group {listing(empty)} of batch item {item}",
                        fix="leave the group out, or select its rows",
                    )

    def _check_measures(self) -> None:
        if self.method != "rows" and self.measures != ("mass",):
            raise BadInput(
                f"method {self.method!r} gives the mass alone",
                given=listing(self.measures),
                fix="pass measures=('mass',), or method='rows'",
            )
        if self.query_groups is not None:
            alone = [name for name in self.measures if not MEASURES[name].averages and name != "received"]
            if alone:
                raise BadInput(
                    f"{listing(alone)} cannot be averaged over query groups",
                    given="query_groups",
                    fix="ask for it in a request of its own, row by row",
                )
        if self.counted is not None and (self.rows is None or self.counted.shape[1:] != (len(self.rows),)):
            raise BadInput(
                "counted says of every row whether it counts",
                given=f"shape {tuple(self.counted.shape)}, {'all' if self.rows is None else len(self.rows)} rows",
                fix="pass rows= [rows] and counted= [batch, rows]",
            )
        if "logit_effect" in self.measures:
            shape = None if self.gold is None else tuple(self.gold.shape)
            if self.rows is None or shape is None or shape[1:] != (len(self.rows),):
                raise BadInput(
                    "logit_effect needs the gold token of every row",
                    given=f"gold of shape {shape}, {'all' if self.rows is None else len(self.rows)} rows",
                    fix="pass rows= [rows] and gold= [batch or 1, rows]",
                )
            if set(self.kinds) & {"encoder"}:
                raise BadInput(
                    "an encoder has no direct effect on a logit", given="kinds with 'encoder'", fix="leave it out"
                )


def _integers(name: str, tensor: Tensor, *, dims: int) -> None:
    if tensor.dtype != torch.int64 or tensor.ndim != dims:
        raise BadInput(
            f"{name} must be int64 with {dims} dimension{'s' if dims > 1 else ''}",
            given=f"{tensor.dtype} of shape {tuple(tensor.shape)}",
            fix="pass positions or labels as torch.long",
        )
