"""What a training will cost: its batches drawn and measured in positions, without weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attnlens.data.corpus import Corpus
from attnlens.models.dimensions import KNOWN
from attnlens.run.forecast import Forecast, SizedModel, Step, total
from attnlens.run.stand_in import find_or_stand_in, published_corpus
from attnlens.train.adapter import AdapterSpec
from attnlens.train.cost import GRADIENT, STATES
from attnlens.train.finetune import EpisodesRecipe
from attnlens.train.loop import try_cost
from attnlens.train.recipe import RECIPES, require_options
from attnlens.train.spec import TrainSpec
from attnlens.train.tasks import Mixture, read_mixture, read_pattern

__all__ = ["forecast_training"]

DRAWN = 24
"""Batches that are drawn to know how long they are."""
BUILDER = ("shots", "conditions", "templates", "pair_orders", "duplicates")
SPEECH: Mapping[str, tuple[int, int, int, int, int, float]] = {"mms-300m": (315_438_720, 24, 1024, 4096, 16, 50.0)}
"""Acoustic models by name, wherever they are: parameters, layers, width, width inside, heads, frames a second."""


def forecast_training(spec: TrainSpec, *, measure: bool = False) -> Forecast:
    """Reckon what a recipe costs; with ``measure`` the model is loaded and two batches are tried.

    >>> options = {"model": "organism", "corpora": ["corpora/mboshi"], "shots": {1: 1}, "target_languages": ["mdw"]}
    >>> found = forecast_training(TrainSpec(recipe="tft", steps=10, options=options))
    >>> [(step.does, step.count) for step in found.steps]
    [('learn from batches of 4', 10), ('ask dev prompts', 16)]
    """
    options = require_options(spec.recipe, spec.options) | spec.options
    factory = RECIPES[spec.recipe]
    if measure:
        return _measured(spec, options)
    if inspect.isclass(factory) and issubclass(factory, EpisodesRecipe):
        return _episodes(spec, options)
    if spec.recipe == "acoustic-ctc" and Path(options["model"] or "").name in SPEECH:
        return _acoustic(spec, options)
    step = Step("", "learn from batches", spec.steps * spec.accumulate)
    told = f"what a batch of {spec.recipe!r} costs has to be tried: pass --measure"
    return Forecast((step,), total([step], items=step.count, longest=0, disk=0), (told,))


def _measured(spec: TrainSpec, options: Mapping[str, Any]) -> Forecast:
    cost = try_cost(spec)
    batches = spec.steps * spec.accumulate
    step = Step("", f"learn from batches of {options.get('batch_size', 1)}", batches)
    told = total([step], items=batches, longest=0, disk=_disk(cost.trained), memory=cost.memory, seconds=cost.seconds)
    return Forecast((step,), told, (f"{cost.trained:,} of {cost.parameters:,} parameters are trained",))


def _episodes(spec: TrainSpec, options: Mapping[str, Any]) -> Forecast:
    remarks: list[str] = []
    trained_on, dev = _mixtures(options, remarks)
    model = SizedModel.of(options["model"], dtype=options["dtype"], revision=options["revision"])
    adapter = AdapterSpec(**(options["adapter"] or {"modules": ["all"]}))
    trained, said = _trained(model, adapter)
    size, rng = options["batch_size"], np.random.default_rng(spec.seed)
    passes = 2 + ("all" in adapter.modules or "decoder" in adapter.modules) + (options["checkpointing"] == "on")
    longest, rows, batch_positions, batch_operations = 0, 0, 0.0, 0.0
    for _ in range(DRAWN):
        prompts = [trained_on.build(rng) for _ in range(size)]
        # Shorter prompts of a batch are padded to its longest; one more is the token that ends the answer.
        width = 1 + max(model.positions(one, one.target.text) for one in prompts)
        longest = max(longest, width)
        rows = max(rows, sum(1 + model.tokens(one.target.text) for one in prompts))
        batch_positions += size * width / DRAWN
        batch_operations += passes * size * model.decoder.operations(width) / DRAWN
    asked = [model.positions(one, one.target.text) for one in (dev.build(rng) for _ in range(DRAWN))]
    batches, evaluated = (
        spec.steps * spec.accumulate,
        (spec.steps // spec.evaluate_every or 1) * options["dev_episodes"],
    )
    each = float(np.mean([model.decoder.operations(one) for one in asked]))
    steps = [
        Step(
            "",
            f"learn from batches of {size}",
            batches,
            round(batches * batch_positions),
            0,
            batches * batch_operations,
        ),
        Step("", "ask dev prompts", evaluated, round(evaluated * float(np.mean(asked))), 0, evaluated * each),
    ]
    memory = None
    if model.weights is not None and trained is not None:
        kept = _activations(model, size * longest, layers=1 if options["checkpointing"] == "on" else None)
        logits = rows * model.decoder.vocabulary * (2 * GRADIENT + model.width)
        memory = model.weights + trained * (GRADIENT - model.width) + trained * GRADIENT * STATES + kept + logits
    told = [*dict.fromkeys(remarks), *model.remarks, said, *_lengths(spec, passes)]
    made = total(steps, items=batches * size, longest=longest, disk=_disk(trained or 0), memory=memory, model=model)
    return Forecast(tuple(steps), made, tuple(one for one in told if one))


def _lengths(spec: TrainSpec, passes: int) -> list[str]:
    told = [f"at most {spec.steps:,} steps, each {passes} times the work of reading its prompts; encoders left out"]
    return [*told, "it may stop earlier, by patience"] if spec.patience else told


def _mixtures(options: Mapping[str, Any], remarks: list[str]) -> tuple[Mixture, Mixture]:
    def read(pattern: str) -> list[Corpus]:
        found, told = find_or_stand_in([pattern]) if published_corpus(pattern) is not None else ([], [])
        if not told:
            return read_pattern(pattern)
        remarks.extend(told)
        return found

    common = {name: options[name] for name in BUILDER if options.get(name) is not None}
    tasks = options["tasks"] or {"corpora": {"corpora": options["corpora"] or ()}}
    drawn = {
        name: {key: value for key, value in fields.items() if key not in ("retriever", "hypotheses")}
        for name, fields in tasks.items()
    }
    return read_mixture(drawn, common=common, draw=options["draw"], read=read)


def _trained(model: SizedModel, adapter: AdapterSpec) -> tuple[int | None, str]:
    """Return how many parameters are trained, as far as sizes tell, and what has to be said of it."""
    if adapter.kind == "own":
        rank = KNOWN[model.name].own_rank if model.name in KNOWN else 0
        if not rank:
            return None, f"how large the own adapter of {model.name} is has to be measured: pass --measure"
        trained = model.decoder.adapted(rank, matrices="fused")
        return trained, f"{trained:,} parameters are trained: its own adapter of rank {rank}"
    if adapter.kind == "none":
        if "all" in adapter.modules and model.weights is not None:
            trained = model.weights // model.width
            return trained, f"{trained:,} parameters are trained: all"
        return None, "how large these modules are has to be measured: pass --measure"
    rank = adapter.initial_rank if adapter.kind == "adalora" else adapter.rank
    trained = model.decoder.adapted(rank)
    beside = [one for one in (*adapter.where, *adapter.modules) if one != "decoder"]
    more = f", and {', '.join(beside)}, not counted" if beside else ""
    return trained, f"at most {trained:,} parameters are trained: rank {rank} on the decoder's matrices{more}"


def _activations(model: SizedModel, positions: int, *, layers: int | None) -> int:
    """Return what is kept for the backward pass: of every layer its inside, or its input and the inside of one."""
    sizes = model.decoder
    inside = 8 * sizes.hidden + 2 * sizes.per_head * (sizes.heads + 2 * sizes.keys) + 3 * sizes.inner
    inputs = 0 if layers is None else sizes.layers * sizes.hidden
    return positions * model.width * ((layers or sizes.layers) * inside + inputs)


def _acoustic(spec: TrainSpec, options: Mapping[str, Any]) -> Forecast:
    parameters, layers, width, inner, heads, rate = SPEECH[Path(options["model"]).name]
    corpora, remarks = find_or_stand_in(options["corpora"])
    seconds = [one.audio.seconds for corpus in corpora for one in corpus.pool]
    size = options["batch_size"]
    frames = round(rate * float(np.mean(seconds)) * size)
    longest = round(rate * max(seconds))
    batches = spec.steps * spec.accumulate
    # Forwards, and twice that backwards.
    works = 3 * (2.0 * parameters * frames + 2.0 * layers * width * frames * longest)
    kept = size * longest * GRADIENT * layers * (8 * width + 3 * inner + 2 * heads * longest)
    step = Step("", f"learn from batches of {size} clips", batches, batches * frames, 0, batches * works)
    cost = total(
        [step],
        items=batches * size,
        longest=longest,
        disk=_disk(parameters),
        memory=parameters * GRADIENT * (1 + STATES) + kept,
    )
    told = (f"at most {spec.steps:,} steps; positions are frames", f"{parameters:,} parameters are trained: all")
    return Forecast((step,), cost, (*remarks, *told))


def _disk(trained: int) -> int:
    """Return what a run's folder holds: weights and AdamW's numbers, the best weights, the export."""
    return trained * GRADIENT * (STATES + 2)
