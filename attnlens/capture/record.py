"""What a capture has read: collected call by call, checked, and handed out as tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from attnlens.capture.call import batched
from attnlens.capture.measures import MEASURES
from attnlens.capture.request import Method, Request
from attnlens.capture.rows import window
from attnlens.capture.sites import Kind, Site, Sites
from attnlens.errors import BadInput, SelfCheckFailed, UnknownName, UnsupportedModel, listing

__all__ = ["Record"]

TOLERANCE = {torch.float32: 5e-4, torch.float64: 5e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""How far the output may lie from weights times values, as a share of the largest value."""

SUM_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""How far the masses of a row may be from 1 where they are made by the model's own kernel, in its own precision."""


class Record:
    """What :func:`attnlens.capture.attention.capture` yields; ask it for tensors once the forward has been run.

    Attributes ``request`` and ``method`` say how the numbers came about.
    """

    def __init__(self, sites: Sites, request: Request | None) -> None:
        self.sites = sites
        self.request = request
        self.forwards = 0
        self.reached: set[Site] = set()
        self._rows: dict[Site, list[int]] = defaultdict(list)
        self._values: dict[Site, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        self._sums: dict[Site, dict[str, Tensor]] = defaultdict(dict)
        self._counts: dict[Site, Tensor] = {}
        self._received: dict[Site, Tensor] = {}
        self._scales: dict[str, dict[int, Tensor]] = defaultdict(dict)
        self._off: dict[Site, list[tuple[Tensor, float, str]]] = defaultdict(list)

    @property
    def method(self) -> Method | None:
        """How the rows were computed, or None where nothing was asked for."""
        return None if self.request is None else self.request.method

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that :meth:`stacked` stacks for the first kind asked for."""
        asked = self._asked()
        return tuple(site.layer for site in asked.wanted(self.sites) if site.kind == asked.kinds[0])

    @property
    def rows(self) -> Tensor:
        """The absolute query positions [rows] that :meth:`stacked` gives for the first kind asked for, in order."""
        asked = self._asked()
        return torch.tensor(sorted(self._common_rows(asked.kinds[0])), dtype=torch.int64)

    def stacked(self, measure: str, kind: Kind = "self") -> Tensor:
        """Return one measure of all layers, rows of all forwards in the order of their positions.

        The shape is [layers, batch, heads] and then [rows, groups] for mass, contribution and logit_effect, [rows] for
        entropy, max and argmax, [keys] for received. With query groups, rows are query groups.
        """
        asked = self._asked()
        if measure not in asked.measures:
            MEASURES.require(measure)
            raise UnknownName.among("measure of this record", measure, asked.measures, fix="ask for it in the request")
        if kind not in asked.kinds:
            raise UnknownName.among("kind of this record", kind, asked.kinds, fix="ask for it in the request")
        self.verify()
        if self.forwards == 0 and not self.reached:
            raise BadInput(
                "nothing was captured", given="no forward of the model", fix="run the model inside the capture"
            )
        sites = [site for site in asked.wanted(self.sites) if site.kind == kind]
        if measure == "received":
            width = max(self._received[site].shape[-1] for site in sites)
            return torch.stack([_widen(self._received[site], width) for site in sites])
        if asked.query_groups is not None:
            return torch.stack([self._averaged(site, measure) for site in sites])
        positions = self._common_rows(kind)
        self._check_complete(positions, kind)
        order = torch.tensor(sorted(range(len(positions)), key=positions.__getitem__), dtype=torch.int64)
        joined = [torch.cat(self._values[site][measure], 2) for site in sites]
        stacked = torch.stack([one.index_select(2, order.to(one.device)) for one in joined])
        return stacked * self._scale(sites, sorted(positions)) if measure == "logit_effect" else stacked

    def verify(self) -> None:
        """Refuse the record if rows did not sum to 1 or the weights do not explain the output of the attention."""
        for site, found in self._off.items():
            for off, limit, what in found:
                if not float(off) <= limit:
                    raise SelfCheckFailed(
                        f"{what} at {site}",
                        given=f"off by {float(off):.1e}",
                        present=f"at most {limit:.0e} is rounding",
                        fix="this model's attention is not softmax(q k + mask) v as the lens sees it; do not trace it",
                    )
        self._off.clear()

    def check_reached(self, needed: set[Site]) -> None:
        """Refuse sites that no call came from, although the model was run: their attention bypasses the interface."""
        missed = sorted(needed - self.reached)
        if self.forwards and missed:
            module = self.sites.modules[missed[0]]
            kind = missed[0].kind
            raise UnsupportedModel(
                f"layers {listing(site.layer for site in missed if site.kind == kind)} ({kind}) were never reached",
                given=f"{type(module).__name__} with attention "
                f"{getattr(getattr(module, 'config', None), '_attn_implementation', 'of its own')!r}",
                fix="the module does not call its attention through transformers' interface: load it with attn='sdpa',"
                " or leave its layers out",
            )

    def add(self, site: Site, positions: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add rows at absolute ``positions`` [rows]: every value is [B, heads, rows, ...]."""
        asked = self._asked()
        if asked.query_groups is not None:
            self._add_to_groups(site, positions, values)
            return
        new = positions.tolist()
        twice = set(new) & set(self._rows[site])
        if twice:
            raise BadInput(
                "rows were computed twice within one capture",
                given=f"positions {listing(sorted(twice), at_most=6)} at {site}",
                fix="open one capture per forward; generate with the key/value cache on",
            )
        self._rows[site] += new
        for name, value in values.items():
            self._values[site][name].append(value)

    def add_received(self, site: Site, start: int, received: Tensor) -> None:
        """Add the weight [B, heads, keys] that keys from the absolute position ``start`` received."""
        width = start + received.shape[-1]
        old = self._received.get(site)
        total = received.new_zeros(*received.shape[:-1], width) if old is None else _widen(old, width)
        total[..., start:width] += received
        self._received[site] = total

    def add_scale(self, name: str, positions: Tensor, scale: Tensor) -> None:
        """Add what a norm divided rows by: ``scale`` [B, rows] at absolute positions; for logit_effect."""
        for at, position in enumerate(positions.tolist()):
            self._scales[name][position] = scale[:, at]

    def check_sums(self, site: Site, sums: Tensor, expected: Tensor, *, limit: float) -> None:
        """Note how far the masses of rows [B, heads, rows] are from what they must sum to."""
        self._off[site].append(((sums - expected).abs().max(), limit, "the masses of a row do not sum to 1"))

    def check_output(self, site: Site, off: Tensor, dtype: torch.dtype) -> None:
        """Note how far the attention output is from weights times values, as a share of the largest value."""
        limit = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
        self._off[site].append((off, limit, "the attention weights do not explain the attention output"))

    def _asked(self) -> Request:
        if self.request is None:
            raise BadInput("this capture was asked to read nothing", given="request=None", fix="pass a Request")
        return self.request

    def _common_rows(self, kind: Kind) -> list[int]:
        sites = [site for site in self._asked().wanted(self.sites) if site.kind == kind]
        first = self._rows[sites[0]]
        for site in sites:
            if self._rows[site] != first:
                raise UnsupportedModel(
                    "the layers computed different rows, so they cannot be stacked",
                    given=f"{len(self._rows[site])} rows at {site}",
                    present=f"{len(first)} rows at {sites[0]}",
                    fix="run forward instead of generate, or ask for the rows that every layer computes",
                )
        return first

    def _check_complete(self, positions: list[int], kind: Kind) -> None:
        asked = self._asked()
        wanted = set() if asked.rows is None else set(asked.rows.tolist())
        # Generation may end before the last row that was asked for; a gap, or a single forward, may not.
        end = max(positions, default=-1)
        missing = sorted(row for row in wanted - set(positions) if self.forwards <= 1 or row < end)
        if missing or not positions:
            raise BadInput(
                f"rows of {kind} attention were never computed",
                given=f"rows {listing(missing or sorted(wanted), at_most=6)}",
                present=f"rows up to {end}" if positions else "no row",
                fix="run the forward over all rows asked for, inside the capture",
            )

    def _add_to_groups(self, site: Site, positions: Tensor, values: Mapping[str, Tensor]) -> None:
        asked = self._asked()
        groups = asked.query_groups
        first = next(iter(values.values()))
        if groups is None or not len(positions):
            return
        batch, device = len(first), first.device
        batched("query_groups", groups, batch)
        labels = window(groups, 0, int(positions[-1]) + 1, fill=-1)[:, positions].to(device).expand(batch, -1)
        member = torch.nn.functional.one_hot(labels + 1, asked.n_query_groups + 1)[..., 1:].float()
        count = member.sum(1)
        self._counts[site] = self._counts[site] + count if site in self._counts else count
        sums = self._sums[site]
        for name, value in values.items():
            total = torch.einsum("bhr...,brq->bhq...", value.float(), member)
            sums[name] = sums[name] + total if name in sums else total

    def _averaged(self, site: Site, measure: str) -> Tensor:
        counts = self._counts.get(site)
        if counts is None or bool((counts == 0).any()):
            raise BadInput(
                "a query group has no rows among those computed",
                given=f"{site}",
                fix="run the forward over the rows of every query group",
            )
        total = self._sums[site][measure]
        return total / counts[:, None].reshape(len(counts), 1, -1, *[1] * (total.ndim - 3))

    def _scale(self, sites: list[Site], positions: list[int]) -> Tensor:
        final = torch.stack([self._scales["final"][row] for row in positions], -1)[:, None]
        scales = []
        for site in sites:
            own = self._scales.get(str(site))
            scales.append(final * torch.stack([own[row] for row in positions], -1)[:, None] if own else final)
        return (torch.stack(scales) * self.sites.residual_multiplier)[..., None]


def _widen(received: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(received, (0, max(0, width - received.shape[-1])))
