"""Measured items laid out as one dataset that satisfies the trace schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES
from attnlens.traces.schema import MODALITIES, VARIABLES, validate

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.models.speechlm import SpeechLM

__all__ = ["assembled", "provenance"]

ABSENT = {"demo_mass": np.nan, "demo_tokens": 0, "demo_start": -1, "received": np.nan}
"""What stands where an item has fewer demonstrations or positions than others."""


def assembled(
    items: Sequence[Mapping[str, Any]],
    prompts: Sequence[Prompt],
    *,
    coordinates: Mapping[str, Any],
    intervention: str,
    seed: int,
    attributes: Mapping[str, str],
) -> xr.Dataset:
    """Stack the items' variables along ``item`` and name the axes.

    ``coordinates`` holds ``layer``, ``head`` and ``query``; what an item is comes from its prompt.
    """
    import xarray as xr

    import attnlens.traces.accessor  # noqa: F401 - what is traced has `.attnlens`, like what is opened

    demos = max(item["demo_tokens"].shape[0] for item in items)
    longest = max(item["received"].shape[-1] for item in items) if "received" in items[0] else 0
    variables = {}
    for name, spec in VARIABLES.items():
        if name not in items[0]:
            continue
        parts = [item[name] for item in items]
        if name in ABSENT:
            dim, size = ("position", longest) if "position" in spec.dims else ("demo", demos)
            parts = [_padded(part, size, spec.dims.index(dim) - 1, ABSENT[name]) for part in parts]
        variables[name] = (spec.dims, np.stack(parts))
    about = {
        "utterance": [prompt.target.id for prompt in prompts],
        "condition": [str(prompt.condition) for prompt in prompts],
        "shots": [prompt.shots for prompt in prompts],
        "control": ["+".join(prompt.applied) or "none" for prompt in prompts],
        "seed": [seed] * len(prompts),
        "intervention": [intervention] * len(prompts),
        "prompt": [prompt.digest for prompt in prompts],
    }
    dataset = xr.Dataset(
        variables,
        coords={
            "item": np.arange(len(items)),
            **coordinates,
            "source": list(SOURCES),
            "demo": np.arange(demos),
            "modality": list(MODALITIES),
            **({"position": np.arange(longest)} if longest else {}),
            **{name: ("item", values) for name, values in about.items()},
        },
        attrs=dict(attributes),
    )
    return validate(dataset, where="the trace")


def provenance(lens: SpeechLM, *, rows: str, method: str, site: str) -> dict[str, str]:
    """Return what every trace says about how it was made."""
    import torch
    import transformers

    from attnlens import __version__

    return {
        "attnlens_version": __version__,
        "torch_version": torch.__version__,
        "transformers_version": transformers.__version__,
        "model": lens.name,
        "family": lens.family,
        "dtype": str(lens.dtype).removeprefix("torch."),
        "attention": lens.attn,
        "rows": rows,
        "method": method,
        "site": site,
    }


def _padded(part: np.ndarray, demos: int, axis: int, fill: float) -> np.ndarray:
    widths = [(0, 0)] * part.ndim
    widths[axis] = (0, demos - part.shape[axis])
    return np.pad(part, widths, constant_values=fill)
