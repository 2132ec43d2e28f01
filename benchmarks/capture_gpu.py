"""What does capture cost in bf16 on a GPU, up to 32k tokens? `python benchmarks/capture_gpu.py`

Random weights in the shapes of Phi-4-multimodal's and Qwen3-Omni's text decoders (--shape phi4, --shape qwen3-omni), so
that nothing is downloaded; 61 GB of them for the latter (--layers 12 takes a quarter of the depth). Ways are taken in
turn. Without a GPU, --device cpu --small runs the same code on a toy, which says nothing about speed.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
import transformers
from _measure import Way, compare, table
from _ways import FIVE, PLAIN, Decoder

GROUPS = 16
EAGER_TO = 4096
"""At 8k tokens Phi-4's weights of all layers alone are 100 GB."""


def decoder(shape: str, layers: int | None, device: str, size: str) -> Any:
    common = {"max_position_embeddings": 65536, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if shape == "phi4":
        sizes = {
            "hidden_size": 3072,
            "num_hidden_layers": 32,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "vocab_size": 200064,
        }
        small = {"hidden_size": 96, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 128}
        config_class, model_class = transformers.Phi3Config, transformers.Phi3ForCausalLM
    else:
        sizes = {
            "hidden_size": 2048,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "intermediate_size": 768,
            "vocab_size": 152064,
        }
        small = {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "intermediate_size": 16,
            "vocab_size": 128,
        }
        config_class, model_class = transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM
    fields = {**sizes, **(small if size == "small" else {}), **common}
    if layers is not None:
        fields["num_hidden_layers"] = layers
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return model_class(config_class(**fields)).eval()
    finally:
        torch.set_default_dtype(before)


def ways(model: Any, n: int, device: str) -> dict[str, Way]:
    one = Decoder(model, torch.randint(3, 100, (1, n), device=device), GROUPS)
    found = {
        PLAIN: one.plain(),
        "64 rows, five measures": one.captured(*FIVE, rows=one.last(64)),
        "200 rows, mass": one.captured("mass", rows=one.last(200)),
        "64 rows, mass and contribution": one.captured("mass", "contribution", rows=one.last(64)),
        "all rows, widened, by query groups": one.all_rows("widened"),
        "all rows, second pass, by query groups": one.all_rows("second-pass"),
    }
    if n <= EAGER_TO:
        found["eager, output_attentions"] = one.matrices()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["phi4", "qwen3-omni"], nargs="+", default=["phi4", "qwen3-omni"])
    parser.add_argument("--layers", type=int, default=None, help="fewer layers than the published model")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a toy of 256 tokens")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here; pass --device cpu --small to run the code on a toy")
    transformers.logging.set_verbosity_error()
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}, bfloat16")
    for shape in options.shape:
        model = decoder(shape, options.layers, options.device, "small" if options.small else "full")
        for n in [256] if options.small else options.tokens:
            found = ways(model, n, options.device)
            compare(found, rounds=options.rounds, device=options.device)
            text, _ = table(found, baseline=PLAIN, limits={})
            depth = len(model.model.layers)
            print(f"\n### {shape}, {n} tokens, {depth} layers\n\n{text}", flush=True)
        del model


if __name__ == "__main__":
    main()
