"""The run spec: everything that determines a result, typed and validated, the same from YAML, flags and Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from attnlens.asr.rerank_spec import RULE_NAMES, AcousticPart, NgramPart
from attnlens.asr.selection import RULES
from attnlens.context.controls import parse_control
from attnlens.context.prompt import Condition, Order, PairOrder
from attnlens.context.retrieval.base import parse_retriever
from attnlens.context.templates import TEMPLATES
from attnlens.data.corpus import Split
from attnlens.data.normalise import NORMALISERS
from attnlens.errors import BadInput, UnknownName
from attnlens.mapping import put_dotted
from attnlens.models.named_interventions import parse_intervention
from attnlens.models.registry import require_model
from attnlens.run.after import AFTER
from attnlens.run.refusal import refusal

__all__ = [
    "DEFAULT_CORPORA",
    "DEFAULT_MODEL",
    "ContextSpec",
    "DataSpec",
    "DecodingSpec",
    "ExecutionSpec",
    "ModelSpec",
    "RunSpec",
    "SelectionSpec",
    "TracingSpec",
]

MEASURES = ("entropy", "max", "contribution", "logit_effect", "received")
DEFAULT_MODEL = "organism"
DEFAULT_CORPORA = ("guarani", "quechua", "maori")
"""What a run reads when nobody says otherwise: this model and these corpora, and no other place names them."""


def _split(value: Any) -> Any:
    # A shell user writes `--shots 0,1,4`, a YAML user `[0, 1, 4]`: one meaning, so one place that knows both.
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | Path) else value


def _no_bool(value: Any) -> Any:
    # `shots: yes` is a typing slip; python would count True as 1.
    if isinstance(value, bool):
        raise ValueError("Input should be a number, not true or false")
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"Values should differ, these are repeated: {', '.join(repeated)}")
    return values


Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(_split), Field(min_length=1)]
Conditions = Annotated[tuple[Condition, ...], BeforeValidator(_split), Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class ModelSpec(_Part):
    """Which model answers, and how it is loaded."""

    name: str = DEFAULT_MODEL
    """A registered name (`attnlens ls models`), a local checkpoint folder, or a hub name with a slash."""
    revision: str | None = None
    """The hub revision; None is the newest, and the resolved one is recorded."""
    adapter: Path | None = None
    """A PEFT adapter folder put on top of the model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The weights' type; `auto` is the checkpoint's own."""
    device: str = "auto"
    """A device or a device map of transformers: `auto`, `cpu`, `cuda`, `cuda:1`, `balanced`."""
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    """The implementation that computes the model's own output."""


