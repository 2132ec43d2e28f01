"""Which kind of spec a file holds: a run, a re-ranking, an ablation or a training; told by its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from attnlens.asr.rerank_spec import RerankSpec
from attnlens.errors import AttnlensError, BadInput, listing
from attnlens.mapping import put_dotted, read_mapping
from attnlens.run.ablation_spec import AblationSpec
from attnlens.run.spec import RunSpec
from attnlens.train.spec import TrainSpec

__all__ = ["KINDS", "AnySpec", "Kind", "changed", "kind_of_spec", "read_any_spec"]

Kind = Literal["run", "rerank", "ablate", "train"]
"""The command that carries a spec out."""
AnySpec = RunSpec | RerankSpec | AblationSpec | TrainSpec
_Spec = TypeVar("_Spec", bound=AnySpec)
KINDS: dict[Kind, type[AnySpec]] = {"run": RunSpec, "rerank": RerankSpec, "ablate": AblationSpec, "train": TrainSpec}


def read_any_spec(path: Path | str, changes: Mapping[str, Any] | None = None) -> tuple[Kind, AnySpec]:
    """Read a spec of whatever kind, with dotted keys changed."""
    fields = read_mapping(path, keys=RunSpec.model_fields, example="seeds: [0, 1]", what="spec file")
    kind = kind_of_spec(fields, name=str(path))
    try:
        return kind, changed(KINDS[kind](**fields), changes or {})
    except AttnlensError as error:
        error.message = f"{path}: {error.message}"
        raise


def kind_of_spec(fields: Mapping[str, Any], *, name: str = "the spec") -> Kind:
    """Say which command a spec is for, from its keys.

    >>> kind_of_spec({"recipe": "xft", "steps": 10}), kind_of_spec({"corpora": ["quechua"], "rules": ["per-token"]})
    ('train', 'rerank')
    >>> kind_of_spec({"colour": "red"})
    Traceback (most recent call last):
    attnlens.errors.BadInput: the spec is of no known kind
      given:   colour
      present: run (name, ...), rerank (corpora, ...), ablate (name, ...), train (recipe, ...)
      fix:     begin with a spec of experiments/, and see `attnlens COMMAND --help`
    """
    if isinstance(fields.get("model"), Mapping):
        return "run"
    known = {kind: len(set(fields) & set(one.model_fields)) for kind, one in KINDS.items()}
    whole = [kind for kind, count in known.items() if count == len(fields)]
    if "run" in whole:  # a name alone, or nothing: the default run
        return "run"
    if len(whole) == 1:
        return whole[0]
    most = [kind for kind, count in known.items() if count == max(known.values()) and count]
    if not whole and len(most) == 1:
        # Reading it names the key that is not known.
        return most[0]
    told = [f"{kind} ({', '.join(list(one.model_fields)[:8])}, ...)" for kind, one in KINDS.items()]
    raise BadInput(
        f"{name} could be of several kinds" if whole else f"{name} is of no known kind",
        given=listing(fields),
        present=", ".join(told),
        fix=f"add a key that only one of {listing(whole)} has"
        if whole
        else "begin with a spec of experiments/, and see `attnlens COMMAND --help`",
    )


def changed(spec: _Spec, changes: Mapping[str, Any]) -> _Spec:
    """Return a spec with dotted keys changed, validated as a whole.

    >>> changed(RerankSpec(corpora=["quechua"]), {"selector.shots": 2}).selector.shots
    2
    """
    return type(spec)(**put_dotted(spec.model_dump(), changes)) if changes else spec
