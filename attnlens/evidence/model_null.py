"""Would an untrained model show the same? Masses by layer and span with weights drawn anew, by layer and wholly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.notes import Notes, asked_of, noted
from attnlens.evidence.progress import shown
from attnlens.models.clips import reusing_clips
from attnlens.models.reinitialised import reinitialised
from attnlens.stats.findings import Findings
from attnlens.stats.judge import Claim, judge

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from attnlens.models.speechlm import SpeechLM

__all__ = ["MODES", "ModelNull", "Redrawn", "model_null"]

Mode = Literal["top-down", "each", "whole"]
MODES: tuple[Mode, ...] = ("top-down", "each", "whole")
FEWEST_SEEDS = 5
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Redrawn:
    """Which layers were drawn anew, with which seed, and how like the trained model's the map of masses stayed.

    ``layers`` is None for the whole model. ``rho`` is Spearman's, over layers and spans; ``preference`` [items, layers]
    is the log ratio per token of text over audio, heads averaged.
    """

    mode: Mode
    layers: tuple[int, ...] | None
    seed: int
    rho: float
    preference: Numbers

    @property
    def name(self) -> str:
        """The layers as text."""
        if self.layers is None:
            return "all weights"
        first, last = self.layers[0], self.layers[-1]
        return f"layer {first}" if first == last else f"layers {first}-{last}"


@dataclass(frozen=True, eq=False)
class ModelNull:
    """The trained model's preference [items, layers] beside those of models with weights drawn anew."""

    trained: Numbers
    redrawn: tuple[Redrawn, ...]
    layers: tuple[int, ...]
    utterances: tuple[str, ...]
    model: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per set of layers: the mean of rho over seeds and its range."""
        import pandas as pd

        rows: dict[tuple[str, str], list[float]] = {}
        for one in self.redrawn:
            rows.setdefault((one.mode, one.name), []).append(one.rho)
        return pd.DataFrame(
            [
                {"mode": mode, "drawn anew": name, "rho": np.mean(found), "low": min(found), "high": max(found),
                 "seeds": len(found)}
                for (mode, name), found in rows.items()
            ]
        )  # fmt: skip

    def findings(self, *, seed: int = 0) -> Findings:
        """Judge each layer's preference against the same utterances in wholly untrained models, seeds averaged."""
        whole = [one.preference for one in self.redrawn if one.mode == "whole"]
        if not whole:
            raise BadInput("no model was drawn anew as a whole", fix="pass modes with 'whole'")
        untrained = np.mean(whole, axis=0)
        claims = [
            Claim(
                name=f"learnt at layer {layer}",
                claim=f"At layer {layer} the preference per token for {_side(self.trained[:, place])} is learnt.",
                statistic="ln of text density over audio density",
                values=self.trained[:, place],
                clusters=self.utterances,
                controls={"random weights": untrained[:, place]},
                direction="either",
            )
            for place, layer in enumerate(self.layers)
        ]
        return judge(claims, seed=seed)

    def __str__(self) -> str:
        lines = [
            f"map of masses, layer by span, of {self.model} with weights drawn anew: Spearman's rho with the trained"
        ]
        lines += [
            f"  {row['mode']:9} {row['drawn anew']:14} {row['rho']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] "
            f"over {row['seeds']} seeds"
            for row in self.to_frame().to_dict("records")
        ]
        return "\n".join(lines)


def _side(values: Numbers) -> str:
    return "text" if float(np.nanmean(values)) > 0 else "audio"


