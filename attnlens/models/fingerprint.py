"""Which weights are these? A hash that a laptop computes for thirty billion parameters in seconds."""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["fingerprint"]

SAMPLES = 64


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
    import torch

    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        if flat.numel() and not flat.is_meta:
            step = max(1, flat.numel() // SAMPLES)
            digest.update(flat[::step][:SAMPLES].to(torch.float64).cpu().numpy().tobytes())
    return digest.hexdigest()
