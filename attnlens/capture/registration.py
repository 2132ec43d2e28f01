"""Puts one function in front of every attention implementation of transformers, and takes it away again."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnlens.capture.call import Style
from attnlens.errors import UnsupportedModel

__all__ = ["Attend", "Implementation", "Passed", "installed"]


@dataclass(frozen=True)
class Implementation:
    """One registered attention implementation: its key, its function (None for eager) and how it reads masks."""

    key: str
    function: Callable[..., Any] | None
    style: Style | None

    def base(self, module: nn.Module) -> Callable[..., Any]:
        """Return the function that the module would have called without us."""
        if self.function is not None:
            return self.function
        # Eager attention is not registered: every modelling file has its own, named in the scope of the forward that
        # asks for it. Wrappers such as deprecation decorators keep the original within.
        for kind in type(module).__mro__:
            forward = vars(kind).get("forward")
            scope: dict[str, Any] = getattr(inspect.unwrap(forward), "__globals__", {}) if forward else {}
            if "eager_attention_forward" in scope:
                function: Callable[..., Any] = scope["eager_attention_forward"]
                return function
        raise UnsupportedModel(
            "the eager attention of this module cannot be found",
            given=f"{type(module).__module__}.{type(module).__name__}",
            fix="load the model with attn='sdpa'",
        )

    def mask_style(self) -> Style:
        """Return how masks are read, refusing an implementation for which models would leave masks out."""
        if self.style is None:
            raise UnsupportedModel(
                f"attention implementation {self.key!r} has no mask function",
                given=f"{self.key}, for which models silently leave out padding and windows",
                fix="register one with AttentionMaskInterface, or load the model with attn='sdpa'",
            )
        return self.style


@dataclass(frozen=True)
class Passed:
    """What an attention module passed to its implementation: ``tensors`` are query, key and value."""

    implementation: Implementation
    module: nn.Module
    tensors: tuple[Tensor, Tensor, Tensor]
    mask: Any
    args: tuple[Any, ...]
    options: dict[str, Any]

    def run(self, query: Tensor, key: Tensor, value: Tensor, **changed: Any) -> tuple[Tensor, Any]:
        """Run the implementation just as the module asked for it, but for other tensors or options."""
        base = self.implementation.base(self.module)
        return base(self.module, query, key, value, self.mask, *self.args, **{**self.options, **changed})


Attend = Callable[[Passed], tuple[Tensor, Any]]
"""What stands in front of every implementation."""


@dataclass(frozen=True)
class Front:
    """The registered stand-in for one implementation."""

    implementation: Implementation
    attend: Attend

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        *args: Any,
        **options: Any,
    ) -> tuple[Tensor, Any]:
        return self.attend(Passed(self.implementation, module, (query, key, value), attention_mask, args, options))


_LOCK = threading.Lock()
_fronts: dict[str, Front] = {}
_users = 0


@contextmanager
def installed(attend: Attend) -> Iterator[None]:
    """Keep ``attend`` in front of every implementation while the block runs; blocks may nest and overlap in threads."""
    global _users  # noqa: PLW0603 - the registry it counts the users of is global too
    with _LOCK:
        if _users == 0:
            _install(attend)
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if _users == 0:
                _remove()


def _install(attend: Attend) -> None:
    from transformers import AttentionInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for key in {*ALL_ATTENTION_FUNCTIONS.valid_keys(), "eager"}:
        function = ALL_ATTENTION_FUNCTIONS.get(key)
        _fronts[key] = Front(Implementation(key, function, _style(key)), attend)
        AttentionInterface.register(key, _fronts[key])


def _remove() -> None:
    from transformers import AttentionInterface

    mapping = AttentionInterface._global_mapping
    for key, front in _fronts.items():
        # Someone else may have registered over us in the meantime; theirs stays.
        if mapping.get(key) is front:
            if front.implementation.function is None:
                del mapping[key]
            else:
                AttentionInterface.register(key, front.implementation.function)
    _fronts.clear()


def _style(key: str) -> Style | None:
    from transformers import masking_utils

    if key == "eager":
        return "eager"
    known = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
    if key not in known:
        return None
    styles: dict[Any, Style] = {masking_utils.flash_attention_mask: "flash", masking_utils.eager_mask: "eager"}
    return styles.get(known[key], "sdpa")
