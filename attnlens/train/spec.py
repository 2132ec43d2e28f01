"""What a training run is: a recipe with its options, and how it is optimised, stopped and kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnlens.errors import BadInput, UnknownName
from attnlens.mapping import read_mapping

__all__ = ["OptimiserSpec", "TrainSpec", "read_train_spec"]

Positive = Annotated[int, Field(ge=1, strict=True)]
Rate = Annotated[float, Field(gt=0)]
EPSILON = 1e-8
"""AdamW's own; a spec that says nothing else keeps the hash it had before this could be said."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class OptimiserSpec(_Part):
    """AdamW, or Muon for some matrices and AdamW for the rest, and their schedule."""

    rate: Rate = 1e-3
    """The highest learning rate."""
    rates: dict[str, Rate] = {}
    """Factors of the rate for parameters whose name starts so; 1 for the others."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: Rate = EPSILON
    """What AdamW adds to the denominator."""
    decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of matrices; vectors are not decayed."""
    muon: tuple[str, ...] = ()
    """Matrices whose name starts so are stepped by Muon, at a rate that moves them as far as AdamW would. Meant for the
    matrices of a transformer's layers; not for embeddings and heads."""
    clip: Rate = 1.0
    """The largest gradient norm."""
    warmup: Annotated[int, Field(ge=0)] = 60
    """Steps of linear warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """How the rate falls after the warm-up, to a twentieth at the last step."""


class TrainSpec(_Part):
    """Describe a training run completely; unknown keys are refused.

    >>> TrainSpec(recipe="episodes", steps=100).hash == TrainSpec(recipe="episodes", steps=100, workers=4).hash
    True
    >>> TrainSpec(recipe="episodes", stepz=100)
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown key of the training spec 'stepz'
      present: accumulate, device, enough, ...
      fix:     did you mean 'steps'?
    """

    recipe: str
    """A name of `attnlens.train.recipe.RECIPES`."""
    options: dict[str, Any] = {}
    """What the recipe takes."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    steps: Positive = 1000
    accumulate: Positive = 1
    """Batches whose gradients are added up in a step."""
    optimiser: OptimiserSpec = OptimiserSpec()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation; weights stay in float32. `auto` is bfloat16 on a GPU."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`. No part of the hash: a run may go on elsewhere."""
    evaluate_every: Positive = 100
    patience: Positive | None = None
    """Evaluations without a better dev metric before training stops."""
    enough: float | dict[str, float] | None = None
    """A dev metric that is good enough, or several by name: training stops at the first evaluation that reaches all."""
    save_every: Positive = 100
    log_every: Positive = 25
    minutes: Rate | None = None
    """Time after which the run pauses: it measures and exports, and goes on when called again. Not in the hash."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that make batches. No part of the hash: it changes no number."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _refusal(error) from None

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name what would be trained."""
        fields = self.model_dump(mode="json", exclude={"workers", "log_every", "device", "minutes"})
        if fields["optimiser"]["eps"] == EPSILON:
            del fields["optimiser"]["eps"]
        if not fields["optimiser"]["muon"]:
            del fields["optimiser"]["muon"]
        if fields["enough"] is None:
            del fields["enough"]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_train_spec(path: Path | str, **changes: Any) -> TrainSpec:
    """Read a training spec from a YAML file; ``changes`` replace its keys."""
    fields = read_mapping(path, keys=TrainSpec.model_fields, example="recipe: episodes", what="spec file")
    return TrainSpec(**{**fields, **changes})


def _refusal(error: ValidationError) -> BadInput | UnknownName:
    first = error.errors()[0]
    *parents, last = (str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        part: type[BaseModel] = OptimiserSpec if parents[:1] == ["optimiser"] else TrainSpec
        return UnknownName.among("key of the training spec", last, sorted(part.model_fields))
    key = ".".join([*parents, last])
    given = None if first["type"] == "missing" else repr(first["input"])
    message = first["msg"][:1].lower() + first["msg"][1:]
    return BadInput(f"training spec, {key}: {message}", given=given, fix="mend that key")
