"""Reads what the groups of one call write, with everything that does not change from chunk to chunk made once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from attnlens.capture.call import Call, batched
from attnlens.capture.contribution import KeyGroups, project
from attnlens.capture.cuts import ablated_rows
from attnlens.capture.edits import AblateHeads
from attnlens.capture.logits import directions
from attnlens.capture.projection import Projection
from attnlens.capture.rows import Weights, window
from attnlens.capture.sites import Site
from attnlens.capture.tape import Tape

__all__ = ["Writes"]


class Writes:
    """The contributions of one call, chunk by chunk."""

    def __init__(self, tape: Tape, site: Site, call: Call, ablations: Sequence[AblateHeads]) -> None:
        request = tape.asked
        self.call = call
        self.request = request
        self.ablations = ablations
        labels = window(request.groups_of(site.kind), call.key_start, call.n_keys, fill=-1)
        batched(f"groups of {site.kind} attention", labels, len(call.query))
        device = call.query.device
        self.groups = KeyGroups(labels, request.n_groups, batch=len(call.query), device=device)
        if site not in tape.projections:
            tape.projections[site] = Projection(
                tape.sites.projections[site],
                n_heads=call.heads_in_module,
                heads=call.heads,
                size=call.value.shape[-1],
                like=call.query.new_empty(0),
            )
        self.projection = tape.projections[site]
        self.direction: Tensor | None = None
        if "logit_effect" in request.measures and request.gold is not None:
            batched("gold", request.gold, len(call.query))
            gold = request.gold.expand(len(call.query), -1)
            self.direction = self.projection.pull(directions(tape.sites, gold, tape.norms, site).to(device))

    def read(self, weights: Weights) -> dict[str, Tensor]:
        """Return ``contribution`` and ``logit_effect`` [B, H, rows, groups] of a chunk, as far as asked for."""
        direction = self.direction
        rows = self.request.rows
        if direction is not None and rows is not None:
            # Columns of gold follow the order in which rows were asked for.
            order = {row: at for at, row in enumerate(rows.tolist())}
            columns = [order[row] for row in (weights.rows + self.call.query_start).tolist()]
            direction = direction[:, :, columns]
        norms = self.projection if "contribution" in self.request.measures else None
        values = project(weights, self.call, self.groups, norms=norms, direction=direction)
        for ablation in self.ablations:
            # What replaces a head's output comes from no span of this prompt: its groups write nothing.
            gone = ablated_rows(ablation, self.call).cpu()[:, weights.rows].to(weights.p.device)
            heads = [self.call.heads.index(head) for head in ablation.heads if head in self.call.heads]
            for value in values.values():
                value[:, heads] = value[:, heads].masked_fill(gone[:, None, :, None], 0.0)
        return values
