"""What heads put out on reference prompts: the donors of mean and resample ablation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.context.spans import Source
from attnlens.errors import BadInput
from attnlens.models.rows import rows_of

if TYPE_CHECKING:
    from torch import Tensor

    from attnlens.models.speechlm import SpeechLM

__all__ = ["head_outputs"]


def head_outputs(
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    *,
    layers: Sequence[int],
    heads: Sequence[int],
    queries: Sequence[Source] = ("output",),
) -> dict[int, Tensor]:
    """Return, per layer, what heads put out before the output projection: [rows of all prompts, heads, head_dim].

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> head_outputs(load("tiny:qwen2-audio"), [probe()], layers=[1], heads=[0, 3])[1].shape
    torch.Size([9, 2, 8])
    """
    import torch

    from attnlens.capture.sites import Site

    collected: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    rows: list[Any] = [None]
    hooks = []

    def keep(layer: int) -> Any:
        def hook(module: Any, given: tuple[Tensor, ...]) -> None:
            split = given[0][0, rows[0]].reshape(len(rows[0]), lens.n_heads, -1)
            collected[layer].append(split[:, list(heads)].detach().clone())

        return hook

    try:
        for layer in layers:
            projection = lens.sites.projections[Site(layer, "self")]
            hooks.append(projection.register_forward_pre_hook(keep(layer)))
        for prompt in prompts:
            encoded = lens.encode(prompt, prompt.target.text)
            present = [name for name in queries if len(encoded.spans.positions(name))]
            if not present:
                raise BadInput(
                    f"the reference prompt of {prompt.target.id!r} has none of the rows to ablate",
                    given=", ".join(queries),
                    fix="pass reference prompts of the same condition",
                )
            positions = np.unique(np.concatenate([rows_of(encoded.spans, name) for name in present]))
            rows[0] = torch.as_tensor(positions, device=lens.device)
            lens.logits(lens.inputs(encoded), keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: torch.cat(parts) for layer, parts in collected.items()}
