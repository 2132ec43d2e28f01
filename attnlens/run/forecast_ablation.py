"""What an ablation will cost: how often every prompt is read, under which cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnlens.asr.prompted import NEW_TOKENS
from attnlens.context.prompt import Prompt
from attnlens.evidence.asked import asked
from attnlens.evidence.edges import ENDS, windows
from attnlens.evidence.heads import ORDERS
from attnlens.evidence.model_null import FEWEST_SEEDS
from attnlens.evidence.random_keys import OTHER
from attnlens.run.ablation import prompts_of
from attnlens.run.ablation_spec import AblationSpec
from attnlens.run.forecast import Forecast, Pace, SizedModel, Step, measure_pace, total
from attnlens.run.stand_in import find_or_stand_in

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["forecast_ablation"]

CURVES = 2 + ORDERS
"""Orders in which heads are taken away together: by effect, by mass, and at random."""
SIZES = 8
"""Numbers of heads along each."""


def forecast_ablation(spec: AblationSpec, *, measure: bool = False) -> Forecast:
    """Reckon what an ablation costs, every reading as a whole one; with ``measure`` the model is loaded and timed.

    >>> spec = AblationSpec(model="tiny:qwen3-asr", corpora=["synthetic"], limit=2, shots=2, edges=["output -> sink"])
    >>> {step.does: step.count for step in forecast_ablation(spec).steps}["cut edges"]
    32
    """
    corpora, remarks = find_or_stand_in(spec.corpora)
    model = SizedModel.of(spec.model, dtype=spec.dtype, revision=spec.revision)
    # What recordings are like takes long to find out, and no prompt becomes longer by it.
    drawn = spec.model_copy(update={"retriever": "random"})
    steps: list[Step] = []
    every: list[Prompt] = []
    for corpus in corpora:
        prompts = prompts_of(drawn, corpus)
        every += prompts
        steps += _steps(spec, corpus.name, model, prompts)
    sizes = [model.positions(one, one.target.text) for one in every]
    pace = _pace(spec, every) if measure else None
    rows = max(model.tokens(one.target.text) for one in every)
    told = [*remarks, *model.remarks, "at most: a cut that spares what stands before it reads only the rest again"]
    if spec.retriever != "random":
        told.append("demonstrations are drawn at random for the plan")
    return Forecast(
        tuple(steps),
        total(
            steps,
            items=len(every),
            longest=max(sizes),
            disk=_disk(model, sizes),
            memory=model.memory(max(sizes), rows=rows),
            model=model,
            seconds=None if pace is None else sum(pace.seconds(one) for one in steps),
        ),
        tuple(told),
    )


def _steps(spec: AblationSpec, corpus: str, model: SizedModel, prompts: Sequence[Prompt]) -> list[Step]:
    layers, heads = model.decoder.layers, model.decoder.heads
    read = [model.positions(one, one.target.text) for one in prompts]
    works = sum(map(model.decoder.operations, read))

    def step(does: str, times: int, *, made: int = 0) -> Step:
        return Step(corpus, does, times * len(prompts), times * sum(read), made * len(prompts), times * works)

    other = OTHER in spec.controls
    edges = len(ENDS) ** 2 if spec.edges == "every" else len(spec.edges)
    steps = [step("trace and read clean", 2 + other)]
    if edges:
        beside = 1 + len(spec.controls)
        steps.append(step("cut edges", edges * (_windows(spec, layers) + 1) * beside))
    whole = [asked(one) for one in spec.ablations]
    if whole:
        # A patch reads the corrupted prompt first.
        times = sum((2 if one.depth == "representation" else 1) * (1 + other) for one in whole)
        steps.append(step("change prompts and representations", times))
    if spec.heads == "on":
        steps.append(step("take heads away", layers * heads))
        steps.append(step("take heads away together", CURVES * SIZES))
    if spec.transcribe == "on":
        steps.append(step("write transcripts under each cut", 1 + edges, made=(1 + edges) * NEW_TOKENS))
    if spec.sinks == "on":
        steps.append(step("look for sinks", 1))
    if spec.model_null == "on":
        steps.append(step("read with weights drawn anew", FEWEST_SEEDS * (2 * layers + 1)))
    return steps


def _windows(spec: AblationSpec, layers: int) -> int:
    if spec.windows == "each":
        return len(windows(layers))
    return len(windows(layers, count=spec.windows)) if isinstance(spec.windows, int) else len(spec.windows)


def _disk(model: SizedModel, sizes: Sequence[int]) -> int:
    """Return the size of the traces of the clean prompts: masses, and what every position received."""
    from attnlens.context.spans import SOURCES
    from attnlens.run.decoder import FLOAT

    return FLOAT * model.decoder.layers * model.decoder.heads * sum(one + len(SOURCES) for one in sizes)


def _pace(spec: AblationSpec, prompts: Sequence[Prompt]) -> Pace:
    from attnlens.models.load import load

    def read(lens: SpeechLM, prompt: Prompt) -> int:
        lens.trace(prompt)
        return len(lens.encode(prompt, prompt.target.text).ids)

    lens = load(spec.model, revision=spec.revision, dtype=spec.dtype, device_map=spec.device, adapter=spec.adapter)
    return measure_pace(lens, prompts, read)
