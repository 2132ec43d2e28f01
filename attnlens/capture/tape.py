"""One open capture: what it watches, what it wants, where the forward under way stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attnlens.capture.edits import Edit, applies
from attnlens.capture.logits import FrozenNorm
from attnlens.capture.projection import Projection
from attnlens.capture.record import Record
from attnlens.capture.request import Request
from attnlens.capture.sites import Site, Sites
from attnlens.errors import BadInput, UnsupportedModel

__all__ = ["Tape"]

PROBED_CALLS = 2
"""Calls of each layer whose output is checked against the weights: the prompt and the first step of a generation."""


@dataclass(eq=False)
class Tape:
    """The state of one capture; it is in use by one thread."""

    sites: Sites
    request: Request | None
    edits: Sequence[Edit]
    record: Record
    seen: int = 0
    fresh: int = 0
    spans: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)
    projections: dict[Site, Projection] = field(default_factory=dict)
    norms: dict[str, FrozenNorm] = field(default_factory=dict)
    probed: dict[Site, int] = field(default_factory=dict)

    @property
    def asked(self) -> Request:
        """The request of a capture that is known to have one."""
        if self.request is None:
            raise BadInput("this capture was asked to read nothing", fix="pass a Request")
        return self.request

    @property
    def widens(self) -> bool:
        """Whether the values of the model carry the span matrix."""
        return self.request is not None and self.request.method == "widened"

    def reads(self, site: Site) -> bool:
        """Return whether a site is to be read."""
        asked = self.request
        return asked is not None and site.kind in asked.kinds and (asked.layers is None or site.layer in asked.layers)

    def needed(self) -> set[Site]:
        """Return the sites that must be reached for the request and the edits to mean anything."""
        edited = {site for site in self.sites.modules if any(applies(edit, site) for edit in self.edits)}
        return edited | (set() if self.request is None else set(self.request.wanted(self.sites)))

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note how many tokens the decoder has seen once the forward that now begins is done."""
        past = kwargs.get("past_key_values")
        given = [kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args]
        new = next((one for one in given if isinstance(one, Tensor)), None)
        if new is None or new.ndim == 1:
            raise UnsupportedModel(
                "the decoder's forward was called without input_ids or inputs_embeds",
                given=", ".join(kwargs) or "no arguments",
                fix="pass Sites the module whose forward takes inputs_embeds and past_key_values",
            )
        self.fresh = new.shape[1]
        self.seen = (int(past.get_seq_length()) if past is not None else 0) + self.fresh
        self.record.forwards += 1

    def starts(self, site: Site, n_queries: int, n_keys: int) -> tuple[int, int]:
        """Return the absolute positions of a call's first query and first key.

        One rule covers caches that grow, windows that drop old keys, and layers that compute the last queries only.
        """
        if site.kind == "encoder":
            return 0, 0
        if self.seen < n_queries:
            raise UnsupportedModel(
                f"{site} was reached without its decoder's forward, so positions are unknown",
                given=f"{n_queries} queries after {self.seen} tokens",
                fix="pass Sites the decoder that owns the layers, and run the model through it",
            )
        return self.seen - n_queries, max(0, self.seen - n_keys) if site.kind == "self" else 0

    def note_scale(self, name: str, before: Tensor, after: Tensor) -> None:
        """Keep the scale a norm gave to the rows asked for."""
        start = self.seen - before.shape[1]
        rows = self.chosen(start, before.shape[1])
        if len(rows):
            at = rows.to(before.device)
            with torch.no_grad():
                scale = self.norms[name].scale(before[:, at], after[:, at])
            self.record.add_scale(name, rows + start, scale)

    def chosen(self, start: int, count: int) -> Tensor:
        """Return the rows asked for among ``count`` that begin at ``start``, local, sorted, on the CPU."""
        rows = self.asked.rows
        if rows is None:
            return torch.arange(count)
        local = rows.cpu() - start
        return local[(local >= 0) & (local < count)].sort().values
