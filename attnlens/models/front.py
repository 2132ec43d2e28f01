"""From a model's name to its front end: configuration, tokenizer and feature extractor, and no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput, UnsupportedModel
from attnlens.models.family import Family
from attnlens.models.frontend import BaseFrontEnd
from attnlens.models.registry import FAMILIES, REFUSED, TINY, require_model, resolve

__all__ = ["NATIVE", "family_of", "load_front_end"]

NATIVE = {"microsoft/Phi-4-multimodal-instruct": "refs/pr/70"}
"""Checkpoints whose main branch needs code of its own, and the revision that has the form of transformers."""


def load_front_end(name: str, *, revision: str | None = None) -> BaseFrontEnd:
    """Get what turns prompts into ids for a model, in a second and without its weights.

    Parameters
    ----------
    name
        ``organism``, ``tiny:<family>``, a checkpoint folder, or a hub name; only the last may use the network.
    revision
        The hub revision.

    >>> front = load_front_end("tiny:qwen3-asr")
    >>> front.audio_positions(16_000), front.context_length
    (13, 4096)
    """
    require_model(name)
    name = resolve(name)
    if name.startswith(TINY):
        family = FAMILIES[name.removeprefix(TINY)]
        return family.front_end(*family.tiny())
    return _from_checkpoint(name, revision)


def family_of(config: Any, *, name: str) -> Family:
    """Return the family that answers for a configuration."""
    for family in FAMILIES.values():
        if config.model_type in family.model_types:
            return family
    raise UnsupportedModel(
        f"no family wraps models of type {config.model_type!r}"
        + (f": {REFUSED[config.model_type]}" if config.model_type in REFUSED else ""),
        given=name,
        present=", ".join(FAMILIES),
        fix="register a family (docs: add a model family)",
    )


def _from_checkpoint(name: str, revision: str | None) -> BaseFrontEnd:
    from transformers import AutoConfig, AutoTokenizer

    local = Path(name).exists()
    # A folder is a folder: a missing file in it is an error, not a reason to ask the network.
    source: dict[str, Any] = {"local_files_only": True} if local else {"revision": revision}
    try:
        config = AutoConfig.from_pretrained(name, **source)
        family = family_of(config, name=name)
        tokenizer = AutoTokenizer.from_pretrained(name, **source)
        extractor = _extractor(name, family, source)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, BadInput):
            raise
        native = NATIVE.get(name)
        raise BadInput(
            f"{name} does not load as a checkpoint: {str(error).splitlines()[0]}",
            present=", ".join(sorted(one.name for one in Path(name).iterdir())) if local else None,
            fix=f"pass revision {native!r}: the main branch has the form of its own code, which is never run"
            if native is not None and revision != native
            else "a checkpoint has config.json, a tokenizer and preprocessor_config.json",
        ) from error
    return family.front_end(tokenizer, extractor, _thinker(config))


def _extractor(name: str, family: Family, source: dict[str, Any]) -> Any:
    if family.name != "granite-speech":
        from transformers import AutoFeatureExtractor

        return AutoFeatureExtractor.from_pretrained(name, **source)
    # The stock class cannot be made without torchaudio; its file is all we need.
    from transformers.utils import cached_file

    from attnlens.models.granite_mel import GraniteExtractor

    path = cached_file(name, "preprocessor_config.json", **source)
    fields = json.loads(Path(path).read_text(encoding="utf-8"))
    known = GraniteExtractor.__dataclass_fields__
    return GraniteExtractor(**{key: value for key, value in fields.items() if key in known})


def _thinker(config: Any) -> Any:
    return getattr(config, "thinker_config", config)
