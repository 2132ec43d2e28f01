"""From a model's name to a lens on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from attnlens.errors import BadInput, UnknownName, UnsupportedModel, listing
from attnlens.models.adapters import add_adapter
from attnlens.models.family import Family
from attnlens.models.front import family_of, load_front_end
from attnlens.models.generation import without_habits
from attnlens.models.memory import asking
from attnlens.models.random_weights import random_weights
from attnlens.models.registry import FAMILIES, TINY, resolve
from attnlens.models.speechlm import SpeechLM, require_visible

if TYPE_CHECKING:
    import torch

    from attnlens.models.frontend import BaseFrontEnd

__all__ = ["AttentionPath", "load"]

AttentionPath = Literal["sdpa", "eager", "flash_attention_2"]
"""The implementations of attention that can be watched."""


def load(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device_map: Any = None,
    attn: AttentionPath = "sdpa",
    revision: str | None = None,
    adapter: str | None = None,
    quantization_config: Any = None,
    seed: int = 0,
) -> SpeechLM:
    """Load a model and see into it.

    Weights are read as safetensors only, and code that comes with a checkpoint is never run. Of a full Omni checkpoint
    only the thinker is loaded. A folder is read as it is; a hub name may use the network.

    Parameters
    ----------
    name
        ``organism``, ``tiny:<family>``, a checkpoint folder, or a hub name.
    dtype
        ``auto`` for the checkpoint's own, ``float32``, ``bfloat16``, or a torch dtype.
    device_map
        Passed on: a device, ``auto`` to spread a model over what there is, or a map.
    attn
        The text decoder's attention; encoders keep theirs.
    revision
        The hub revision.
    adapter
        A PEFT adapter: a folder, a hub name, or a folder inside the checkpoint. None is the family's own where the
        checkpoint holds it (``speech-lora`` of Phi-4-multimodal), ``"none"`` is none at all.
    quantization_config
        Passed on to transformers.
    seed
        Of a tiny model's random weights.

    >>> lens = load("tiny:qwen2-audio")
    >>> lens.family, lens.n_layers, lens.n_heads
    ('qwen2-audio', 3, 8)
    """
    if attn not in get_args(AttentionPath):
        raise UnknownName.among("attention implementation", attn, get_args(AttentionPath))
    called, name = str(name), resolve(str(name))
    front = load_front_end(name, revision=revision)
    with asking(f"loading {name}", fix="pass dtype='bfloat16', device_map='auto', or a quantization_config"):
        if name.startswith(TINY):
            family = FAMILIES[name.removeprefix(TINY)]
            model = _tiny(front, family, dtype=dtype, device_map=device_map, seed=seed)
        else:
            family = family_of(front.config, name=name)
            options = {"dtype": dtype, "device_map": device_map, "revision": revision}
            model = _pretrained(name, family, {**options, "quantization_config": quantization_config})
        _set_attention(model, family, attn)
        adapter = add_adapter(model, name, adapter, default=family.back_end.adapter_folder, revision=revision)
    model.eval()
    without_habits(model, front.tokenizer)
    back = family.back_end(model, front)
    require_visible(back, name=name)
    return SpeechLM(back, name=called, family=family.name, adapter=adapter)


def _tiny(front: BaseFrontEnd, family: Family, *, dtype: str | torch.dtype, device_map: Any, seed: int) -> Any:
    import torch

    if not (device_map is None or isinstance(device_map, str | int | torch.device)):
        raise BadInput("a tiny model lives on one device", given=device_map, fix="pass a device as device_map")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device_map == "auto" else device_map
    model = random_weights(front, family, seed=seed)
    return model.to(device=device, dtype=_dtype(dtype))


def _dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    import torch

    if not isinstance(dtype, str):
        return dtype
    made = None if dtype == "auto" else getattr(torch, dtype, None)
    if dtype != "auto" and not isinstance(made, torch.dtype):
        raise UnknownName.among("dtype", dtype, ["auto", "bfloat16", "float16", "float32"])
    return made


def _pretrained(name: str, family: Family, options: dict[str, Any]) -> Any:
    import transformers

    local = Path(name).exists()
    options["dtype"] = _dtype(options["dtype"]) or "auto"
    if local:
        options = {**options, "revision": None, "local_files_only": True}
    known = {key: value for key, value in options.items() if value is not None}
    try:
        model, report = getattr(transformers, family.back_end.model_class).from_pretrained(
            name,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            # Left to itself, transformers would load an adapter beside the weights, and report on that alone.
            adapter_kwargs={"subfolder": "no such folder"},
            **known,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if isinstance(error, BadInput) or "memory" in str(error):
            raise
        raise BadInput(
            f"{name} does not load as {family.back_end.model_class}: {str(error).strip().splitlines()[0]}",
            present=", ".join(sorted(one.name for one in Path(name).iterdir())) if local else None,
            fix="a checkpoint has config.json and its weights as *.safetensors",
        ) from error
    if report["missing_keys"]:
        # transformers would go on with random numbers in their place.
        raise BadInput(
            f"{name} lacks {len(report['missing_keys'])} weights of {family.back_end.model_class}",
            present=f"missing: {listing(sorted(report['missing_keys']), at_most=4)}",
            fix="load a complete checkpoint",
        )
    return model


def _set_attention(model: Any, family: Family, attn: str) -> None:
    try:
        # The text decoder alone: some encoders know no other implementation than their own.
        model.get_submodule(family.back_end.decoder_path).set_attn_implementation({"": attn})
    except (ImportError, ValueError) as error:
        raise UnsupportedModel(
            f"the text decoder of {family.name} does not run with attn={attn!r}: {str(error).strip().splitlines()[0]}",
            given=attn,
            present=", ".join(get_args(AttentionPath)),
            fix="pass attn='sdpa'",
        ) from error
