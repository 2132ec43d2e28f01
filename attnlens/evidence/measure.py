"""One prompt under every ablation that is asked for: what the answer costs then, and how random cuts compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnlens.context.controls import CONTROLS, apply_control
from attnlens.context.encode import Encoded
from attnlens.context.prompt import CONDITIONS, Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput
from attnlens.evidence.asked import Asked, Cut, Patched, Replaced, Shown, shown_as
from attnlens.evidence.edges import Window
from attnlens.evidence.random_keys import OTHER, Beside, random_keys
from attnlens.models.clips import reusing_clips
from attnlens.models.replay import Replay, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.data.corpus import Corpus
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Bench", "Cell", "Measured", "aligned"]

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """One ablation of one prompt: change in nats, mass of the edge, random cuts (change, share), damage of a patch.

    ``other`` is the change of another utterance's reference, scaled to as many tokens.
    """

    change: float = math.nan
    mass: float = math.nan
    random: dict[str, tuple[float, float]] = field(default_factory=dict)
    damage: float = math.nan
    other: float = math.nan
    why: str = ""


@dataclass(frozen=True)
class Measured:
    """One prompt under all ablations, in the order of the plan."""

    clean: float
    tokens: int
    cells: tuple[Cell, ...]

    def written(self) -> dict[str, Any]:
        """Return values of JSON."""
        return asdict(self)

    @classmethod
    def read(cls, values: dict[str, Any]) -> Measured:
        """Take back what was written.

        >>> one = Measured(1.5, 3, (Cell(0.5, random={"equal-count": (0.1, 1.0)}, damage=0.2, other=0.0),))
        >>> Measured.read(one.written()).cells[0].random
        {'equal-count': (0.1, 1.0)}
        """
        cells = [
            Cell(**{**one, "random": {name: (cost, share) for name, (cost, share) in one["random"].items()}})
            for one in values["cells"]
        ]
        return cls(values["clean"], values["tokens"], tuple(cells))


class Bench:
    """Measure prompts one after another under a plan of ablations and windows of layers."""

    def __init__(
        self,
        lens: SpeechLM,
        prompts: Sequence[Prompt],
        plan: Sequence[tuple[Asked, Window]],
        *,
        how: Literal["mask", "zero"],
        controls: Sequence[Beside],
        corpora: Sequence[Corpus],
        seed: int,
    ) -> None:
        self.lens, self.prompts, self.plan = lens, list(prompts), list(plan)
        self.how, self.controls, self.seed = how, tuple(controls), seed
        self.corpora = {one.language: one for one in corpora}

    def measure(self, place: int) -> Measured:
        """Measure the prompt at a place under everything."""
        with reusing_clips(self.lens):
            replay = self.replay(self.prompts[place])
            one = _One(self, place, replay)
            return Measured(replay.clean, replay.tokens, tuple(one.cell(*step) for step in self.plan))

    def replay(self, prompt: Prompt, answer: str | None = None) -> Replay:
        """Read a prompt with its reference, or with another answer."""
        return Replay(self.lens, self.lens.encode(prompt, prompt.target.text if answer is None else answer))

    def other_answer(self, place: int) -> str | None:
        """Return the reference of the next prompt whose text is another one, of the same language if there is one."""
        own = self.prompts[place].target
        others = [
            one.target for one in (*self.prompts[place + 1 :], *self.prompts[:place]) if one.target.text != own.text
        ]
        same = [one for one in others if one.language == own.language]
        return next((one.text for one in (*same, *others)), None)

    @cached_property
    def sums(self) -> list[dict[tuple[Source, int], tuple[Tensor, int]]]:
        """Return, per prompt, the sum of the stream over each span and layer that a mean is asked of, and its count."""
        due = {(one.span, layer) for one, layers in self.plan if isinstance(one, Replaced) for layer in layers}
        found = []
        with reusing_clips(self.lens):
            for prompt in self.prompts:
                replay = self.replay(prompt)
                streams = replay.streams(sorted({layer for _, layer in due}))
                spans = {span: replay.encoded.spans.positions(span) for span, _ in due}
                found.append(
                    {
                        (span, layer): (streams[layer][spans[span]].sum(0), len(spans[span]))
                        for span, layer in due
                        if len(spans[span])
                    }
                )
        return found

    def mean(self, span: Source, layer: int, *, without: int) -> Tensor | None:
        """Return the mean state of a span after a layer over all prompts but one [hidden]; None where none has it."""
        parts = [one[span, layer] for place, one in enumerate(self.sums) if place != without and (span, layer) in one]
        count = sum(number for _, number in parts)
        return sum(total for total, _ in parts) / count if count else None  # type: ignore[return-value]


class _One:
    """A prompt on the bench."""

    def __init__(self, bench: Bench, place: int, replay: Replay) -> None:
        self.bench, self.place, self.replay = bench, place, replay
        self.prompt, self.encoded = bench.prompts[place], replay.encoded
        self.answer = bench.other_answer(place) if OTHER in bench.controls else None
        self.other = None if self.answer is None else bench.replay(self.prompt, self.answer)
        self.keys = [one for one in bench.controls if one != OTHER]
        self._received: dict[bytes, NDArray[np.floating]] = {}
        self._corrupted: dict[str, tuple[Prompt, Replay, Replay | None] | str] = {}

    def cell(self, one: Asked, layers: Window) -> Cell:
        if isinstance(one, Shown):
            return self._shown(one)
        if isinstance(one, Cut):
            return self._cut(one, layers)
        return self._replaced(one, layers) if isinstance(one, Replaced) else self._patched(one, layers)

    def _change(self, nll: float) -> float:
        return nll - self.replay.clean

    def _changed(self, replay: Replay, changed: float) -> float:
        """Return the change of another answer as if it had as many tokens as the reference."""
        return (changed - replay.clean) * self.replay.tokens / replay.tokens

    def _rng(self, *key: str) -> np.random.Generator:
        from attnlens.context.prompt import stable_hash

        return np.random.default_rng(int(stable_hash(self.bench.seed, self.prompt.target.id, *key), 16))

    def _shown(self, one: Shown) -> Cell:
        try:
            changed = self._prompt(one.name)
        except BadInput as error:
            return Cell(why=error.message)
        other = math.nan
        if self.other is not None:
            other = self._changed(self.other, self.bench.replay(changed, self.answer).clean)
        return Cell(self._change(self.bench.replay(changed).clean), other=other)

    def _prompt(self, name: str) -> Prompt:
        if name in CONDITIONS:
            return shown_as(self.prompt, name)
        CONTROLS.require(name)
        corpus = self.bench.corpora.get(self.prompt.target.language)
        return apply_control(self.prompt, name, seed=self.bench.seed, corpus=corpus)

    def _cut(self, one: Cut, layers: Window) -> Cell:
        flags = one.edge.flags(self.encoded)
        if flags is None:
            return Cell(why="the prompt has no such edge", random=dict.fromkeys(self.keys, (math.nan, math.nan)))
        rows, keys = flags
        weights = self._mass(rows)[list(layers)].mean(0)
        change = self._change(self.replay.nll([self._knockout(rows, keys, layers)]))
        spared = one.edge.spared(self.encoded)
        random = {}
        for kind in self.keys:
            # The count is the same in every window, and so is the draw.
            draw = self._rng(str(one), kind) if kind == "equal-count" else self._rng(str(one), kind, str(layers))
            drawn = random_keys(rows, keys, kind=kind, spared=spared, mass=weights, rng=draw)
            cost = math.nan
            if drawn.keys.any():
                cost = self._change(self.replay.nll([self._knockout(rows, drawn.keys, layers)]))
            random[str(kind)] = (cost, drawn.share)
        other = math.nan
        there = None if self.other is None else one.edge.flags(self.other.encoded)
        if self.other is not None and there is not None:
            other = self._changed(self.other, self.other.nll([self._knockout(*there, layers)]))
        return Cell(change, float(weights[keys].sum()), random, other=other)

    def _mass(self, rows: Flags) -> NDArray[np.floating]:
        name = rows.tobytes()
        if name not in self._received:
            self._received[name] = self.replay.received(rows)
        return self._received[name]

    def _knockout(self, rows: Flags, keys: Flags, layers: Window):  # type: ignore[no-untyped-def]
        import torch

        from attnlens.capture.edits import Knockout

        device = self.bench.lens.device
        queries, columns = (torch.as_tensor(one, device=device)[None] for one in (rows, keys))
        return Knockout(queries=queries, keys=columns, layers=tuple(layers), how=self.bench.how)

    def _replaced(self, one: Replaced, layers: Window) -> Cell:
        positions = self.encoded.spans.positions(one.span)
        if not len(positions):
            return Cell(why="the prompt has no such span")
        values = self._values(one, layers, len(positions))
        if values is None:
            return Cell(why="no other prompt has such a span")
        streams = [Stream(layer, positions, value) for layer, value in values.items()]
        other = math.nan
        if self.other is not None and one.span != "output":
            other = self._changed(self.other, self.other.nll(streams=streams))
        return Cell(self._change(self.replay.nll(streams=streams)), other=other)

    def _values(self, one: Replaced, layers: Window, count: int) -> dict[int, Tensor] | None:
        import torch

        found: dict[int, Tensor] = {}
        if one.value == "resample":
            donor = self._donor(one.span)
            if donor is None:
                return None
            there = donor.encoded.spans.positions(one.span)
            drawn = there[self._rng(str(one)).integers(len(there), size=count)]
            return {layer: stream[drawn] for layer, stream in donor.streams(layers).items()}
        for layer in layers:
            if one.value == "zero":
                width = self.bench.lens.decoder.get_input_embeddings().weight.shape[1]
                found[layer] = torch.zeros(count, width)
                continue
            mean = self.bench.mean(one.span, layer, without=self.place)
            if mean is None:
                return None
            found[layer] = mean.expand(count, -1)
        return found

    def _donor(self, span: Source) -> Replay | None:
        """Return the next prompt in the round that has the span."""
        others = [*self.bench.prompts[self.place + 1 :], *self.bench.prompts[: self.place]]
        for prompt in others:
            replay = self.bench.replay(prompt)
            if len(replay.encoded.spans.positions(span)):
                return replay
        return None

    def _patched(self, one: Patched, layers: Window) -> Cell:
        if one.corrupted not in self._corrupted:
            try:
                prompt = self._prompt(one.corrupted)
                second = None if self.answer is None else self.bench.replay(prompt, self.answer)
                self._corrupted[one.corrupted] = prompt, self.bench.replay(prompt), second
            except BadInput as error:
                self._corrupted[one.corrupted] = error.message
        found = self._corrupted[one.corrupted]
        if isinstance(found, str):
            return Cell(why=found)
        prompt, corrupted, second = found
        pairs = aligned(one.span, (self.prompt, self.encoded), (prompt, corrupted.encoded))
        if isinstance(pairs, str):
            return Cell(why=pairs)
        of, to = pairs
        streams = [Stream(layer, to, stream[of]) for layer, stream in self.replay.streams(layers).items()]
        other = math.nan
        if second is not None and one.span != "output":
            other = self._changed(second, second.nll(streams=streams))
        change = corrupted.nll(streams=streams) - corrupted.clean
        return Cell(change, damage=self._change(corrupted.clean), other=other)


def aligned(
    span: Source, clean: tuple[Prompt, Encoded], corrupted: tuple[Prompt, Encoded]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | str:
    """Return the positions of a span in the clean and in the corrupted prompt, or why they cannot be paired.

    What stands in a demonstration is found again by whose audio or text it is, since controls move it; the positions
    to write to are in ascending order.
    """
    there, here = clean[1].spans.positions(span), corrupted[1].spans.positions(span)
    if not len(there) or not len(here):
        return "the prompt has no such span"
    if span in ("demo_audio", "demo_text"):
        pairs = [_of_demos(span, prompt, encoded) for prompt, encoded in (clean, corrupted)]
        if set(pairs[0]) != set(pairs[1]) or any(len(pairs[0][name]) != len(pairs[1][name]) for name in pairs[0]):
            return "the corrupted prompt does not hold the same demonstrations"
        there, here = (np.concatenate([one[name] for name in pairs[0]]) for one in pairs)
    if len(there) != len(here):
        return "the span is of another length in the corrupted prompt"
    order = np.argsort(here)
    return there[order], here[order]


def _of_demos(span: Source, prompt: Prompt, encoded: Encoded) -> dict[str, NDArray[np.int64]]:
    found: dict[str, NDArray[np.int64]] = {}
    for place, one in enumerate(prompt.demonstrations):
        name = one.audio_id if span == "demo_audio" else one.text_id
        found[f"{name}#{sum(key.split('#')[0] == name for key in found)}"] = encoded.spans.positions(span, demo=place)
    return found