class DataSpec(_Part):
    """Which recordings are read, and how their text is compared."""

    corpora: Names = DEFAULT_CORPORA
    """Registered corpora or paths of manifests and folders, one language each."""
    hypotheses: Path | None = None
    """What an acoustic model heard in each target, the query of text retrievers: JSON lines with `id` and `text`."""
    split: Split = "test"
    """The split whose utterances are transcribed; demonstrations always come from `pool`."""
    limit: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] | None = None
    """At most so many utterances of each corpus, from the front."""
    normaliser: str = "basic-unicode"
    """How texts are normalised before error rates; a name of `attnlens.data.normalise`."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """What happens to rows that cannot be read: refuse the corpus, or leave them out and list them."""


class ContextSpec(_Part):
    """What the model is shown."""

    conditions: Conditions = ("asr", "t-icl", "icl", "micl")
    """Which modalities the context shows; `attnlens ls conditions` explains each."""
    shots: Counts = (0, 1, 4, 8)
    """Numbers of demonstrations."""
    retriever: str = "audio"
    """How demonstrations are chosen; `attnlens ls retrievers`. Options follow the name: `kl:variant=js`."""
    order: Order = "nearest-first"
    """Where the best demonstration stands."""
    pair_order: PairOrder = "audio-first"
    """Which half of a pair stands first."""
    template: str = "default"
    """How the prompt is worded; `attnlens ls templates`."""
    controls: Names = ("mismatched-pairs",)
    """Changes that should destroy the effect under study; the clean run is always included. Options follow the name:
    `gold-inserted:slot=3:what=text`, `other-language:other=maori`."""
    on_overflow: Literal["refuse", "fewer-shots", "cut-window"] = "refuse"
    """What happens to a prompt longer than the model's context. `cut-window` cuts recordings at the end of Whisper's
    window of 30 s and counts the frames that every item lost."""


class TracingSpec(_Part):
    """What is measured while the reference is read along, and how it is kept."""

    measures: Names = ("entropy", "received")
    """Beside the masses: `entropy`, `max`, `contribution`, `logit_effect`, `received` (for nulls of labels)."""
    precision: Literal["float32", "float16"] = "float32"
    """How masses are stored; `float16` halves the store and loses weights below 3e-8."""


class DecodingSpec(_Part):
    """What is transcribed; always greedily."""

    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_split)] = ("asr", "t-icl", "icl", "micl", "a-icl")
    """In which conditions answers are generated; `t-icl` hears no target, so its answer is a guess and a floor."""
    max_new_tokens: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = 96
    """Where an answer that does not end is cut off."""
    batch: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = 8
    """At most so many items are traced and answered together, if the model's self-check found batching exact; 1: one by
    one. Fewer where their keys and values would be large."""


class SelectionSpec(_Part):
    """How one of an acoustic model's hypotheses is chosen after the demonstrations; the step ``selection`` does it."""

    acoustic: AcousticPart = AcousticPart()
    """What makes the lists; `organism` stands for what is shipped, and where nothing is, nothing is chosen."""
    shots: Count | None = None
    """Demonstrations shown with each list; None is the most of `context.shots`."""
    retriever: str = "text"
    """How they are chosen; text retrievers search with the acoustic model's best hypothesis."""
    order: Order = "nearest-last"
    """The nearest beside the question: on dev of the embedded corpora it chose as well as nearest first, or better."""
    ngram: NgramPart | None = NgramPart()
    """The n-gram model beside it, as a re-ranker and in the beam; None for none."""
    rules: Names = RULE_NAMES
    """Which rules are compared; `attnlens ls rules`."""


class ExecutionSpec(_Part):
    """Where and how the work is done. No part of the spec's hash: it must not change a result."""

    executor: Literal["local", "dask"] = "local"
    """This process, or a Dask cluster."""
    scheduler: str | None = None
    """The address of a running Dask scheduler."""
    workers: Annotated[int, BeforeValidator(_no_bool), Field(ge=1)] = 1
    """Processes of a local cluster, or workers of a cluster that `cluster` names; a running scheduler has its own."""
    cluster: str | None = None
    """A Dask cluster class as `module:Class`, such as `dask_jobqueue:SLURMCluster`."""
    cluster_options: dict[str, Any] = {}
    """What that class is called with."""
    after: Names = ("selection", "findings", "report")
    """What is made of the results, in order: hypotheses chosen, findings, figures and the report; empty for nothing."""
    on_error: Literal["continue", "stop"] = "continue"
    """Whether an item that fails is recorded and passed over, or ends the run."""

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        # What would be passed over without a word is refused.
        if self.executor == "local":
            idle = [name for name in ("scheduler", "cluster", "cluster_options") if getattr(self, name)]
            idle += ["workers"] if self.workers > 1 else []
            if idle:
                raise BadInput(
                    f"execution.{idle[0]} means nothing to the executor 'local'",
                    given=f"{idle[0]}: {getattr(self, idle[0])}",
                    fix="set execution.executor: dask, or leave it out",
                )
        if self.scheduler and self.cluster:
            raise BadInput(
                "the workers are those of a scheduler that is running or of a cluster that is made, not of both",
                given=f"scheduler: {self.scheduler}, cluster: {self.cluster}",
                fix="leave one out",
            )
        if self.cluster_options and not self.cluster:
            raise BadInput(
                "execution.cluster_options are those of a class, and none is named",
                given=", ".join(self.cluster_options),
                fix="name it in execution.cluster, such as dask_jobqueue:SLURMCluster",
            )
        if self.cluster is not None and not all(part.strip() for part in (*self.cluster.partition(":"),)):
            raise BadInput(
                "a cluster class is written module:Class",
                given=self.cluster,
                fix="write for instance dask_jobqueue:SLURMCluster or dask_kubernetes.operator:KubeCluster",
            )
        return self


