"""What a model family is to the rest of attnlens: a name, the configurations it answers for, its two ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnlens.models.backend import BaseBackEnd
from attnlens.models.frontend import BaseFrontEnd

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """One entry of the model registry: ``front_end`` turns prompts into ids, ``back_end`` knows the weights.

    ``model_types`` are the values of ``config.model_type`` it answers for. ``tiny`` returns a tokenizer, an extractor
    and a configuration of a small random model of the same classes, made without a download.
    """

    name: str
    model_types: tuple[str, ...]
    front_end: type[BaseFrontEnd]
    back_end: type[BaseBackEnd]
    tiny: Callable[[], tuple[Any, Any, Any]]
