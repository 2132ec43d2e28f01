"""One typed description of an ablation run: which prompts, what is taken away, and what stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attnlens.context.prompt import Condition, Order
from attnlens.context.retrieval import RETRIEVERS
from attnlens.context.templates import TEMPLATES
from attnlens.evidence.asked import asked
from attnlens.evidence.edges import edge
from attnlens.evidence.random_keys import BESIDE, Beside
from attnlens.mapping import read_mapping
from attnlens.models.registry import require_model
from attnlens.run.refusal import refusal
from attnlens.run.spec import DEFAULT_CORPORA, DEFAULT_MODEL

__all__ = ["AblationSpec", "read_ablation_spec"]

Positive = Annotated[int, Field(ge=1, strict=True)]
EDGES = (
    "output -> demo_text",
    "output -> target_audio",
    "output -> demo_audio",
    "demo_text -> demo_audio",
    "target_audio -> demo_audio",
    "target_audio -> demo_text",
)
ABLATIONS = (
    "asr",
    "icl",
    "a-icl",
    "mismatched-pairs",
    "audio-silenced",
    "mean:demo_audio",
    "mean:demo_text",
    "patch:demo_text",
    "patch:demo_audio",
)


class AblationSpec(BaseModel):
    """Describe an ablation run completely; unknown keys are refused.

    >>> AblationSpec(edges=["output -> sink"], limit=4).edges
    ('output -> sink',)
    >>> AblationSpec(ablations=["icl", "meen:demo_audio"])
    Traceback (most recent call last):
    attnlens.errors.BadInput: the spec: there is no ablation 'meen:demo_audio'
      present: ...
      fix:     `attnlens ls controls` names the controls
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    name: str = "ablation"
    """What people call it."""
    model: str = DEFAULT_MODEL
    """What `attnlens.load` takes."""
    revision: str | None = None
    """The hub revision."""
    adapter: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str | None = None
    corpora: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_CORPORA
    """Names or paths, one language each."""
    split: Literal["dev", "test"] = "test"
    limit: Positive | None = 14
    """At most so many utterances of each corpus, from the front; null is all."""
    condition: Condition = "micl"
    """What the clean prompts show; ablations show less."""
    shots: Positive = 8
    retriever: str = "audio"
    order: Order = "nearest-first"
    template: str = "default"
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    edges: tuple[str, ...] | Literal["every"] = EDGES
    """Edges that are cut in every window and at all layers; `every` is every one among the spans."""
    windows: Literal["each"] | Positive | tuple[tuple[int, ...], ...] = "each"
    """Layers cut together: `each` by itself (up to eight windows), so many windows side by side, or lists of layers."""
    how: Literal["mask", "zero"] = "mask"
    ablations: tuple[str, ...] = ABLATIONS
    """Conditions, controls of the prompt, replaced spans (`mean:`, `resample:`, `zero:`) and patches (`patch:`)."""
    controls: tuple[Beside, ...] = BESIDE
    """What stands beside each ablation: `equal-count`, `equal-mass`, `other-answer`."""
    heads: Literal["on", "off"] = "on"
    """Whether every head is taken away by itself: its ranking, faithfulness, cumulative curves."""
    transcribe: Literal["on", "off"] = "off"
    """Whether answers are also written, whole and with each edge cut at all layers, and their error rates compared."""
    model_null: Literal["on", "off"] = "off"
    """Whether weights are drawn anew, from the top down, layer by layer and wholly, five seeds each."""
    sinks: Literal["on", "off"] = "on"
    """Whether tokens that collect attention at every layer are looked for."""

    if not TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise refusal(AblationSpec, error) from None

    @model_validator(mode="after")
    def _known(self) -> Self:
        # Unknown names are refused before anything is loaded.
        require_model(self.model)
        RETRIEVERS.require(self.retriever)
        TEMPLATES.require(self.template)
        for name in self.ablations:
            asked(name)
        for name in self.edges if self.edges != "every" else ():
            edge(name)
        return self


def read_ablation_spec(path: Path | str, **changes: Any) -> AblationSpec:
    """Read a spec from a YAML file; ``changes`` replace its keys."""
    fields = read_mapping(path, keys=AblationSpec.model_fields, example="edges: every", what="spec file")
    return AblationSpec(**{**fields, **changes})