class RunSpec(_Part):
    """Describe a run completely; the same object comes from YAML, from command-line flags and from here.

    >>> spec = RunSpec(context={"shots": [0, 4]}, seeds=[0, 1])
    >>> spec.context.shots, spec.model.attention
    ((0, 4), 'sdpa')
    >>> spec.hash == RunSpec(name="another name", context={"shots": "0,4"}, seeds=(0, 1)).hash
    True
    >>> RunSpec(context={"shotz": [4]})
    Traceback (most recent call last):
    attnlens.errors.BadInput: unknown key 'context.shotz'
      present: conditions, shots, retriever, order, pair_order, template, controls, on_overflow
      fix:     did you mean 'context.shots'?
    """

    name: str = "default"
    """What people call the run; no part of its hash."""
    convention: Literal["attnlens", "paper"] = "attnlens"
    """Corrected computation, or the published one with its faults."""
    seeds: Counts = (0,)
    """Seeds of everything random; each is a full repetition."""
    interventions: Names = ()
    """Knockouts, ablated heads, shuffled values, as `knockout:queries=output:keys=demo_text:layers=2-3`; each is done
    beside the run without any, for every prompt and control in which it means something."""
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    context: ContextSpec = ContextSpec()
    tracing: TracingSpec = TracingSpec()
    decoding: DecodingSpec = DecodingSpec()
    selection: SelectionSpec = SelectionSpec()
    execution: ExecutionSpec = ExecutionSpec()

    if not TYPE_CHECKING:  # the plugin's synthesised signature is the better one for readers and checkers

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise refusal(RunSpec, error) from None

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        # Unknown names are refused here, before anything is loaded, and without importing what they name.
        require_model(self.model.name)
        TEMPLATES.require(self.context.template)
        parse_retriever(self.context.retriever)
        NORMALISERS.require(self.data.normaliser)
        parse_retriever(self.selection.retriever)
        for rule in self.selection.rules:
            RULES.require(rule)
        for control in self.context.controls:
            parse_control(control)
        for said in self.interventions:
            parse_intervention(said)
        for step in self.execution.after:
            AFTER.require(step)
        for measure in self.tracing.measures:
            if measure not in MEASURES:
                raise UnknownName.among("measure of a trace", measure, MEASURES)
        return self

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        context, measures = self.context, self.tracing.measures
        for values in (
            self.seeds,
            self.interventions,
            context.conditions,
            context.shots,
            context.controls,
            self.data.corpora,
            measures,
        ):
            _distinct(values)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the whole spec, defaults filled in, as plain values."""
        return self.model_dump(mode="json")

    def canonical(self) -> str:
        """Return the text that two specs share exactly when they describe the same results."""
        fields = self.to_dict()
        for unrelated in ("name", "execution"):
            del fields[unrelated]
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name the results this spec describes."""
        return hashlib.blake2b(self.canonical().encode(), digest_size=8).hexdigest()

    def updated(self, changes: Mapping[str, Any]) -> RunSpec:
        """Return a spec with dotted keys changed, validated as a whole.

        >>> RunSpec().updated({"context.shots": "0,16", "model.dtype": "bfloat16"}).context.shots
        (0, 16)
        """
        return RunSpec(**put_dotted(self.to_dict(), changes))
