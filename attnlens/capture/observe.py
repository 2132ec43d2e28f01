"""Reads one call for one capture: chosen rows, then the measures asked for, into the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnlens.capture.call import Call, batched
from attnlens.capture.cuts import Cuts
from attnlens.capture.dense import Run, patch, second_pass
from attnlens.capture.edits import AblateHeads, Knockout
from attnlens.capture.record import SUM_TOLERANCE
from attnlens.capture.rows import TINY, one_hot, row_measures, softmax_rows
from attnlens.capture.sites import Site
from attnlens.capture.tape import PROBED_CALLS, Tape
from attnlens.capture.writes import Writes
from attnlens.errors import BadInput, listing

__all__ = ["Reading"]

ROUNDING = 1e-5
"""How far the float32 masses of a row of thousands of keys may be from 1 before something is wrong."""


@dataclass
class Reading:
    """One call as one capture reads it; ``mass`` [B, H, q, columns] is what widened values brought, if they did."""

    tape: Tape
    site: Site
    call: Call
    run: Run
    knockouts: Sequence[Knockout] = ()
    ablations: Sequence[AblateHeads] = ()
    mass: Tensor | None = None

    def probe(self, output: Tensor) -> None:
        """Check that weights times values give the output the model computed, at the last row that is read.

        Whatever the lens does not know of (sinks, another bias, another mask) shows here.
        """
        tape, site, call = self.tape, self.site, self.call
        rows = tape.chosen(call.query_start, call.n_queries)
        if not len(rows) or tape.probed.get(site, 0) >= PROBED_CALLS:
            return
        tape.probed[site] = tape.probed.get(site, 0) + 1
        (weights,) = softmax_rows(call, rows[-1:])
        ours = weights.times(call.value)[:, :, 0]
        theirs = output[:, int(rows[-1])].float()
        counted = tape.asked.counts(rows[-1:] + call.query_start)
        # What an implementation leaves at a padded row is nobody's business.
        kept = weights.kept if counted is None else weights.kept * counted[:, None].to(weights.kept.device)
        off = ((ours - theirs).abs() * kept).amax() / call.value.abs().amax().float().clamp_min(1e-30)
        # Under autocast the implementation computes in the precision of its output.
        tape.record.check_output(site, off, output.dtype)

    def spans(self) -> Tensor:
        """Return the span matrix [B or 1, kv, columns] of the keys, made once for all layers that share it."""
        tape, call = self.tape, self.call
        own = self.site.kind == "self"
        groups = tape.asked.groups_of(self.site.kind)
        batched(f"groups of {self.site.kind} attention", groups, len(call.query))
        if not own and groups.shape[1] != call.n_keys:
            raise BadInput(
                "cross_groups do not label the encoder's positions one to one",
                given=f"{groups.shape[1]} labels",
                present=f"{call.n_keys} keys at {self.site}",
                fix="pass one label per encoder position, padding included",
            )
        start, count, device = call.key_start, call.n_keys, call.query.device
        key = (own, start, count, device)
        if key not in tape.spans:
            tape.spans.clear()
            tape.spans[key] = one_hot(groups, tape.asked.n_groups, start=start, count=count, device=device)
        return tape.spans[key]

    def observe(self) -> None:
        """Read the call into the record."""
        request, call = self.tape.asked, self.call
        unknown = [head for head in request.heads or () if head >= len(call.heads)]
        if unknown:
            raise BadInput(
                "there is no such head to read",
                given=listing(unknown),
                present=f"heads 0 to {len(call.heads) - 1} at {self.site}",
                fix="pass heads of the model, counted from 0",
            )
        rows = self.tape.chosen(call.query_start, call.n_queries)
        if len(rows) and request.method == "rows":
            self._read_rows(call.take(request.heads), rows)
        elif len(rows):
            self._read_dense(rows)

    def _read_dense(self, rows: Tensor) -> None:
        request, record, call = self.tape.asked, self.tape.record, self.call
        spans = self.spans()
        mass = (second_pass(self.run, call, spans) if self.mass is None else self.mass).float()
        kept = torch.ones_like(mass[..., 0])
        if self.knockouts:
            whole = spans.expand(len(call.query), -1, -1)
            mass, kept = patch(mass, call, Cuts(self.knockouts, call), whole, chunk=request.chunk)
        if request.heads is not None:
            mass, kept = mass[:, list(request.heads)], kept[:, list(request.heads)]
        if len(rows) < call.n_queries:
            mass, kept = mass[:, :, rows.to(mass.device)], kept[:, :, rows.to(mass.device)]
        sums = mass.sum(-1)
        limit = SUM_TOLERANCE.get(call.query.dtype, SUM_TOLERANCE[torch.bfloat16])
        # A row that may see nothing, such as padding, gets zeros from the fused kernels.
        record.check_sums(self.site, sums, torch.where(sums == 0, sums, kept), limit=limit)
        record.add(self.site, rows + call.query_start, {"mass": mass[..., : request.n_groups]})

    def _read_rows(self, call: Call, rows: Tensor) -> None:
        request, record, site = self.tape.asked, self.tape.record, self.site
        cuts = Cuts(self.knockouts, call) if self.knockouts else None
        spans = self.spans() if "mass" in request.measures else None
        writes = Writes(self.tape, site, call, self.ablations) if request.projects else None
        received: Tensor | None = None
        found: list[dict[str, Tensor]] = []
        keep = "entropy" in request.measures
        for weights in softmax_rows(call, rows, cuts=cuts, chunk=request.chunk, keep_scores=keep):
            values = row_measures(weights, spans, request.measures, key_start=call.key_start)
            if "mass" in values:
                # Thousands of float32 terms add up to 1 within a few millionths; a wrong row is off by far more.
                # What is rounding is taken out, so that a row sums to 1 as closely as float32 can say it.
                sums = values["mass"].sum(-1)
                record.check_sums(site, sums, weights.kept, limit=ROUNDING)
                exact = torch.where(sums > 0, weights.kept / sums.clamp_min(TINY), 1.0)
                values["mass"] = values["mass"][..., : request.n_groups] * exact[..., None]
            if writes is not None:
                values |= writes.read(weights)
            if "received" in request.measures:
                if received is None:
                    received = weights.p.new_zeros(*weights.p.shape[:2], call.n_keys)
                counted = request.counts(weights.rows + call.query_start)
                received[..., : weights.end] += (
                    weights.p.sum(2)
                    if counted is None
                    else torch.einsum("bhrk,br->bhk", weights.p, counted.to(weights.p.device))
                )
            if request.query_groups is None:
                found.append(values)
            elif values:
                record.add(site, weights.rows + call.query_start, values)
        if found:
            joined = {name: torch.cat([one[name] for one in found], 2) for name in found[0]}
            record.add(site, rows + call.query_start, joined)
        if received is not None:
            record.add_received(site, call.key_start, received)