def model_null(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    modes: Sequence[Mode] = MODES,
    layers: Sequence[int] | None = None,
    seeds: Sequence[int] = tuple(range(FEWEST_SEEDS)),
    notes: Notes | None = None,
    tick: Callable[[], None] | None = None,
) -> ModelNull:
    """Trace the same prompts with weights drawn anew, and compare the maps of masses with the trained model's.

    Parameters
    ----------
    prompts
        With demonstrations of audio and text.
    modes
        ``top-down`` draws the last layer anew, then the last two, and so on; ``each`` one layer alone; ``whole``
        everything, embeddings and encoder included.
    layers
        Where ``top-down`` and ``each`` stop; all by default. Name a few of a deep model.
    seeds
        At least five: one draw is an anecdote.
    notes
        Where each draw is kept as soon as it is measured; see :func:`ablate`.
    tick
        Told after each draw; without it a bar is shown.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> found = model_null(load("tiny:qwen3-asr"), [probe()], modes=["whole"])
    >>> found.to_frame()["seeds"].tolist()
    [5]
    """
    for mode in modes:
        if mode not in MODES:
            raise UnknownName.among("mode of a model null", mode, MODES)
    if len(set(seeds)) < FEWEST_SEEDS:
        raise BadInput(
            f"{len(set(seeds))} seeds are too few for a null of models",
            present=f"at least {FEWEST_SEEDS}",
            fix=f"pass seeds=range({FEWEST_SEEDS})",
        )
    listed = list(prompts)
    if not listed:
        raise BadInput("there is nothing to read", given="no prompts", fix="pass at least one")
    chosen = list(range(lens.n_layers)) if layers is None else [int(layer) for layer in layers]
    trained = _traced(lens, listed)
    preference = _preference(trained)
    if not np.isfinite(preference).all():
        raise BadInput(
            "a prompt shows no audio and text of demonstrations", fix="pass micl prompts with demonstrations"
        )
    draws = [(mode, anew, seed) for mode, anew in _plan(modes, chosen, lens.n_layers) for seed in seeds]
    name = asked_of(notes, lens, listed, "model null")
    redrawn = []

    def measure(anew: tuple[int, ...] | None, seed: int) -> tuple[float, list[list[float]]]:
        with reinitialised(lens, "all" if anew is None else anew, seed=seed):
            traced = _traced(lens, listed)
        return _rho(_map(trained), _map(traced)), _preference(traced).tolist()

    for mode, anew, seed in shown(draws, "drawing weights anew", tick):
        # The last layer is drawn anew alone under two names, and once.
        rho, found = noted(notes, f"{name}/{anew}/{seed}", partial(measure, anew, seed))
        redrawn.append(Redrawn(mode, anew, seed, rho, np.asarray(found)))
    utterances = tuple(f"{one.target.language}/{one.target.id}" for one in listed)
    layers_of = tuple(int(layer) for layer in trained["layer"].values)
    return ModelNull(preference, tuple(redrawn), layers_of, utterances, lens.name)


def _plan(modes: Sequence[Mode], chosen: Sequence[int], n_layers: int) -> Iterator[tuple[Mode, tuple[int, ...] | None]]:
    if "top-down" in modes:
        yield from (("top-down", tuple(range(first, n_layers))) for first in sorted(chosen, reverse=True))
    if "each" in modes:
        yield from (("each", (layer,)) for layer in chosen)
    if "whole" in modes:
        yield "whole", None


def _traced(lens: SpeechLM, prompts: Sequence[Prompt]) -> xr.Dataset:
    import xarray as xr

    with reusing_clips(lens):
        # One at a time: a bar per draw would flicker over the bar of draws.
        parts = [lens.trace(one, measures=("mass",)) for one in prompts]
    return xr.concat([one[["mass", "tokens"]] for one in parts], "item", coords="minimal", compat="override")


def _map(traced: xr.Dataset) -> Numbers:
    """Return masses by layer and span that any prompt has, [cells]."""
    there = traced["tokens"].sum("item").values > 0
    return np.asarray(
        traced["mass"].sel(query="output").mean(["item", "head"]).values[:, there].ravel(), dtype=np.float64
    )


def _rho(first: Numbers, second: Numbers) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def _preference(traced: xr.Dataset) -> Numbers:
    from attnlens.traces.views import log_ratio

    found: Any = log_ratio(traced.mean("head", keep_attrs=True)).sel(query="output")
    with contextlib.suppress(KeyError):
        found = found.transpose("item", "layer")
    return np.asarray(found.values, dtype=np.float64)
