"""Token by token: what every output token drew from every position of the prompt, in every layer and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from attnlens.context.encode import Encoded
from attnlens.context.prompt import Prompt
from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, UnknownName
from attnlens.models.rows import RowConvention, rows_of
from attnlens.traces.detail import validate_detail

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.models.speechlm import SpeechLM

__all__ = ["Detail", "token_detail"]

Detail = Literal["weights", "effects"]
MOST_BYTES = 2 * 2**30
"""All heads' weights of a long prompt on a large model are gigabytes; beyond this, layers have to be chosen."""


def token_detail(
    lens: SpeechLM,
    prompt: Prompt,
    *,
    output: str | None = None,
    measures: Sequence[Detail] = ("weights",),
    layers: Sequence[int] | None = None,
    rows: RowConvention = "predicting",
) -> xr.Dataset:
    """Measure one prompt down to single tokens and frames, for figures of a clip and for the report's explorer.

    Parameters
    ----------
    output
        The answer that is read along; the target's reference by default.
    measures
        ``weights`` (softmax weights) and ``effects`` (on the logit of the token, where the family allows it).
    layers
        By index; None is all.
    rows
        See :func:`attnlens.models.rows.rows_of`.

    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> detail = token_detail(load("tiny:qwen3-asr"), probe(), output="kami")
    >>> detail.weights.dims, bool(np.allclose(detail.weights.sum("key"), 1, atol=1e-4))
    (('layer', 'head', 'token', 'key'), True)
    """
    import torch
    import xarray as xr

    from attnlens.capture.attention import capture
    from attnlens.capture.request import Request
    from attnlens.models.interventions import edits_for

    for name in measures:
        if name not in get_args(Detail):
            raise UnknownName.among("token-level measure", name, get_args(Detail))
    answer = prompt.target.text if output is None else output
    if not answer.strip():
        raise BadInput("the answer is empty, so nothing is predicted", fix="pass output=")
    encoded = lens.encode(prompt, answer)
    spans = encoded.spans
    at = rows_of(spans, "output", rows=rows)
    chosen = tuple(lens.sites.layers("self") if layers is None else layers)
    _refuse_large(len(chosen) * lens.n_heads * len(at) * len(spans) * 4 * len(set(measures)), encoded)
    ids = torch.as_tensor(encoded.ids, device=lens.device)
    positions = torch.as_tensor(at, device=lens.device)
    gold = torch.cat([ids[1:], ids.new_full((1,), -1)])[positions][None]
    wanted = ("mass", *(("logit_effect",) if "effects" in measures else ()))
    request = Request(
        # Every position is a group of its own, so that the mass of a group is the weight on a position.
        groups=torch.arange(len(spans), device=lens.device)[None],
        n_groups=len(spans),
        rows=positions,
        measures=wanted,
        layers=chosen,
        gold=gold if "effects" in measures else None,
    )
    with capture(lens.sites, request, edits_for(lens, encoded)) as record:
        lens.logits(lens.inputs(encoded), keep=1)
    weights = record.stacked("mass", "self")[:, 0].float().cpu().numpy()
    onto = np.zeros((len(spans), len(SOURCES)), dtype=np.float32)
    onto[np.arange(len(spans)), spans.sources()] = 1
    strings = lens.front.strings(encoded.ids)
    four = ("layer", "head", "token", "key")
    variables: dict[str, Any] = {
        "token_mass": (("layer", "head", "token", "source"), weights @ onto),
        "received": (("layer", "head", "key"), weights.mean(2)),
        "weights": (four, weights),
        "token_text": ("token", np.array([strings[position] for position in spans.positions("output")])),
        "key_text": ("key", np.array(strings)),
        "key_label": ("key", np.array([str(span.label) for span in spans for _ in range(len(span))])),
        "seconds": ("key", _seconds(lens, encoded)),
    }
    if "effects" in measures:
        effects = record.stacked("logit_effect", "self")[:, 0].float().cpu().numpy()
        variables["effects"] = (four, effects * np.float32(lens.back.logit_scale))
    coords = {"layer": np.array(chosen), "head": np.arange(weights.shape[1]), "source": list(SOURCES)}
    made = xr.Dataset(variables, coords=coords, attrs={"model": lens.name, "rows": rows})
    return validate_detail(made, item=prompt.target.id)


def _seconds(lens: SpeechLM, encoded: Encoded) -> Any:
    """Return the middle of every audio position's frame within its clip [n], NaN for text and for clips' markers."""
    found = np.full(len(encoded.spans), np.nan, dtype=np.float32)
    for span in encoded.spans:
        if span.seconds is None:
            continue
        inside = np.arange(span.start, span.stop)
        heard = inside[encoded.ids[inside] == lens.front.audio_token_id]
        found[heard] = (np.arange(len(heard)) + 0.5) * span.seconds / max(len(heard), 1)
    return found


def _refuse_large(size: int, encoded: Encoded) -> None:
    if size > MOST_BYTES:
        raise BadInput(
            f"the weights of every head on every position would take {size / 2**30:.1f} GiB",
            given=f"{len(encoded.spans):,} positions",
            present=f"at most {MOST_BYTES / 2**30:.0f} GiB",
            fix="pass layers=, fewer demonstrations or a shorter output",
        )
