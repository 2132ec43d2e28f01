"""What does capture cost, in ratios to the same model's plain SDPA forward? `python benchmarks/capture.py [--short]`

Everything in one process and one run, the ways taken in turn. Linux with glibc only: peak memory is read from /proc, in
rounds of its own.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
import transformers
from _measure import Way, compare, machine, table
from _ways import FIVE, PLAIN, Decoder

HIDDEN, HEADS, KEY_HEADS, GROUPS = 768, 12, 4, 8
LAYERS = {1024: 8, 2048: 8, 4096: 2, 8192: 2}
EAGER_FROM, EAGER_TO = 1024, 4096
"""Eager's matrices of 8192 tokens and two layers alone are 6 GB."""


def small_model(layers: int) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        intermediate_size=2048,
        vocab_size=1024,
        max_position_embeddings=16384,
        pad_token_id=0,
    )
    return transformers.Qwen2ForCausalLM(config).eval()


def limits(n: int) -> dict[str, tuple[float, float]]:
    """The figures to reach: time and peak memory over the plain forward's; zero is no limit."""
    found = {"64 rows, five measures": (1.08, 1.05)}
    if n >= 4096:
        found["all rows, widened, by query groups"] = (1.10, 1.2)
        found["all rows, second pass, by query groups"] = (1.60, 1.2)
    return found


def ways(n: int) -> dict[str, Way]:
    model = small_model(LAYERS[n])
    one = Decoder(model, torch.randint(1, 1000, (1, n)), GROUPS)
    found = {
        PLAIN: one.plain(),
        "capture open, nothing asked": one.idle(),
        "64 rows, mass": one.captured("mass", rows=one.last(64)),
        "64 rows, five measures": one.captured(*FIVE, rows=one.last(64)),
        "64 rows, mass and contribution": one.captured("mass", "contribution", rows=one.last(64)),
        "all rows, widened, by query groups": one.all_rows("widened"),
        "all rows, second pass, by query groups": one.all_rows("second-pass"),
    }
    if EAGER_FROM <= n <= EAGER_TO:
        found["eager, output_attentions"] = one.matrices()
        found |= nnsight_way(model, one.ids, one.groups)
    return found


def nnsight_way(model: Any, ids: torch.Tensor, groups: torch.Tensor) -> dict[str, Way]:
    """What nnsight needs for the same masses: eager weights, reduced layer by layer inside the trace."""
    try:
        import nnsight
    except ImportError:
        return {}
    twin = small_model(len(model.model.layers))
    wrapped = nnsight.NNsight(twin)
    spans = torch.nn.functional.one_hot(groups, GROUPS).float()

    def run() -> object:
        with wrapped.trace(input_ids=ids, use_cache=False, logits_to_keep=1):
            found = []
            for layer in wrapped.model.layers:
                found.append(layer.self_attn.output[1] @ spans[:, None])  # noqa: PERF401 - nnsight rewrites the block
            masses = nnsight.save(torch.stack(found))
        return masses  # noqa: RET504 - its name is what nnsight brings out of the block

    return {"eager, nnsight": Way(run, lambda: twin.set_attn_implementation("eager"))}


def against_eager(found: dict[str, Way]) -> list[str]:
    """How many times faster and smaller the 64 rows are than eager's matrices."""
    ours, plain = found["64 rows, five measures"], found[PLAIN]
    lines = []
    for name in ("eager, output_attentions", "eager, nnsight"):
        if name in found:
            theirs = found[name]
            faster = sorted(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))[len(ours.seconds) // 2]
            extra = max(1.0, ours.peak - plain.peak)
            lines.append(
                f"64 rows against {name}: {faster:.1f} times faster, extra memory {extra:.0f} MB "
                f"against {theirs.peak - plain.peak:.0f} MB"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="1024 tokens only, two rounds")
    parser.add_argument("--tokens", type=int, nargs="+", choices=sorted(LAYERS), default=sorted(LAYERS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    print(machine())
    late: list[str] = []
    every = {n: ways(n) for n in ([1024] if options.short else options.tokens)}
    for found in every.values():
        compare(found, rounds=1, pages="given back")
    for n, found in every.items():
        compare(found, rounds=2 if options.short else options.rounds, pages="settled")
        text, over = table(found, baseline=PLAIN, limits=limits(n))
        print(f"\n### {n} tokens, {LAYERS[n]} layers\n\n{text}\n", *against_eager(found), sep="\n", flush=True)
        late += [f"{n} tokens, {one}" for one in over]
    sys.exit("over the limit:\n" + "\n".join(late) if late else 0)


if __name__ == "__main__":
    main()
