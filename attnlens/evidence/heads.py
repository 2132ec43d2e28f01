"""Which heads matter: ranked by where they look, what they write, what the answer loses without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.evidence.copying import copy_scores
from attnlens.evidence.edges import Edge, edge
from attnlens.evidence.faithfulness import Faithfulness, faithfulness
from attnlens.evidence.notes import Notes, asked_of, noted
from attnlens.evidence.progress import shown
from attnlens.models.clips import reusing_clips
from attnlens.models.interventions import query_flags
from attnlens.models.replay import Replay
from attnlens.models.speechlm import SpeechLM

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.capture.edits import Edit

__all__ = ["HEAD_MEASURES", "HeadSearch", "search_heads"]

Numbers = NDArray[np.float64]
Fill = Literal["mean", "zero"]
HEAD_MEASURES = ("mass", "contribution", "logit_effect", "copy", "induction", "effect")
"""What heads are ranked by; ``effect`` is what the answer costs more without the head."""
ORDERS = 5


@dataclass(frozen=True, eq=False)
class HeadSearch:
    """Heads by several measures [items, layers, heads] each; ``effect`` in nats per token."""

    maps: Mapping[str, Numbers]
    tokens: Numbers
    utterances: tuple[str, ...]
    model: str
    sources: tuple[Source, ...]
    _cost: Callable[[Sequence[tuple[int, int]]], Numbers]

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return self.maps["effect"].shape[1:]

    def ranking(self, by: str = "effect") -> list[tuple[int, int]]:
        """Return (layer, head), the highest first.

        Parameters
        ----------
        by
            A measure, or ``random@SEED``.
        """
        if by.startswith("random@"):
            order = np.random.default_rng(int(by.partition("@")[2])).permutation(math.prod(self.shape))
        else:
            if by not in self.maps:
                raise UnknownName.among("measure of heads", by, self.maps)
            order = np.argsort(-self._mean(by).ravel(), kind="stable")
        return [(int(place) // self.shape[1], int(place) % self.shape[1]) for place in order]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per head with its mean of every measure, those that cost most first."""
        import pandas as pd

        means = {name: self._mean(name) for name in self.maps}
        rows = [
            {"layer": layer, "head": head} | {name: float(one[layer, head]) for name, one in means.items()}
            for layer, head in self.ranking()
        ]
        return pd.DataFrame(rows)

    def faithfulness(self, *, seed: int = 0) -> Faithfulness:
        """Say how well each measure foretells the effect of losing a head."""
        others = {name: one for name, one in self.maps.items() if name != "effect"}
        return faithfulness(others, self.maps["effect"], clusters=self.utterances, seed=seed)

    def cumulative(
        self, *, by: Sequence[str] = ("effect", "mass"), counts: Sequence[int] | None = None, orders: int = ORDERS
    ) -> pd.DataFrame:
        """Take heads away one after the other, in the order of each ranking and in random orders.

        Returns the columns ``ranking``, ``heads``, ``estimate`` (nats per token), ``low`` and ``high``: for rankings
        the interval over utterances, for ``random`` the range of its orders. Rankings by effect were made on these
        prompts; a fair curve is one on others.
        """
        import pandas as pd

        from attnlens.stats.bootstrap import bootstrap

        total = math.prod(self.shape)
        usual = {0, 1, 2, 4, 8, 16, total // 2, total}
        sizes = list(counts) if counts is not None else sorted(one for one in usual if one <= total)
        if not sizes or min(sizes) < 0 or max(sizes) > total:
            raise BadInput("counts are numbers of heads", given=listing(sizes), present=f"0 to {total} heads")
        rows: list[dict[str, Any]] = []
        for name in by:
            order = self.ranking(name)
            for size in sizes:
                costs = self._cost(order[:size])
                row = {"ranking": name, "heads": size, "estimate": costs.sum() / self.tokens.sum()}
                try:
                    ends = bootstrap(costs, per=self.tokens, clusters=self.utterances, resamples=2_000)
                    row |= {"low": float(ends.low), "high": float(ends.high)}
                except BadInput:
                    row |= {"low": math.nan, "high": math.nan}
                rows.append(row)
        for size in sizes if orders else ():
            drawn = [self.ranking(f"random@{seed}")[:size] for seed in range(orders)]
            found = [float(self._cost(order).sum() / self.tokens.sum()) for order in drawn]
            ends_of = {"estimate": float(np.mean(found)), "low": min(found), "high": max(found)}
            rows.append({"ranking": "random", "heads": size, **ends_of})
        return pd.DataFrame(rows)

    def _mean(self, name: str) -> Numbers:
        values = self.maps[name]
        # Likelihoods are ratios of sums; what is read of attention is a mean over prompts.
        return values.mean(0) if name != "effect" else (values * self.tokens[:, None, None]).sum(0) / self.tokens.sum()


def search_heads(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    sources: Sequence[Source] = ("demo_audio", "demo_text"),
    queries: Sequence[Source] = ("output",),
    fill: Fill = "mean",
    cut: str | Edge | None = None,
    notes: Notes | None = None,
    tick: Callable[[], None] | None = None,
) -> HeadSearch:
    """Rank all heads by mass, contribution, logit effect, copying, and by what the answer costs without them.

    Parameters
    ----------
    prompts
        With demonstrations; their references are read along.
    sources
        Spans that the first measures are about, added up.
    queries
        Rows at which a head is taken away; of the output, those that predict it.
    fill
        What a lost head puts out: its mean over those rows in the *other half* of the prompts, or ``zero``.
    cut
        An edge, such as ``output -> demo_text``: a head then loses that edge alone instead of its output, and the
        effect is that of the knockout. ``queries`` and ``fill`` do not matter then.
    notes
        Where effects are kept as they are measured, those of heads taken away together too; see :func:`ablate`.
    tick
        Told after each prompt; without it a bar is shown.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> found = search_heads(load("tiny:qwen3-asr"), [probe(), probe(seed=1)])
    >>> found.shape, found.to_frame().columns.tolist()[:4]
    ((3, 8), ['layer', 'head', 'mass', 'contribution'])
    """
    listed = list(prompts)
    if not listed:
        raise BadInput("there is nothing to read", given="no prompts", fix="pass at least one")
    if fill not in ("mean", "zero"):
        raise UnknownName.among("value of a lost head", fill, ["mean", "zero"])
    lost_edge = None if cut is None else edge(cut)
    if fill == "mean" and lost_edge is None and len(listed) < 2:  # noqa: PLR2004
        raise BadInput("a mean is taken from other prompts", given="1 prompt", fix="pass at least 2, or fill='zero'")
    trace = lens.trace(listed, measures=("mass", "contribution", "logit_effect"))
    absent = [name for name in sources if not float(trace["tokens"].sel(source=name).max())]
    if absent:
        raise BadInput(
            "no prompt has such a span",
            given=listing(absent),
            present=listing(name for name in trace["source"].values if float(trace["tokens"].sel(source=name).max())),
            fix="name spans of these prompts",
        )
    maps: dict[str, Numbers] = {
        name: trace[name].sel(query="output", source=list(sources)).sum("source").values.astype(np.float64)
        for name in ("mass", "contribution", "logit_effect")
    }
    maps |= copy_scores(lens, listed)
    lost = _Losses(lens, listed, tuple(queries), "zero" if lost_edge else fill, lost_edge)
    name = asked_of(notes, lens, listed, "heads", list(queries), fill, str(lost_edge))
    costs = np.zeros((len(listed), lens.n_layers, lens.n_heads))
    with reusing_clips(lens):
        for place in shown(range(len(listed)), "taking heads away", tick):
            for layer in range(lens.n_layers):
                alone = [[(layer, head)] for head in range(lens.n_heads)]
                costs[place, layer] = noted(
                    notes, f"{name}/{place}/{layer}", partial(_each, lost, [(place, one) for one in alone])
                )
    maps["effect"] = costs / lost.tokens[:, None, None]

    def cost(heads: Sequence[tuple[int, int]]) -> Numbers:
        with reusing_clips(lens):
            asked = partial(_each, lost, [(place, heads) for place in range(len(listed))])
            return np.array(noted(notes, f"{name}/{sorted(heads)}", asked))

    utterances = tuple(f"{one.target.language}/{one.target.id}" for one in listed)
    return HeadSearch(maps, lost.tokens, utterances, lens.name, tuple(sources), cost)


def _each(lost: _Losses, asked: Sequence[tuple[int, Sequence[tuple[int, int]]]]) -> list[float]:
    return [lost.cost(place, heads) for place, heads in asked]


class _Losses:
    """What prompts cost without some heads."""

    def __init__(
        self, lens: SpeechLM, prompts: Sequence[Prompt], queries: tuple[Source, ...], fill: Fill, cut: Edge | None
    ) -> None:
        self.lens, self.prompts, self.queries, self.cut = lens, list(prompts), queries, cut
        encoded = [lens.encode(one, one.target.text) for one in self.prompts]
        self.tokens = np.array([len(one.spans.positions("output")) for one in encoded], dtype=np.float64)
        self.donors: list[dict[int, Any]] = [{}, {}]
        self._last: tuple[int, Replay] | None = None
        if fill == "mean":
            from attnlens.models.head_outputs import head_outputs

            # A prompt is never its own donor: each half takes its means from the other.
            options: Any = {"layers": range(lens.n_layers), "heads": range(lens.n_heads), "queries": queries}
            for half in (0, 1):
                found = head_outputs(lens, self.prompts[1 - half :: 2], **options)
                self.donors[half] = {layer: one.mean(0) for layer, one in found.items()}

    def cost(self, place: int, heads: Sequence[tuple[int, int]]) -> float:
        """Return what the answer of a prompt costs more without some heads, in nats."""
        replay = self._replay(place)
        return replay.nll(self._edits(replay, place % 2, heads)) - replay.clean

    def _replay(self, place: int) -> Replay:
        if self._last is None or self._last[0] != place:
            prompt = self.prompts[place]
            self._last = place, Replay(self.lens, self.lens.encode(prompt, prompt.target.text))
        return self._last[1]

    def _edits(self, replay: Replay, half: int, heads: Sequence[tuple[int, int]]) -> list[Edit]:
        import torch

        from attnlens.capture.edits import AblateHeads, Knockout

        edits: list[Edit] = []
        by_layer = {at: tuple(sorted(head for layer, head in heads if layer == at)) for at in {at for at, _ in heads}}
        if self.cut is not None:
            ends = self.cut.flags(replay.encoded)
            if ends is None:
                return []
            rows, keys = (torch.as_tensor(one, device=self.lens.device)[None] for one in ends)
            return [
                Knockout(queries=rows, keys=keys, layers=(at,), heads=here) for at, here in sorted(by_layer.items())
            ]
        flags = torch.as_tensor(query_flags(replay.encoded, self.queries), device=self.lens.device)[None]
        for layer, here in sorted(by_layer.items()):
            donor = self.donors[half].get(layer)
            value: Any = "zero" if donor is None else donor[list(here)]
            edits.append(AblateHeads(layers=(layer,), heads=here, value=value, queries=flags))
        return edits
