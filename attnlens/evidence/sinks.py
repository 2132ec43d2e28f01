"""Tokens that collect attention whatever is asked: found at every layer; what a preference is with and without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput
from attnlens.evidence.progress import shown
from attnlens.models.clips import reusing_clips
from attnlens.models.interventions import query_flags
from attnlens.models.replay import Replay

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.models.speechlm import SpeechLM

__all__ = ["Sink", "Sinks", "find_sinks"]

TIMES = 10.0
"""A sink gets so many times what a position gets when a row spreads evenly."""
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Sink:
    """One kind of token that collects attention: whose it is, what it says, in how many prompts, and how much it gets.

    ``mass`` is the mean over layers and prompts; ``least`` the mean of the layer where it gets least, in times of even.
    """

    source: str
    token: str
    prompts: int
    mass: float
    least: float


@dataclass(frozen=True, eq=False)
class Sinks:
    """The sinks of a model on some prompts; ``with_them`` and ``without`` [items, layers] are log ratios per token.

    The log ratio is that of the demonstrations' text over their audio, heads averaged; without sinks, positions that
    collect in the prompt at hand are left out, their mass and their number.
    """

    found: tuple[Sink, ...]
    with_them: Numbers
    without: Numbers
    layers: tuple[int, ...]
    model: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per sink, the largest first."""
        import pandas as pd

        return pd.DataFrame([vars(one) for one in self.found], columns=list(Sink.__dataclass_fields__))

    def __str__(self) -> str:
        lines = [
            f"{len(self.found)} kinds of token collect {TIMES:g} times an even share at every layer of {self.model}"
        ]
        lines += [
            f"  {one.source:12} {one.token!r:14} {100 * one.mass:5.1f} % of attention, in {one.prompts} prompts"
            for one in self.found
        ]
        means = zip(self.layers, np.nanmean(self.with_them, 0), np.nanmean(self.without, 0), strict=True)
        told = ", ".join(f"layer {layer}: {before:+.2f} and {after:+.2f}" for layer, before, after in means)
        return "\n".join([*lines, f"  log ratio of text over audio per token, with and without them: {told}"])


def find_sinks(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    times: float = TIMES,
    layers: Sequence[int] | None = None,
    tick: Callable[[], None] | None = None,
) -> Sinks:
    """Find the tokens that collect mass at every layer, first token, template or otherwise.

    Parameters
    ----------
    times
        A sink gets at least so many times an even share.
    layers
        In all of which it does; None is every layer. First layers often have no sinks: leave those out to find what
        collects in the rest.
    tick
        Told after each prompt; without it a bar is shown.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> found = find_sinks(load("tiny:qwen3-asr"), [probe()], times=1.5)
    >>> found.with_them.shape
    (1, 3)
    """
    listed = list(prompts)
    if not listed:
        raise BadInput("there is nothing to read", given="no prompts", fix="pass at least one")
    if times <= 1:
        raise BadInput("a sink gets more than an even share", given=f"times={times:g}", fix="pass 10 or so")
    chosen = list(range(lens.n_layers)) if layers is None else list(layers)
    if not chosen or not set(chosen) <= set(range(lens.n_layers)):
        raise BadInput("there is no such layer", given=chosen, present=f"layers 0 to {lens.n_layers - 1}")
    seen: dict[tuple[str, str], list[tuple[float, float]]] = {}
    before, after = [], []
    with reusing_clips(lens):
        for prompt in shown(listed, "looking for sinks", tick):
            replay = Replay(lens, lens.encode(prompt, prompt.target.text))
            encoded = replay.encoded
            rows = query_flags(encoded, ("output",))
            rows[-1] = False
            received = replay.received(rows)
            even = received * len(replay)
            collects = (even[chosen] >= times).all(0) & ~rows
            strings = lens.front.strings(encoded.ids)
            labels = [span.label.source for span in encoded.spans for _ in range(len(span))]
            by_kind: dict[tuple[str, str], list[int]] = {}
            for place in np.flatnonzero(collects).tolist():
                by_kind.setdefault((labels[place], strings[place]), []).append(place)
            for kind, places in by_kind.items():
                entry = (float(received[:, places].sum(1).mean()), float(even[chosen][:, places].min()))
                seen.setdefault(kind, []).append(entry)
            before.append(
                _log_ratio(received, encoded.spans.positions("demo_text"), encoded.spans.positions("demo_audio"))
            )
            kept = np.flatnonzero(~collects)
            text, audio = (np.intersect1d(encoded.spans.positions(one), kept) for one in ("demo_text", "demo_audio"))
            after.append(_log_ratio(received, text, audio))
    found = [
        Sink(source, token, len(parts), sum(mass for mass, _ in parts) / len(listed), min(least for _, least in parts))
        for (source, token), parts in seen.items()
    ]
    ordered = tuple(sorted(found, key=lambda one: -one.mass))
    return Sinks(ordered, np.array(before), np.array(after), tuple(range(lens.n_layers)), lens.name)


def _log_ratio(received: NDArray[np.floating], text: NDArray[np.int64], audio: NDArray[np.int64]) -> Numbers:
    if not len(text) or not len(audio):
        return np.full(len(received), np.nan)
    densities = [received[:, at].astype(np.float64).mean(1) for at in (text, audio)]
    tiny = 1e-12
    return np.asarray(np.log(np.maximum(densities[0], tiny) / np.maximum(densities[1], tiny)))
