"""Writes docs/gpu.md: memory and time of published checkpoints, reckoned by the code behind `attnlens plan`.

python -m docs.make_gpu [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from attnlens import Corpus, RunSpec, Utterance, make_plan
from attnlens.cli.plan import ROOM, duration, size
from attnlens.data.audio import RATE, Audio
from attnlens.errors import BadInput
from attnlens.models.dimensions import KNOWN, sized_front_end
from attnlens.run.corpora import CORPORA
from attnlens.run.estimate import Estimate, estimate
from attnlens.run.hardware import GPUS, READING, WRITING, seconds_on
from attnlens.run.kinds import AnySpec, read_any_spec
from attnlens.run.price import forecast, price_run
from attnlens.run.stand_in import find_or_stand_in
from attnlens.train.spec import TrainSpec

PAGE = Path(__file__).parent / "gpu.md"
SHOTS = (0, 1, 5, 10, 25, 50, 100)
SECONDS, BYTES = 6.88, 28
"""A demonstration of the paper: 86 positions of audio at 12.5 a second, 28 of text (its Table 11)."""
UTTERANCES = 500
CARDS = ("l40s-48gb", "a100-80gb", "h100-80gb")


def typical() -> Corpus:
    """A corpus of clips and texts of the paper's mean length; a plan never hears them."""
    clip = Audio.from_array(np.zeros(round(SECONDS * RATE), dtype=np.float32))
    pool = tuple(Utterance(f"p{n}", clip, f"{n:04} ".ljust(BYTES, "a"), "xx") for n in range(max(SHOTS) + 5))
    noise = Audio.from_array(np.ones(round(SECONDS * RATE), dtype=np.float32))
    return Corpus("typical", "xx", {"pool": pool, "test": (Utterance("t", noise, "t ".ljust(BYTES, "b"), "xx"),)})


def cost(model: str, shots: int, *, measures: tuple[str, ...] = (), answers: bool = False) -> Estimate | None:
    spec = RunSpec(
        model={"name": model},
        data={"corpora": ["typical"]},
        context={"conditions": ["micl" if shots else "asr"], "shots": [shots], "retriever": "first", "controls": []},
        tracing={"measures": list(measures)},
        decoding={"conditions": ["micl", "asr"] if answers else [], "max_new_tokens": 40},
    )
    front = sized_front_end(model)
    try:
        return estimate(make_plan(spec, front=front), front=front)
    except BadInput:
        return None


TEMPLATE = """\
# GPU memory and time

<!-- made by `python -m docs.make_gpu`; change that, not this -->

What a prompt of so many pairs costs on a published checkpoint. A pair is the paper's mean: {seconds} s of audio and
{bytes} tokens of text. All numbers come from the code behind `attnlens plan`, from published sizes: **they are
reckoned, and no GPU has measured them**. `attnlens plan SPEC --measure` loads the checkpoint and times a few batches,
which then hold for your machine.

```sh
attnlens plan --model microsoft/Phi-4-multimodal-instruct --corpora synthetic --shots 0,4 --gpu a100-80gb
```

## Positions and memory

Positions of the prompt with its answer; then weights in bfloat16, cache and working memory, the rows that are measured,
their logits. In brackets what all attention weights of all layers would take in bfloat16, which is what
`output_attentions` holds and attnlens never does.

{memory}

## Time

{utterances} utterances, each read along with its reference once, on one GPU at {reading} of its dense bfloat16 peak.
Encoders are left out, since a clip is encoded once however many prompts it stands in.

{time}

## By measure

Ten pairs, {utterances} utterances, one a100-80gb. Masses, entropy and the largest weight come out of one pass.
`contribution` reads the prompt once more; answers of up to 40 tokens read it again and fetch the weights per token, at
{writing} of the memory's bandwidth. Qwen3-Omni's experts are slower than that in plain transformers, where users report
about one token a second: leave generation out (`decoding.conditions: []`) or expect it. Disk is before compression.

{measures}

## The paper, spec by spec

Every spec of `experiments/paper`, the recipes behind them and the acoustic model, whole, with corpora of the published
hours (Table 1), of which dev and test share theirs evenly. One by one: `attnlens plan SPEC --gpu {card}`. Runs that are
made once per adapter or retriever are counted once.

{specs}

A token is a byte here, so texts are too long. Acoustic models and their beams are left out of re-ranking.

## What this leaves out

* Fragmentation, the CUDA context (about 1 GB), and whatever else is on the card: plan for a tenth more.
* Encoders, reading of audio, writing of the store; on short prompts these can be most of the time.
* Several GPUs: `model.device: auto` spreads the weights, and layers then wait for each other.
* Text of a language that the tokenizer does not know takes more tokens than here; `attnlens plan` counts yours.
"""


