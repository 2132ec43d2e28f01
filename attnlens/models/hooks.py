"""Places in a decoder under names that are the same for every family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnlens.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["HookPoint", "Layer", "find"]


@dataclass(frozen=True)
class HookPoint:
    """A module whose output is wanted, and its path inside the model, for forward hooks and for nnsight alike."""

    path: str
    module: nn.Module

    @staticmethod
    def tensor(output: Any) -> Tensor:
        """Return the tensor [prompts, positions, hidden] of what the module returned; some return more beside it."""
        return output[0] if isinstance(output, tuple) else output


@dataclass(frozen=True)
class Layer:
    """One decoder layer.

    ``residual`` is the stream after the layer; ``attention_output`` and ``mlp_output`` are what its two halves return,
    before a family's own factor, where it has one, and before they are added to the stream.

    >>> from attnlens.models.load import load
    >>> load("tiny:granite-speech").layers[2].mlp_output.path
    'model.language_model.layers.2.mlp'
    """

    index: int
    residual: HookPoint
    attention_output: HookPoint
    mlp_output: HookPoint

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return self.residual.module

    @classmethod
    def of(cls, index: int, path: str, module: nn.Module, *, attention: str, mlp: str) -> Layer:
        """Find the halves of a layer by the names its family gives them; an empty name is the layer itself."""
        points = []
        for name in ("", attention, mlp):
            inner = find(module, name, what=f"layer {index}")
            points.append(HookPoint(f"{path}.{name}" if name and path else path or name, inner))
        return cls(index, *points)


def find(module: nn.Module, path: str, *, what: str) -> nn.Module:
    """Return the submodule at a path, or refuse a model that has none there."""
    try:
        return module.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedModel(
            f"{what} has no module {path!r}",
            given=type(module).__name__,
            present=", ".join(name for name, _ in module.named_children()),
            fix="name the module that is there",
        ) from error
