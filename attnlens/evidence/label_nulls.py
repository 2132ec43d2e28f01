"""Would any labels do? Modality labels permuted over what a trace holds: how much of a preference is length or place.

Nothing is run again. ``free`` deals the labels out anew over the demonstrations' tokens: what is left is length.
``blockwise`` deals them out over whole blocks (a clip, a text), ``circular`` shifts the sequence of labels round: what
is left is length and position, with neighbours kept together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.errors import BadInput, UnknownName
from attnlens.stats.findings import Against
from attnlens.stats.null import against_null
from attnlens.stats.results import PermutationTest

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["LABEL_NULLS", "LabelNull", "LabelNulls", "Statistic", "label_nulls"]

LabelNull = Literal["free", "blockwise", "circular"]
LABEL_NULLS: tuple[LabelNull, ...] = ("free", "blockwise", "circular")
Statistic = Literal["log_ratio", "bias"]
TOKENWISE = ("free", "circular")
ALPHA = 0.05
MEANS = {"free": "length alone", "blockwise": "length and position of blocks", "circular": "length and position"}
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class _Item:
    """What one item gives to audio and text, piece by piece: mass [layers, pieces], tokens and labels [pieces]."""

    utterance: str
    mass: Numbers
    tokens: Numbers
    text: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelNulls:
    """A preference per layer beside what permuted labels give: ``draws`` [draws, layers] and ``tests`` by null.

    ``observed`` [layers] is the mean over utterances, positive for text. ``absent`` says why a null is not there.
    """

    statistic: Statistic
    layers: tuple[int, ...]
    observed: Numbers
    draws: dict[str, Numbers]
    tests: dict[str, PermutationTest]
    utterances: int
    items: int
    left_out: int
    absent: dict[str, str]

    @property
    def explained(self) -> dict[str, Numbers]:
        """What length or position alone give, by null: the mean of its draws [layers]."""
        return {name: drawn.mean(0) for name, drawn in self.draws.items()}

    def band(self, null: LabelNull = "circular") -> xr.DataArray:
        """Return the draws of a null [draw, layer], as ``attnlens.plot.modality_bias(null=)`` takes them."""
        import xarray as xr

        if null not in self.draws:
            raise UnknownName.among("label null", null, self.draws)
        return xr.DataArray(self.draws[null], dims=("draw", "layer"), coords={"layer": list(self.layers)})

    def to_frame(self) -> pd.DataFrame:
        """Return one row per null and layer: what was seen, what the null explains, what is left, and p."""
        import pandas as pd

        rows = []
        for name, test in self.tests.items():
            for place, layer in enumerate(self.layers):
                rows.append(
                    {
                        "null": name,
                        "statistic": self.statistic,
                        "layer": layer,
                        "observed": float(self.observed[place]),
                        "explained": float(self.explained[name][place]),
                        "left": float(self.observed[place] - self.explained[name][place]),
                        "p": float(test.p[place]),
                        "p_family": float(test.p_family[place]),
                        "utterances": self.utterances,
                    }
                )
        return pd.DataFrame(rows)

    def against(self, layer: int) -> tuple[Against, ...]:
        """Return how the preference at a layer stands against each null, as a control of a finding."""
        place = self.layers.index(layer)
        made = []
        for name, test in self.tests.items():
            explained = float(self.explained[name][place])
            side = np.sign(self.observed[place])
            beaten = test.p_family[place] <= ALPHA and side * (self.observed[place] - explained) > 0
            made.append(
                Against(
                    name=f"{name} labels",
                    outcome="withstood" if beaten else "failed",
                    estimate=explained,
                    p_difference=float(test.p_family[place]),
                    why=MEANS[name],
                )
            )
        return (
            *made,
            *(Against(name=f"{name} labels", outcome="undefined", why=why) for name, why in self.absent.items()),
        )

    def __str__(self) -> str:
        unit = "ln of density" if self.statistic == "log_ratio" else "of mass"
        lines = [f"preference for text (+) or audio (-), {self.statistic} ({unit}), {self.utterances} utterances"]
        for name, test in self.tests.items():
            top = int(np.argmax(np.abs(self.observed)))
            lines.append(
                f"  {name} labels ({MEANS[name]}): at layer {self.layers[top]} {self.explained[name][top]:+.2f} of "
                f"{self.observed[top]:+.2f}; {int((test.p_family <= ALPHA).sum())} of {len(self.layers)} layers "
                f"have more than that (p up to {ALPHA}, corrected over layers)"
            )
        lines += [f"  {name} labels: {why}" for name, why in self.absent.items()]
        if self.left_out:
            lines.append(f"  {self.left_out} items without audio and text, or without mass on one of them, left out")
        return "\n".join(lines)


def label_nulls(
    dataset: xr.Dataset,
    *,
    nulls: Sequence[LabelNull] = LABEL_NULLS,
    statistic: Statistic = "log_ratio",
    draws: int = 999,
    seed: int = 0,
) -> LabelNulls:
    """Compare the preference for text or audio with that under permuted labels, layer by layer, heads averaged.

    Every draw permutes each item by itself; the statistic is averaged over the items of an utterance, then over
    utterances. p counts draws at least as far from the null's mean, with max-T over layers.

    Parameters
    ----------
    dataset
        A trace or an opened store. ``free`` and ``circular`` need its variable ``received`` (the measure of that name).
    statistic
        ``log_ratio`` per token, or the paper's ``bias``, which length alone moves.
    draws
        How many permutations.

    >>> from attnlens.testing import trace
    >>> found = label_nulls(trace(items=6, measures=("received",)), statistic="bias")
    >>> list(found.tests), bool((found.explained["free"] < 0).all())
    (['free', 'blockwise', 'circular'], True)
    """
    for name in nulls:
        if name not in LABEL_NULLS:
            raise UnknownName.among("label null", name, LABEL_NULLS)
    if statistic not in get_args(Statistic):
        raise UnknownName.among("statistic of a label null", statistic, get_args(Statistic))
    if not nulls:
        raise BadInput("no null is named", present=", ".join(LABEL_NULLS), fix="name at least one")
    pairs = _with_both(dataset)
    blocks = list(_blocks(pairs))
    tokens = list(_tokens(pairs)) if "received" in dataset else []
    kept = [place for place, one in enumerate(blocks) if _usable(one)]
    if not kept:
        raise BadInput(
            "no item has mass on audio and text of demonstrations", fix="trace the condition micl with shots"
        )
    wholes = np.stack([_statistic(_sums(blocks[place]), statistic) for place in kept])
    weights = _weights([blocks[place].utterance for place in kept])
    observed = weights @ wholes
    drawn, tests, absent = {}, {}, {}
    for name in nulls:
        if name in TOKENWISE and not tokens:
            absent[name] = "the trace has no 'received'"
            continue
        rng = np.random.default_rng([seed, LABEL_NULLS.index(name)])
        null = np.zeros((draws, len(observed)))
        for weight, place in zip(weights, kept, strict=True):
            null += weight * _drawn(tokens[place] if name in TOKENWISE else blocks[place], name, statistic, draws, rng)
        drawn[str(name)] = null
        tests[str(name)] = against_null(observed, null, centre="null", name=statistic)
    return LabelNulls(
        statistic=statistic,
        layers=tuple(int(layer) for layer in dataset["layer"].values),
        observed=observed,
        draws=drawn,
        tests=tests,
        utterances=len({blocks[place].utterance for place in kept}),
        items=len(kept),
        left_out=dataset.sizes["item"] - len(kept),
        absent={str(name): why for name, why in absent.items()},
    )


def _with_both(dataset: xr.Dataset) -> xr.Dataset:
    counts = dataset["demo_tokens"].sel(modality=["audio", "text"]).sum("demo").values
    both = (counts > 0).all(-1)
    if not both.any():
        raise BadInput("no item shows demonstrations with audio and text", fix="trace the condition micl with shots")
    return dataset.isel(item=np.flatnonzero(both))


def _blocks(dataset: xr.Dataset) -> Iterator[_Item]:
    """Yield each item's clips and texts as blocks, in prompt order."""
    mass = dataset["demo_mass"].sel(query="output", modality=["audio", "text"]).mean("head").values.astype(np.float64)
    counts = dataset["demo_tokens"].sel(modality=["audio", "text"]).values
    starts = dataset["demo_start"].sel(modality=["audio", "text"]).values
    text = np.broadcast_to([False, True], counts.shape[1:])
    for place, name in enumerate(_utterances(dataset)):
        there = counts[place] > 0
        order = np.argsort(starts[place][there])
        yield _Item(
            name, mass[place][:, there][:, order], counts[place][there][order].astype(float), text[there][order]
        )


