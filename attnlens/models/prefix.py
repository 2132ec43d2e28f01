"""A prompt read once: its cached keys and values, never written to, and where what follows it stands."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attnlens.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CausalModel", "Prefix", "unmaskable"]

PLAIN_LAYERS = ("DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer")
"""Cache layers whose whole state is keys, values and a count; others keep running states that a forward overwrites."""
MASKABLE = ("sdpa", "eager")
"""Attention implementations that obey a mask [1, 1, rows, keys]."""
FULL, SLIDING = "full_attention", "sliding_attention"
AXES = 3
"""Rotary axes of a multimodal rope: time, height, width. A fourth row before them counts plain positions."""


@runtime_checkable
class CausalModel(Protocol):
    """What reading after a cached prompt needs of a model, whatever its family or library."""

    @property
    def decoder(self) -> Any:
        """The module with the layers; its ``config`` says which attention it uses."""
        ...

    def read(self, inputs: dict[str, Any]) -> Any:
        """Run one forward pass that returns ``last_hidden_state`` and ``past_key_values``."""
        ...

    def after(self, ids: Tensor, *, mask: Tensor | dict[str, Tensor], positions: Tensor, cache: Any) -> dict[str, Any]:
        """Return what :meth:`read` takes for token ids [tokens] that follow a cached prompt."""
        ...

    def unembed(self, hidden: Tensor) -> Tensor:
        """Return the logits [..., vocabulary] of hidden states [..., hidden], as the model was trained to give them."""
        ...


@dataclass(frozen=True)
class Prefix:
    """Read a prompt once and let any number of continuations start from it, in any order and from any thread.

    The snapshot copies nothing: each continuation gets a cache that holds the prompt's own tensors and joins new keys
    to them without keeping the result. There is nothing to undo afterwards, not even after an exception, and a pass
    holds one layer's joined keys at a time.

    ``last`` [1, 1, hidden] is the hidden state of the prompt's last position, the one that predicts a first token.
    ``following`` is the rotary position [axes] of the first token to come; ``axes`` is 0 where positions have no axes.
    """

    model: CausalModel
    length: int
    last: Tensor
    following: Tensor
    axes: int
    stored: Any

    @classmethod
    def of(cls, model: CausalModel, inputs: dict[str, Any], *, length: int) -> Prefix:
        """Read one prompt of ``length`` positions without padding."""
        import torch

        mask = inputs.get("attention_mask")
        if mask is not None and (len(mask) != 1 or not bool(mask.all())):
            raise BadInput(
                "a prefix is one prompt without padding",
                given=f"an attention mask {list(mask.shape)} with {int((mask == 0).sum())} positions masked",
                fix="make the inputs of one prompt",
            )
        with _positions_read(model.decoder) as seen:
            made = model.read(inputs)
        last = made.last_hidden_state[:, -1:]
        positions = seen[0] if seen and seen[0] is not None else torch.arange(length, device=last.device)[None]
        axes = len(positions) if positions.ndim == 3 else 0  # noqa: PLR2004 - [axes, prompts, positions]
        following = positions.flatten(1).amax(1) + 1 if axes else positions.max()[None] + 1
        # Text stands behind the farthest position on any axis of what came before.
        following[-AXES:] = following[-AXES:].max()
        # A copy of the one row, or the prompt's hidden states would stay in memory.
        return cls(model, length, last.clone(), following, axes, made.past_key_values)

    @cached_property
    def self_attention(self) -> Any:
        """The cache of the decoder's own keys and values."""
        return getattr(self.stored, "self_attention_cache", self.stored)

    @cached_property
    def reusable(self) -> bool:
        """Whether the cache holds nothing that a forward pass overwrites in place."""
        layers = getattr(self.self_attention, "layers", [])
        return bool(layers) and all(type(layer).__name__ in PLAIN_LAYERS for layer in layers)

    def cache(self) -> Any:
        """Return the prompt's cache for one forward pass."""
        twin = copy.copy(self.self_attention)
        twin.layers = [_unwritten(layer) for layer in twin.layers]
        if self.self_attention is self.stored:
            return twin
        # Keys of the encoder are only read, once they are there.
        both = copy.copy(self.stored)
        both.self_attention_cache = twin
        return both

    def positions(self, offsets: Tensor) -> Tensor:
        """Return rotary positions [1, tokens] or [axes, 1, tokens] of offsets [tokens] from the prompt's end."""
        flat = self.following.to(offsets.device)[:, None, None] + offsets
        return flat if self.axes else flat[0]

    @cached_property
    def unpackable(self) -> str | None:
        """Why continuations cannot stand side by side in one row, or None when they can."""
        if not self.reusable:
            return "its cache keeps running states"
        if reason := unmaskable(self.model.decoder):
            return reason
        kinds: dict[str, set[tuple[int | None, int]]] = {}
        for kind, layer in self._layers():
            if kind not in (FULL, SLIDING) or (kind == SLIDING) != bool(layer.is_sliding):
                return f"its cache and its {kind} layers do not match"
            kinds.setdefault(kind, set()).add(_window(layer))
        mixed = [kind for kind, windows in kinds.items() if len(windows) > 1]
        return f"its {mixed[0]} layers have several windows" if mixed else None

    def mask(self, owner: Tensor, offsets: Tensor) -> Tensor | dict[str, Tensor]:
        """Return who sees whom when several continuations stand in one row.

        Parameters
        ----------
        owner
            Which continuation a row belongs to [rows].
        offsets
            Its distance from the prompt's end [rows].

        Returns
        -------
        The mask [1, 1, rows, keys]: the prompt's cached keys, then the rows of the same continuation up to one's own;
        one for each type of layer where layers differ.
        """
        import torch

        config = self.model.decoder.config
        made: dict[tuple[int | None, int], Tensor] = {}
        distance = offsets[:, None]
        own = (owner[:, None] == owner) & (offsets <= distance)
        for _, layer in self._layers():
            window, kept = _window(layer)
            if (window, kept) in made:
                continue
            seen = torch.cat([own.new_ones(len(own), kept), own], dim=1)
            if window is not None:
                keys = torch.cat([torch.arange(-kept, 0, device=offsets.device), offsets])
                seen &= keys > distance - window
            if config._attn_implementation == "eager":
                dtype = layer.keys.dtype
                seen = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
            made[window, kept] = seen[None, None]
        if len(made) == 1:
            return next(iter(made.values()))
        return {kind: made[_window(layer)] for kind, layer in self._layers()}

    def _layers(self) -> Iterator[tuple[str, Any]]:
        """Type and cache of each layer that has keys of its own; layers that share another's keep none."""
        config = self.model.decoder.config
        kinds = getattr(config, "layer_types", None)
        default = FULL if getattr(config, "sliding_window", None) is None else SLIDING
        for index, layer in enumerate(self.self_attention.layers):
            if layer.keys is not None:
                yield (kinds[index] if kinds else default), layer


