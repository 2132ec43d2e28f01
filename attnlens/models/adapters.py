"""PEFT adapters: found, checked against the model they were made for, and loaded."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput, UnsupportedModel, listing

__all__ = ["ADAPTER", "BASE", "NONE", "add_adapter"]

NONE = "none"
"""Asks for the bare model where a family would load the adapter that its checkpoint holds."""

ADAPTER = "attnlens"
"""What an adapter is called inside a model."""
BASE = "base.json"
"""Beside an adapter trained by attnlens: the weights it was trained on."""
_FILES = ("adapter_config.json", "adapter_model.safetensors")


def add_adapter(model: Any, name: str, adapter: str | None, *, default: str | None, revision: str | None) -> str | None:
    """Load an adapter into a model and switch it on; return where it was found, None when there is none.

    ``default`` is the folder of a checkpoint where the family keeps its own, empty for beside the weights.
    """
    if adapter == NONE:
        return None
    if adapter is not None:
        place = _place(name, adapter, revision)
    else:
        found = None if default is None else _inside(name, default, revision)
        if found is None:
            _refuse_incomplete(model, name)
            return None
        place = found
    if importlib.util.find_spec("peft") is None:
        raise UnsupportedModel(
            f"the adapter {place} needs peft, which is not installed",
            fix="pip install 'attnlens[train]', or pass adapter='none' for the bare model",
        )
    _require_base(model, place)
    try:
        wrong = _loaded(model, place)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _misfit(place, model, str(error).strip().splitlines()[0]) from error
    if wrong:
        raise _misfit(place, model, f"{len(wrong)} weights missing or unknown, {listing(sorted(wrong), at_most=2)}")
    model.set_adapter(ADAPTER)
    return str(place)


def _loaded(model: Any, place: Path) -> set[str]:
    """Load an adapter and return the names of weights that are missing or unknown."""
    config = json.loads((place / _FILES[0]).read_text(encoding="utf-8"))
    if not config.get("use_dora") and config.get("peft_type") != "ADALORA":
        report = model.load_adapter(str(place), adapter_name=ADAPTER, use_safetensors=True)
        return {*report.missing_keys, *report.unexpected_keys}
    # transformers' own loader does not know how peft names the parts of these.
    from peft import PeftConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    made = PeftConfig.from_pretrained(str(place))
    made.inference_mode = True
    model.add_adapter(made, adapter_name=ADAPTER)
    weights = load_file(place / _FILES[1], device=str(model.device))
    report = set_peft_model_state_dict(model, weights, adapter_name=ADAPTER)
    # Ranks that AdaLoRA started from are in its configuration, and no file has them.
    missing = {name for name in report.missing_keys if f".{ADAPTER}" in name and ".ranknum." not in name}
    return {*missing, *report.unexpected_keys}


def _require_base(model: Any, place: Path) -> None:
    """Refuse an adapter of attnlens' own making that was trained on other weights of the same shape."""
    from attnlens.models.fingerprint import bare_fingerprint

    told = place / BASE
    if not told.is_file():
        return
    base = json.loads(told.read_text(encoding="utf-8"))["base"]
    here = bare_fingerprint(model)
    # In another precision all values differ a little, and nothing can be said.
    if base["dtype"] == str(model.dtype) and base["weights"] != here:
        raise BadInput(
            f"the adapter was trained on another model than {type(model).__name__} with weights {here}",
            given=place,
            present=f"trained on {base['model']}, weights {base['weights']}",
            fix="load the adapter on the model it was trained on",
        )


def _place(name: str, adapter: str, revision: str | None) -> Path:
    if _complete(Path(adapter)):
        return Path(adapter)
    found = _inside(name, adapter, revision)
    if found is None and _may_be_hub_name(adapter):
        found = _from_hub(adapter)
    if found is None:
        raise BadInput(
            f"there is no adapter at {adapter!r}",
            present=listing(sorted(one.name for one in Path(adapter).iterdir())) if Path(adapter).is_dir() else None,
            fix=f"pass a folder with {' and '.join(_FILES)}, a hub name, or a folder inside the checkpoint",
        )
    return found


def _complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _FILES)


def _inside(name: str, folder: str | None, revision: str | None) -> Path | None:
    """Return an adapter's folder inside a checkpoint, or None where the checkpoint has none."""
    if folder is None:
        return None
    inner = Path(name) / folder
    if _complete(inner):
        return inner
    return _from_hub(name, subfolder=folder, revision=revision) if _may_be_hub_name(name) else None


def _may_be_hub_name(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/")) and not Path(name).exists()


def _from_hub(name: str, *, subfolder: str = "", revision: str | None = None) -> Path | None:
    from transformers.utils import cached_file

    place: Path | None = None
    for file in _FILES:
        found = cached_file(
            name, file, subfolder=subfolder, revision=revision, _raise_exceptions_for_missing_entries=False
        )
        if found is None:
            return None
        place = Path(found).parent
    return place


def _refuse_incomplete(model: Any, name: str) -> None:
    # transformers would go on without the adapter, with no more than a log line.
    if getattr(model.config, "has_lora_adapter", False):
        raise BadInput(
            f"{name} was trained with an adapter that is not there",
            present=f"no {' and '.join(_FILES)} in it",
            fix="load a complete checkpoint, or pass adapter='none' for the bare model",
        )


def _misfit(place: Path, model: Any, reason: str) -> BadInput:
    text = (place / "adapter_config.json").read_text(encoding="utf-8")
    made_for = json.loads(text).get("base_model_name_or_path")
    return BadInput(
        f"the adapter does not fit {type(model).__name__}: {reason}",
        given=place,
        present=f"made for {made_for or 'a base model it does not name'}",
        fix="pass the adapter of this model",
    )