def page() -> str:
    return TEMPLATE.format(
        seconds=SECONDS,
        bytes=BYTES,
        utterances=UTTERANCES,
        reading=f"{READING:.0%}",
        writing=f"{WRITING:.0%}",
        memory=table(["model", "weights", *PAIRS], memory()),
        time=table(["model", "GPU", *PAIRS], times()),
        measures=table(["model", "masses", "with contribution", "with answers", "disk per item"], by_measure()),
        card=CARDS[1],
        specs=table(
            ["spec", "for", "model", "prompts or clips", "tokens to read", "memory", "disk", CARDS[1]], by_spec()
        ),
    )


PAIRS = [f"{shots} pairs" for shots in SHOTS]


def table(head: list[str], rows: Iterator[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def memory() -> Iterator[list[str]]:
    for name, sizes in KNOWN.items():
        cells = []
        for shots in SHOTS:
            found = cost(name, shots)
            if found is None or found.memory is None:
                cells.append("beyond its context")
                continue
            square = 2 * sizes.layers * sizes.heads * found.longest**2
            cells.append(f"{found.longest:,}: {size(found.memory)} ({size(square)})")
        yield [name, size(2 * sizes.parameters), *cells]


def times() -> Iterator[list[str]]:
    for name in KNOWN:
        for card in CARDS:
            yield [name, card, *(told(card, cost(name, shots)) for shots in SHOTS)]


def by_measure() -> Iterator[list[str]]:
    for name in KNOWN:
        plain = cost(name, 10)
        three = [plain, cost(name, 10, measures=("contribution",)), cost(name, 10, answers=True)]
        disk = "" if plain is None else size(plain.disk)
        yield [name, *(told("a100-80gb", one) for one in three), disk]


EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RECIPES = ("acoustic/mms", "recipes/asr-ft", "recipes/tft", "recipes/xft")


def by_spec() -> Iterator[list[str]]:
    for path in [
        *sorted((EXPERIMENTS / "paper").glob("*.yaml"), key=by_number),
        *(EXPERIMENTS / f"{one}.yaml" for one in RECIPES),
    ]:
        kind, spec = read_any_spec(path)
        found = by_utterance(spec) if isinstance(spec, RunSpec) else forecast(spec).cost
        gpu = GPUS[CARDS[1]]
        seconds = seconds_on(
            gpu, operations=found.operations, written=found.tokens_made, active_bytes=found.active_bytes
        )
        yield [
            f"`{path.relative_to(EXPERIMENTS)}`",
            f"`attnlens {kind}`",
            named(spec),
            f"{found.items:,}",
            f"{found.positions:,}",
            "" if found.memory is None else size(found.memory),
            size(found.disk),
            duration(seconds) if found.operations else "",
        ]


def by_number(path: Path) -> tuple[str, int, str]:
    found = re.match(r"(\D+)(\d*)(.*)", path.stem)
    return (found[1], int(found[2] or 0), found[3]) if found else (path.stem, 0, "")


def by_utterance(spec: RunSpec) -> Estimate:
    """Price a run from one utterance of each corpus: those of a stand-in are all alike."""
    parts = []
    for name in spec.data.corpora:
        (corpus,), _ = find_or_stand_in([name])
        _, one, _ = price_run(spec.updated({"data.corpora": [name], "data.limit": 1}))
        parts.append((one, min(spec.data.limit or len(corpus.test), len(corpus.test))))
    added = {
        key: sum(count * getattr(one, key) for one, count in parts)
        for key in ("items", "positions", "tokens_made", "disk", "operations")
    }
    return replace(parts[0][0], **added)


def named(spec: AnySpec) -> str:
    if isinstance(spec, RunSpec):
        return spec.model.name
    if isinstance(spec, TrainSpec):
        return str(spec.options["model"])
    selector = getattr(spec, "selector", None)
    return "" if selector is None else str(selector.model)


def told(card: str, found: Estimate | None) -> str:
    gpu = GPUS[card]
    if found is None or found.memory is None:
        return ""
    if found.memory > ROOM * gpu.memory:
        return "does not fit"
    seconds = seconds_on(gpu, operations=found.operations, written=found.tokens_made, active_bytes=found.active_bytes)
    return duration(UTTERANCES * seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only say whether the page is what this would write")
    asked = parser.parse_args()
    CORPORA.register("typical", typical, summary="clips and texts of the paper's mean length")
    text = page()
    if asked.check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
