"""How much of a bare loop's throughput does `attnlens train` keep? `python benchmarks/training.py`

The organism on episodes of its own corpora, a LoRA on its decoder and all of it in turn. The bare loop has its batches
ready, tokenised and with features, and does the same forwards and backwards, the same clipping and the same AdamW step,
with nothing around them. `attnlens train` draws and encodes its episodes as it goes, and seeds, counts and logs every
step. Recordings were heard once before, as they are after the first pass over a corpus; what the first time costs is
printed beside. Processor seconds of one thread between the first and the last step; both are taken in turn.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import machine

from attnlens.organism.shipped import model_folder
from attnlens.train.example import IGNORED, Example
from attnlens.train.features import KeptFeatures
from attnlens.train.finetune import EpisodesRecipe
from attnlens.train.loop import batch_generator, train
from attnlens.train.optimiser import make_optimiser, set_rates
from attnlens.train.spec import TrainSpec

LEAST = 0.90
CORPUS = Path(model_folder()).parent / "corpora" / "guarani"
ADAPTERS: dict[str, dict[str, Any]] = {"lora": {"kind": "lora", "rank": 16}, "whole model": {"modules": ["all"]}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Training throughput beside a bare loop.")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}\n{given.steps} steps of {given.batch} episodes with 4 pairs, median of {given.rounds} rounds\n")
    print(f"| trained | bare, s a step | attnlens train, s a step | kept | at least {LEAST:.0%} |")
    print("|---|---:|---:|---:|---|")
    late = []
    first = 0.0
    for name, adapter in ADAPTERS.items():
        spec = spec_of(adapter, given.steps, given.batch)
        recipe = EpisodesRecipe(seed=0, device="cpu", steps=given.steps, **spec.options)
        batches = [recipe.batch(batch_generator(0, number, 0)) for number in range(1, given.steps + 1)]
        first = first or heard_first(recipe)
        bare, ours = [], []
        for _ in range(given.rounds):
            ours.append(with_attnlens(recipe, spec))
            bare.append(with_nothing(recipe, spec, batches))
        kept = statistics.median(one / other for one, other in zip(bare, ours, strict=True))
        print(
            f"| {name} | {statistics.median(bare):.3f} | {statistics.median(ours):.3f} | {kept:.1%} |"
            f" {'yes' if kept >= LEAST else 'no'} |"
        )
        late += [name] if kept < LEAST else []
    print(f"\nhearing a recording for the first time: {1e3 * first:.1f} ms")
    sys.exit(f"below {LEAST:.0%}: {', '.join(late)}" if late else 0)


def heard_first(recipe: EpisodesRecipe) -> float:
    """Return processor seconds of decoding a clip and extracting its features."""
    clips = [one.audio for one in recipe.mixture.parts[0].tasks[0].pool[:10]]
    ears = KeptFeatures(recipe.lens.front)
    start = time.process_time()
    for clip in clips:
        ears(clip)
    return (time.process_time() - start) / len(clips)


def spec_of(adapter: dict[str, Any], steps: int, batch: int) -> TrainSpec:
    options: dict[str, Any] = {"model": "organism", "corpora": [str(CORPUS)], "shots": {4: 1}, "adapter": adapter}
    options |= {"batch_size": batch, "dev_episodes": 1}
    return TrainSpec(
        recipe="episodes", steps=steps, evaluate_every=steps, save_every=steps, device="cpu", options=options
    )


def with_attnlens(recipe: EpisodesRecipe, spec: TrainSpec) -> float:
    """Return processor seconds a step of the command's own loop."""
    marks: list[float] = []
    given: Any = recipe
    with tempfile.TemporaryDirectory() as folder:
        train(spec, Path(folder) / "run", recipe=given, tick=lambda _step, _figures: marks.append(time.process_time()))
    return (marks[-1] - marks[0]) / (spec.steps - 1)


def with_nothing(recipe: EpisodesRecipe, spec: TrainSpec, batches: list[list[Example]]) -> float:
    """Return processor seconds a step of a loop that only computes."""
    module = recipe.module
    optimiser = make_optimiser(module, spec.optimiser)
    set_rates(optimiser, spec.optimiser.rate)
    trained = [one for one in module.parameters() if one.requires_grad]
    module.train()
    marks = []
    for one in batches:
        loss = bare_loss(recipe, one)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, spec.optimiser.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        marks.append(time.process_time())
    return (marks[-1] - marks[0]) / (spec.steps - 1)


def bare_loss(recipe: EpisodesRecipe, batch: list[Example]) -> torch.Tensor:
    model = recipe.lens.model
    inputs = recipe.lens.back.inputs([one.encoded for one in batch])
    width = inputs["inputs_embeds"].shape[1]
    padded = np.stack([np.pad(one.targets, (width - len(one.targets), 0), constant_values=IGNORED) for one in batch])
    rows = np.flatnonzero((padded != IGNORED).any(0))
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[:, torch.as_tensor(rows)])
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), torch.as_tensor(padded[:, rows]).flatten(), ignore_index=IGNORED
    )


if __name__ == "__main__":
    main()
