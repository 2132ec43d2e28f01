"""What does a shared prompt save when hypotheses are scored? `python benchmarks/scoring.py [--short]`

Hypotheses of 30 tokens after a prompt of 2,000, the reading of the prompt included, against one forward pass each; of
those one is measured per round and multiplied. Linux only: peak memory is read from /proc.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import transformers
from _measure import Way, compare, machine

from attnlens.context.encode import Encoded
from attnlens.models.backend import BaseBackEnd
from attnlens.models.prefix import Prefix
from attnlens.models.scoring import Method, score
from attnlens.models.speechlm import SpeechLM
from attnlens.models.teacher_forcing import reader

PROMPT, TOKENS, VOCABULARY = 2000, 30, 32_000
HIDDEN, LAYERS, HEADS, KEY_HEADS = 768, 8, 12, 4
EACH, READING = "one forward each", "reading the prompt"
FASTER = {10: 6.0, 50: 18.0}
"""At least so many times faster than one forward each, for so many hypotheses."""
MEMORY = 300.0
"""At most so many MB more than reading the prompt takes."""
EXACT = 3e-5
METHODS: tuple[Method, Method] = ("full", "packed")


class TextBackEnd(BaseBackEnd):
    """A plain language model."""

    decoder_path = "model"


def lens_of(layers: int) -> SpeechLM:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        intermediate_size=2048,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        pad_token_id=0,
    )
    front = SimpleNamespace(audio_token_id=-1, context_length=4096)
    back = TextBackEnd(transformers.Qwen2ForCausalLM(config).eval(), cast(Any, front))
    return SpeechLM(back, name="text", family="text")


def prompt_of(positions: int) -> Encoded:
    ids = np.random.default_rng(0).integers(1, VOCABULARY, positions)
    target = SimpleNamespace(target=SimpleNamespace(id="benchmark"))
    return Encoded(cast(Any, target), ids, cast(Any, None), ())


def ways(lens: SpeechLM, encoded: Encoded, hypotheses: list[list[int]], counts: list[int]) -> dict[str, Way]:
    def scored(count: int, method: Method) -> Way:
        return Way(lambda: score(lens, encoded, hypotheses[:count], method=method))

    reading = reader(lens.back)
    assert reading is not None
    found = {
        EACH: scored(1, "full"),
        READING: Way(lambda: Prefix.of(reading, lens.inputs(encoded), length=len(encoded.ids))),
    }
    for count in counts:
        found[f"packed, {count}"] = scored(count, "packed")
        found[f"sequential, {count}"] = scored(count, "sequential")
    return found


def report(found: dict[str, Way], counts: list[int]) -> list[str]:
    """Print a Markdown table and return what misses its limit."""
    each, reading = found[EACH], found[READING]
    print("| way | CPU s | times faster | at least | peak MB over reading | at most |\n|---|---:|---:|---:|---:|---:|")
    for name in (EACH, READING):
        print(f"| {name} | {statistics.median(found[name].seconds):.2f} | | | |")
    late = []
    for count in counts:
        for method in ("packed", "sequential"):
            way = found[f"{method}, {count}"]
            faster = statistics.median(count * a / b for a, b in zip(each.seconds, way.seconds, strict=True))
            more = way.peak - reading.peak
            limits = (f"{FASTER[count]:.0f}", f"{MEMORY:.0f}") if method == "packed" and count in FASTER else ("", "")
            print(
                f"| {method}, {count} hypotheses | {statistics.median(way.seconds):.2f} | {faster:.1f} | {limits[0]} "
                f"| {more:.0f} | {limits[1]} |"
            )
            if limits[0] and (faster < FASTER[count] or more > MEMORY):
                late.append(f"{method}, {count} hypotheses: {faster:.1f} times faster, {more:.0f} MB more")
    return late


def difference(lens: SpeechLM, encoded: Encoded, hypotheses: list[list[int]]) -> float:
    full, packed = (score(lens, encoded, hypotheses, method=method) for method in METHODS)
    return max(abs(one.total - other.total) for one, other in zip(full, packed, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="two layers, a prompt of 300 and three hypotheses")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    positions, layers = (300, 2) if options.short else (PROMPT, LAYERS)
    counts = [3] if options.short else list(FASTER)
    lens, encoded = lens_of(layers), prompt_of(positions)
    hypotheses = np.random.default_rng(1).integers(1, VOCABULARY, (max(counts), TOKENS)).tolist()
    found = ways(lens, encoded, hypotheses, counts)
    compare(found, rounds=1 if options.short else options.rounds)
    print(machine())
    print(f"\n### {positions} prompt tokens, hypotheses of {TOKENS}, {layers} layers, hidden {HIDDEN}\n")
    late = report(found, counts)
    worst = difference(lens, encoded, hypotheses[:4])
    print(f"\nlargest difference of a sum of log-probabilities from one forward each: {worst:.1e}")
    late += [f"off by {worst:.1e}"] if worst > EXACT else []
    sys.exit("over the limit:\n" + "\n".join(late) if late else 0)


if __name__ == "__main__":
    main()
