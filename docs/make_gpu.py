"""Writes docs/gpu.md: memory and time of published checkpoints, reckoned by the code behind `attnlens plan`.

python -m docs.make_gpu [--check]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
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
reckoned, and no GPU has measured them**. `attnlens plan SPEC --measure` loads the checkpoint and times two items, which
then hold for your machine.

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
