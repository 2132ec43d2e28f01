"""What of a model is trained: a LoRA of some kind, the adapter it came with, modules in full, or all of it."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnlens.errors import BadInput, UnknownName, UnsupportedModel, listing
from attnlens.models.adapters import ADAPTER

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["AdapterSpec", "Kind", "export_adapter", "make_trainable", "places"]

Kind = Literal["lora", "dora", "adalora", "own", "none"]


class AdapterSpec(BaseModel):
    """Say what is trained; what is not said is the library's choice and stands in the checkpoint all the same.

    >>> AdapterSpec(kind="lora", rank=8, alpha=32).targets
    ()
    >>> AdapterSpec(rnak=8)
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown key of adapter 'rnak'
      present: alpha, dropout, every, ...
      fix:     did you mean 'rank'?
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Kind = "none"
    """`lora`, `dora`, `adalora`; `own` goes on with the adapter that the checkpoint holds; `none` makes no adapter."""
    rank: int = Field(default=8, ge=1)
    """Of LoRA and DoRA."""
    alpha: float = Field(default=16, gt=0)
    """What the update is multiplied by, over the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    where: tuple[str, ...] = ("decoder",)
    """`decoder`, `encoder`, `projector`, or paths of modules: where matrices are adapted."""
    targets: tuple[str, ...] = ()
    """Last names of the matrices adapted there, such as `q_proj`; empty is all of them."""
    modules: tuple[str, ...] = ()
    """What is trained in full, beside an adapter or without one: the same names, or `all`."""
    initial_rank: int = Field(default=12, ge=1)
    """Of AdaLoRA: every matrix begins with it,"""
    final_rank: int = Field(default=8, ge=1)
    """and ends with so much on average."""
    warmup: int = Field(default=0, ge=0)
    """Of AdaLoRA: steps before ranks begin to fall,"""
    settled: int = Field(default=0, ge=0)
    """steps at the end with ranks as they are,"""
    every: int = Field(default=1, ge=1)
    """and steps from one allocation to the next."""
    orthogonality: float = Field(default=0.5, ge=0)
    """Of AdaLoRA: what keeping its factors orthogonal counts in the loss."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise UnknownName.among("key of adapter", key, sorted(type(self).model_fields)) from None
            raise BadInput(f"adapter.{key}: {first['msg'].lower()}", given=repr(first["input"])) from None


def make_trainable(lens: SpeechLM, spec: AdapterSpec, *, steps: int) -> Any:
    """Freeze a model but for what the spec says, and return the configuration of its adapter, None without one."""
    model = lens.model
    _require_room(lens, spec)
    model.requires_grad_(False)
    full = [path for name in spec.modules for path in places(lens, name)]
    config = None
    if spec.kind in {"lora", "dora", "adalora"}:
        config = _config(lens, spec, full, steps)
        model.add_adapter(config, adapter_name=ADAPTER)
    elif spec.kind == "own":
        config = model.peft_config[ADAPTER]
        config.inference_mode = False
        _unfreeze(model, lambda name: "lora_" in name and f".{ADAPTER}." in name)
    if spec.kind in {"own", "none"}:
        for path in full:
            model.get_submodule(path).requires_grad_(True)
    for parameter in model.parameters():
        # What is learnt is kept in full precision, whatever the frozen rest is in.
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadInput("nothing is trained", given="adapter.kind: none without modules", fix="name modules, or a kind")
    return config


def places(lens: SpeechLM, name: str) -> tuple[str, ...]:
    """Return the paths of a model's modules that a name stands for; ``all`` is the whole model.

    >>> from attnlens.testing import tiny
    >>> places(tiny("qwen3-asr"), "projector")
    ('model.multi_modal_projector',)
    """
    back = lens.back
    known = {
        "all": ("",),
        "decoder": (f"{back.decoder_path}.layers",),
        "encoder": (back.encoder_path,),
        "projector": back.projector_paths,
    }
    if name in known:
        if not known[name]:
            raise BadInput(f"{lens.family} has no {name} of its own", fix="its encoder holds it: name the encoder")
        return known[name]
    paths = dict(lens.model.named_modules())
    if name not in paths:
        raise UnknownName.among("module", name, [*known, *(path for path in paths if path)])
    return (name,)


