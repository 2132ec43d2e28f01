"""Which weights are these? A hash that a laptop computes for thirty billion parameters in seconds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["bare_fingerprint", "fingerprint"]

SAMPLES = 64
_ADDED = re.compile(r"\.(lora_\w+|ranknum|modules_to_save)\.")


def fingerprint(model: Any) -> str:
    """Return sixteen hex digits of the names, shapes, types and a fixed sample of values of all parameters.

    A sample of 64 values spread over each tensor: training, merging an adapter or another checkpoint changes nearly all
    of them. A single value flipped on purpose can go unseen.

    >>> import torch
    >>> layer = torch.nn.Linear(4, 4)
    >>> before = fingerprint(layer)
    >>> _ = layer.weight.data.add_(1e-3)
    >>> fingerprint(layer) == before
    False
    """
    return _of(model.state_dict())


def bare_fingerprint(model: Any) -> str:
    """Return the fingerprint that a model has, or had, without any adapter in it.

    >>> import torch
    >>> bare_fingerprint(torch.nn.Linear(4, 4, bias=False)) == bare_fingerprint(torch.nn.Linear(4, 4, bias=False))
    False
    """
    bare = {}
    for name, tensor in model.state_dict().items():
        if not _ADDED.search(name):
            bare[name.replace(".base_layer.", ".").replace(".original_module.", ".")] = tensor
    return _of(bare)


def _of(state: Mapping[str, Any]) -> str:
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        if flat.numel() and not flat.is_meta:
            step = max(1, flat.numel() // SAMPLES)
            digest.update(flat[::step][:SAMPLES].to(torch.float64).cpu().numpy().tobytes())
    return digest.hexdigest()