def _tokens(dataset: xr.Dataset) -> Iterator[_Item]:
    """Yield each item's demonstration tokens one by one, in prompt order."""
    received = dataset["received"].values.astype(np.float64)
    counts = dataset["demo_tokens"].sel(modality=["audio", "text"]).values
    starts = dataset["demo_start"].sel(modality=["audio", "text"]).values
    for place, name in enumerate(_utterances(dataset)):
        label = np.full(received.shape[-1], -1, dtype=np.int8)
        for demo, modality in np.ndindex(*counts.shape[1:]):
            start = int(starts[place, demo, modality])
            label[start : start + int(counts[place, demo, modality])] = modality
        at = np.flatnonzero(label >= 0)
        yield _Item(name, received[place][:, at], np.ones(len(at)), label[at] == 1)


def _utterances(dataset: xr.Dataset) -> list[str]:
    return [str(one) for one in dataset["utterance"].values.tolist()]


def _weights(utterances: Sequence[str]) -> Numbers:
    """Return what each item counts, so that utterances count alike."""
    names, count = np.unique(utterances, return_counts=True)
    sizes = dict(zip(names.tolist(), count.tolist(), strict=True))
    return np.array([1 / (len(names) * sizes[name]) for name in utterances])


def _usable(one: _Item) -> bool:
    sums = _sums(one)
    return bool((sums[0] > 0).all() and (sums[1] > 0).all())


