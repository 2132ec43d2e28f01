"""Ways to get masses out of one text decoder, for the capture benchmarks on CPU and GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from _measure import Way

from attnlens.capture.attention import capture
from attnlens.capture.request import Request
from attnlens.capture.sites import Sites

__all__ = ["FIVE", "PLAIN", "Decoder"]

FIVE = ("mass", "entropy", "max", "argmax", "received")
PLAIN = "plain SDPA"


@dataclass
class Decoder:
    """A causal language model over random ids [1, n], whose keys fall into equal groups."""

    model: Any
    ids: torch.Tensor
    n_groups: int

    def __post_init__(self) -> None:
        n = self.ids.shape[1]
        self.groups = (torch.arange(n, device=self.ids.device) * self.n_groups // n)[None]
        layers = self.model.model.layers
        self.sites = Sites.of(
            self.model.model,
            layers=[layer.self_attn for layer in layers],
            output_projections=[layer.self_attn.o_proj for layer in layers],
        )

    def forward(self, **more: Any) -> Any:
        return self.model(input_ids=self.ids, use_cache=False, logits_to_keep=1, **more)

    def last(self, rows: int) -> torch.Tensor:
        n = self.ids.shape[1]
        return torch.arange(max(0, n - rows), n, device=self.ids.device)

    def sdpa(self) -> None:
        self.model.set_attn_implementation("sdpa")

    def plain(self) -> Way:
        return Way(self.forward, self.sdpa)

    def idle(self) -> Way:
        def run() -> object:
            with capture(self.sites):
                return self.forward()

        return Way(run, self.sdpa)

    def captured(self, *measures: str, **asked: Any) -> Way:
        request = Request(groups=self.groups, n_groups=self.n_groups, measures=measures, **asked)

        def run() -> object:
            with capture(self.sites, request) as record:
                self.forward()
            return [record.stacked(measure) for measure in measures]

        return Way(run, self.sdpa)

    def all_rows(self, method: str) -> Way:
        return self.captured("mass", method=method, query_groups=self.groups, n_query_groups=self.n_groups)

    def matrices(self) -> Way:
        """What a user would do otherwise: eager attention, all matrices at once, reduced afterwards."""

        def run() -> object:
            weights = self.forward(output_attentions=True).attentions
            spans = torch.nn.functional.one_hot(self.groups, self.n_groups).to(weights[0].dtype)
            return torch.stack([one @ spans[:, None] for one in weights])

        return Way(run, lambda: self.model.set_attn_implementation("eager"))