def _require_room(lens: SpeechLM, spec: AdapterSpec) -> None:
    if spec.kind != "none" and importlib.util.find_spec("peft") is None:
        raise UnsupportedModel(
            "adapters are trained with peft, which is not installed",
            given=f"adapter.kind: {spec.kind}",
            fix="pip install 'attnlens[train]', or train modules in full (kind: none)",
        )
    if spec.kind == "own":
        if lens.adapter is None:
            raise BadInput(
                f"{lens.name} holds no adapter of its own to go on with",
                given="adapter.kind: own",
                fix="choose lora, or pass the adapter's folder as `start`",
            )
        if spec.modules:
            raise BadInput(
                "modules are not trained beside a checkpoint's own adapter: its file has no place for them",
                given=listing(spec.modules),
                fix="leave modules empty, or choose kind: lora with start: none",
            )
    elif lens.adapter is not None and spec.kind != "none":
        raise BadInput(
            f"{lens.name} comes with an adapter, and a second one would need it wherever it is loaded",
            given=f"adapter.kind: {spec.kind}",
            present=lens.adapter,
            fix="choose kind: own to go on with it, or start: none for a fresh adapter on the bare model",
        )
    elif "all" in spec.modules and spec.kind != "none":
        raise BadInput("all of a model and an adapter on it are not trained together", fix="leave modules empty")
    if spec.kind == "adalora" and spec.final_rank >= spec.initial_rank:
        raise BadInput("ranks do not fall", given=f"initial_rank {spec.initial_rank}, final_rank {spec.final_rank}")


def _config(lens: SpeechLM, spec: AdapterSpec, full: Sequence[str], steps: int) -> Any:
    from peft import AdaLoraConfig, LoraConfig

    made: dict[str, Any] = {
        "target_modules": _targets(lens, spec),
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "modules_to_save": list(full) or None,
    }
    if spec.kind != "adalora":
        return LoraConfig(r=spec.rank, use_dora=spec.kind == "dora", **made)
    if spec.warmup + spec.settled >= steps:
        raise BadInput(
            "AdaLoRA has no step left in which ranks fall",
            given=f"warmup {spec.warmup}, settled {spec.settled}",
            present=f"{steps} steps",
            fix="lower them below the number of steps together",
        )
    return AdaLoraConfig(
        init_r=spec.initial_rank,
        target_r=spec.final_rank,
        tinit=spec.warmup,
        tfinal=spec.settled,
        deltaT=spec.every,
        total_step=steps,
        orth_reg_weight=spec.orthogonality,
        **made,
    )


def _targets(lens: SpeechLM, spec: AdapterSpec) -> str:
    """Return a pattern of whole module names: a last name alone would also hit the encoders."""
    import torch

    linear = [name for name, module in lens.model.named_modules() if isinstance(module, torch.nn.Linear)]
    patterns = []
    for where in spec.where:
        inside = [n for path in places(lens, where) for n in linear if n == path or n.startswith(f"{path}.")]
        names = sorted({name.rsplit(".", 1)[-1] for name in inside})
        for target in spec.targets:
            if target not in names:
                raise UnknownName.among(f"matrix of the {where} of {lens.name}:", target, names)
        if not inside:
            raise BadInput(f"there is no matrix in {where} of {lens.name}", given=f"where: {where}")
        last = "|".join(map(re.escape, spec.targets or names))
        for path in places(lens, where):
            # The whole model has an empty path; a projector may be one matrix itself.
            below = rf"{re.escape(path)}\." if path else ""
            patterns.append(re.escape(path) if path in linear else rf"{below}(?:.*\.)?(?:{last})")
    return "|".join(f"(?:{one})" for one in patterns)


def _unfreeze(model: Any, chosen: Any) -> None:
    for name, parameter in model.named_parameters():
        if chosen(name):
            parameter.requires_grad_(True)


def export_adapter(model: Any, folder: Path, *, name: str) -> None:
    """Write the adapter alone, as peft and transformers read it."""
    config = model.peft_config[ADAPTER]
    # peft would look the name up on the hub to see whether the vocabulary grew; it did not.
    config.base_model_name_or_path, config.inference_mode = None, True
    if config.peft_type.value == "ADALORA":
        # Ranks that fell are zeros in the file; a pattern would cut them out of matrices that keep their size.
        config.rank_pattern = None
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    fields = {**json.loads(path.read_text(encoding="utf-8")), "base_model_name_or_path": name}
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
