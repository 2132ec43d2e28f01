"""Plugging the ear in: the projector's last matrix by ridge regression onto the embeddings it must stand in for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.organism.hearing import encode_clips
from attnlens.organism.labels import OFFSETS, frame_labels
from attnlens.organism.lessons import side_by_side
from attnlens.organism.pool import Pool

if TYPE_CHECKING:
    from attnlens.organism.body import Body

__all__ = ["plug_in"]

_BATCH = 64


def plug_in(body: Body, pool: Pool, *, clips: int, seed: int, ridge: float = 1.0) -> float:
    """Set ``linear_2`` of the projector so that audio comes out as the embeddings the decoder was exercised with.

    Returns the share of variance explained.
    """
    import torch
    from torch.nn import functional

    model: Any = body.model.model
    device = model.multi_modal_projector.linear_2.weight.device
    parts: Any = body.parts
    rng = np.random.default_rng([seed, 3])
    chosen = rng.permutation(len(pool))[:clips].tolist()
    hidden, wanted = [], []
    with torch.no_grad():
        for start in range(0, len(chosen), _BATCH):
            numbers = chosen[start : start + _BATCH]
            arrays = side_by_side([pool.features(number) for number in numbers])
            mel = torch.as_tensor(arrays["input_features"], device=device)
            mask = torch.as_tensor(arrays["input_features_mask"], device=device)
            states = encode_clips(model.audio_tower, mel, mask)
            hidden.append(functional.gelu(model.multi_modal_projector.linear_1(states)))
            labels = np.concatenate([frame_labels(pool, number) for number in numbers], axis=1)
            phones = torch.as_tensor(labels[len(OFFSETS) // 2], device=device)
            places, words = (torch.as_tensor(labels[row], device=device) for row in (-2, -1))
            said = (phones > 0) & (places >= 0)
            target = parts["phone"](phones)
            target[said] += parts["ordinal"](places[said]) + parts["word"](words[said])
            wanted.append(target)
        x, y = torch.cat(hidden).double(), torch.cat(wanted).double()
        x1 = torch.cat([x, x.new_ones(len(x), 1)], 1)
        eye = torch.eye(x1.shape[1], dtype=x1.dtype, device=device)
        solved = torch.linalg.solve(x1.T @ x1 + ridge * eye, x1.T @ y)
        projection = model.multi_modal_projector.linear_2
        projection.weight.copy_(solved[:-1].T)
        projection.bias.copy_(solved[-1])
        left = ((x1 @ solved - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    return 1 - float(left)
