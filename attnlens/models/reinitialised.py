"""A model that has learnt nothing: weights drawn anew with the spread they had, for as long as a block lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from attnlens.errors import BadInput, listing

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["reinitialised"]


@contextlib.contextmanager
def reinitialised(lens: SpeechLM, layers: Sequence[int] | Literal["all"] = "all", *, seed: int = 0) -> Iterator[None]:
    """Draw weights anew from a normal distribution with the mean and spread of each tensor; undone at the end.

    Parameters
    ----------
    layers
        Decoder layers; ``all`` is the whole model: embeddings, encoders and the unembedding as well.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> lens, prompt = load("tiny:qwen3-asr"), probe()
    >>> before = lens.trace(prompt).nll.item()
    >>> with reinitialised(lens, [2]):
    ...     changed = lens.trace(prompt).nll.item()
    >>> changed != before, lens.trace(prompt).nll.item() == before
    (True, True)
    """
    import torch

    if layers == "all":
        modules: list[Any] = [lens.model]
    else:
        wrong = [layer for layer in layers if not 0 <= layer < lens.n_layers]
        if wrong or not layers:
            raise BadInput(
                "there is no such layer to draw anew",
                given=listing(wrong) or "none",
                present=f"layers 0 to {lens.n_layers - 1}",
                fix="count from 0, or pass 'all'",
            )
        modules = [lens.layers[layer].module for layer in layers]
    weights = {id(one): one for module in modules for one in module.parameters() if one.is_floating_point()}
    kept = [(one, one.detach().clone()) for one in weights.values()]
    generator = torch.Generator().manual_seed(seed)
    # What was made of a recording by other weights must not be taken for theirs. The decoder's layers make none of it.
    clips = lens.__dict__.pop("_kept_clips", None) if layers == "all" else None
    try:
        with torch.no_grad():
            for one, old in kept:
                spread = old.float().std(correction=0)
                drawn = torch.randn(old.shape, generator=generator).to(old.device) * spread + old.float().mean()
                one.copy_(drawn.to(old.dtype))
        yield
    finally:
        with torch.no_grad():
            for one, old in kept:
                one.copy_(old)
        if layers == "all":
            lens.__dict__.pop("_kept_clips", None)
        if clips is not None:
            lens.__dict__["_kept_clips"] = clips