def unmaskable(decoder: Any) -> str | None:
    """Return why a decoder cannot be told who sees whom, or None when it can."""
    attention = getattr(getattr(decoder, "config", None), "_attn_implementation", None)
    return None if attention in MASKABLE else f"its attention, {attention}, takes no mask of ours"


def _window(layer: Any) -> tuple[int | None, int]:
    """Return a layer's window and how many of the prompt's keys it kept."""
    return (int(layer.sliding_window) if layer.is_sliding else None), int(layer.keys.shape[-2])


def _unwritten(layer: Any) -> Any:
    twin = copy.copy(layer)
    if layer.keys is not None:
        twin.update = partial(_joined, (layer.keys, layer.values))
    return twin


def _joined(
    cached: Iterable[Tensor], keys: Tensor, values: Tensor, *_position: object, **_options: object
) -> tuple[Tensor, ...]:
    import torch

    return tuple(torch.cat([old, new], dim=-2) for old, new in zip(cached, (keys, values), strict=True))


@contextmanager
def _positions_read(decoder: Any) -> Iterator[list[Tensor | None]]:
    """Note the rotary positions that the decoder is called with in this thread."""
    seen: list[Tensor | None] = []
    thread = threading.get_ident()

    def note(_module: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            seen.append(kwargs.get("position_ids"))

    hook = decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()