def _sums(one: _Item) -> tuple[Any, Any, Any, Any]:
    """Return masses [layers] and tokens of text and of audio."""
    text = one.text
    return one.mass[:, text].sum(1), one.mass[:, ~text].sum(1), one.tokens[text].sum(), one.tokens[~text].sum()


def _statistic(sums: tuple[Any, Any, Any, Any], statistic: Statistic) -> Numbers:
    text, audio, text_tokens, audio_tokens = sums
    # A draw may give one side nothing but zeros of a half-precision store; a weight that small is no preference.
    tiny = 1e-12
    text, audio = np.maximum(text, tiny), np.maximum(audio, tiny)
    if statistic == "bias":
        return np.asarray((text - audio) / (text + audio))
    return np.asarray(np.log(text / text_tokens) - np.log(audio / audio_tokens))


def _drawn(one: _Item, null: LabelNull, statistic: Statistic, draws: int, rng: np.random.Generator) -> Numbers:
    """Return the statistic of an item under permuted labels [draws, layers]."""
    pieces, size = len(one.text), int(one.text.sum())
    if null == "circular":
        text = _rotated(one)[rng.integers(pieces, size=draws)]
        tokens = np.full((draws, 1), float(size))
    else:
        chosen = np.argpartition(rng.random((draws, pieces)), size - 1, axis=1)[:, :size]
        labels = np.zeros((draws, pieces))
        np.put_along_axis(labels, chosen, 1.0, axis=1)
        text, tokens = labels @ one.mass.T, (labels @ one.tokens)[:, None]
    total, all_tokens = one.mass.sum(1), one.tokens.sum()
    return _statistic((text, total - text, tokens, all_tokens - tokens), statistic)


def _rotated(one: _Item) -> Numbers:
    """Return the mass on text under every rotation of the labels [rotations, layers], as a circular correlation."""
    labels = np.fft.rfft(one.text.astype(np.float64))
    found = np.fft.irfft(np.conj(labels) * np.fft.rfft(one.mass, axis=1), n=len(one.text), axis=1)
    return np.asarray(found.T)
