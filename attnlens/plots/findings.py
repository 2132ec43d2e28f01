"""What a run found, in sentences: each with its numbers, and a verdict by a stated rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from attnlens.errors import BadInput
from attnlens.plots.bands import LEVEL
from attnlens.plots.inputs import per_layer
from attnlens.plots.source import Source
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.permutation import sign_flip

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["RULE", "Sentence", "sentences"]

Verdict = Literal["supported", "refuted", "inconclusive"]
RULE = (
    f"Supported: the {100 * LEVEL:g} % BCa bootstrap interval over utterances excludes no effect (for layers: the "
    "sign-flip test, corrected over all layers, has p up to 0.05). Inconclusive: it does not, or there are too few "
    "utterances. "
    "Attention says where a model looks, not what it uses."
)
ALPHA = 0.05


@dataclass(frozen=True)
class Sentence:
    """One finding as a person reads it."""

    claim: str
    evidence: str
    verdict: str


def sentences(source: Source) -> list[Sentence]:
    """Return what can be said about a run, in reading order; the run's own ``findings.json`` first, if it has one.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = Path(tempfile.mkdtemp()) / "traces.zarr"
    >>> _ = save(trace(items=8), path)
    >>> "layers" in sentences(Source.open(path))[0].claim
    True
    """
    found = list(_told(source))
    makers: tuple[Callable[[xr.Dataset], Iterator[Sentence]], ...] = (_preference, _use, _controls)
    for make in makers:
        try:
            found += make(source.traces)
        except BadInput as error:
            found.append(Sentence(_NOT[make.__name__], error.message, "inconclusive"))
    return found


_NOT = {
    "_preference": "Nothing can be said about a preference for text or audio.",
    "_use": "Nothing can be said about whether demonstrations help.",
    "_controls": "Nothing can be said about controls.",
}


def _told(source: Source) -> Iterator[Sentence]:
    path = source.folder / "findings.json"
    if not source.whole or not path.exists():
        return
    try:
        for one in json.loads(path.read_text(encoding="utf-8")):
            yield Sentence(str(one["claim"]), str(one.get("evidence", "")), str(one.get("verdict", "")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is no list of findings: {error}", fix="write objects with claim, evidence and verdict"
        ) from error


def _preference(dataset: xr.Dataset) -> Iterator[Sentence]:
    values = per_layer(_kept(dataset, control="none"), "log_ratio").transpose("item", "layer")
    there = np.isfinite(values.values).all(1)
    if not there.any():
        raise BadInput("no item shows demonstrations with audio and text")
    values = values.isel(item=np.flatnonzero(there))
    names, layers = values["utterance"].values.tolist(), values["layer"].values.tolist()
    test = sign_flip(values.values, clusters=names)
    ends = bootstrap(values.values, clusters=names)
    sure = np.atleast_1d(test.p_family) <= ALPHA
    text, audio = int((sure & (ends.estimate > 0)).sum()), int((sure & (ends.estimate < 0)).sum())
    strongest = int(np.argmax(np.abs(ends.estimate)))
    side = "text" if ends.estimate[strongest] > 0 else "audio"
    ratio = np.exp(abs(float(ends.estimate[strongest])))
    yield Sentence(
        f"Per token, the demonstrations' text is preferred in {text} of {len(layers)} layers and their audio in "
        f"{audio}; most clearly at layer {layers[strongest]}, where a token of {side} gets {ratio:.1f} times as much.",
        f"log ratio {ends.estimate[strongest]:.2f} [{ends.low[strongest]:.2f}, {ends.high[strongest]:.2f}] at that "
        f"layer, p = {np.atleast_1d(test.p_family)[strongest]:.4f} corrected over {len(layers)} layers; "
        f"{len(set(names))} utterances, {len(values)} items",
        "supported" if text or audio else "inconclusive",
    )
    raw = per_layer(_kept(dataset, control="none"), "bias").isel(item=np.flatnonzero(there)).mean("layer").values
    mean = bootstrap(raw, clusters=names)
    yield Sentence(
        f"Counted by mass, as the paper does, {'text' if mean.estimate > 0 else 'audio'} gets more, over all layers.",
        f"bias {mean.estimate:.2f} [{mean.low:.2f}, {mean.high:.2f}], not corrected for length: audio spans are longer "
        "than texts",
        "supported" if bool(mean.excludes()) else "inconclusive",
    )


def _use(dataset: xr.Dataset) -> Iterator[Sentence]:
    clean = _kept(dataset, control="none")
    rows = _by_cell(clean)
    base = rows.get(("asr", 0)) or next((rows[key] for key in sorted(rows) if key[1] == 0), None)
    if base is None:
        raise BadInput("the run has no items without demonstrations to compare with")
    for condition in dict.fromkeys(name for name, shots in rows if shots):
        shots = max(number for name, number in rows if name == condition)
        found = _difference(rows[condition, shots], base, unit=np.log(2), per=1)
        better = "lower" if found.estimate < 0 else "raise"
        yield Sentence(
            f"{shots} demonstrations ({condition}) {better} the cost of the reference by {abs(found.estimate):.2f} "
            "bits per character, against none.",
            f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}] bits per character, {found.units} utterances",
            "supported" if bool(found.excludes()) else "inconclusive",
        )


def _controls(dataset: xr.Dataset) -> Iterator[Sentence]:
    names = sorted({_name(one) for one in dataset["control"].values.tolist()} - {"none"})
    if not names:
        raise BadInput("the run has no controls")
    clean = _by_cell(_kept(dataset, control="none"))
    for name in names:
        changed = _by_cell(_kept(dataset, control=name))
        condition, shots = max(changed, key=lambda key: (key[0] == "micl", key[1]))
        if (condition, shots) not in clean:
            continue
        found = _difference(changed[condition, shots], clean[condition, shots], unit=1.0, per=2)
        sure = bool(found.excludes())
        said = (
            f"costs {found.estimate:.2f} nats per token: what it destroys is used"
            if sure and found.estimate > 0
            else "does not make the reference less likely: what it destroys is not shown to be used"
        )
        yield Sentence(
            f"The control {name} ({condition}, {shots} shots) {said}.",
            f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}] nats per token, {found.units} utterances",
            "supported" if sure and found.estimate > 0 else "inconclusive",
        )


def _by_cell(dataset: xr.Dataset) -> dict[tuple[str, int], dict[str, tuple[float, float, float]]]:
    """Return sums of NLL, characters and tokens over the seeds of each utterance, by condition and shots."""
    found: dict[tuple[str, int], dict[str, tuple[float, float, float]]] = {}
    names = ("condition", "shots", "utterance", "nll", "n_chars", "n_output_tokens")
    for condition, shots, utterance, *numbers in zip(*(dataset[name].values.tolist() for name in names), strict=True):
        cell = found.setdefault((condition, shots), {})
        before = cell.get(utterance, (0.0, 0.0, 0.0))
        cell[utterance] = tuple(a + b for a, b in zip(before, numbers, strict=True))
    return found


def _difference(first: dict[str, Any], second: dict[str, Any], *, unit: float, per: int) -> Any:
    both = [name for name in first if name in second]
    if not both:
        raise BadInput("no utterance is in both")
    # Repetitions over seeds weigh an utterance by how often it was run; per its own length they do not.
    values = [[one[name][0] / unit / one[name][per] * second[name][per] for name in both] for one in (first, second)]
    return bootstrap(values[0], minus=values[1], per=[second[name][per] for name in both])


def _kept(dataset: xr.Dataset, *, control: str) -> xr.Dataset:
    keep = np.array([_name(one) == control for one in dataset["control"].values.tolist()])
    keep &= dataset["intervention"].values == "none"
    if not keep.any():
        raise BadInput(f"no item has the control {control!r}")
    return dataset.isel(item=np.flatnonzero(keep))


def _name(control: str) -> str:
    return "+".join(one.split("@")[0] for one in control.split("+"))
