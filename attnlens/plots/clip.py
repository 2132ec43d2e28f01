"""Attention over one recording: waveform and spectrogram in seconds, with what each output token drew from when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.data.audio import RATE, Audio
from attnlens.errors import BadInput, UnknownName
from attnlens.plots.lines import caption
from attnlens.plots.style import SOURCE_COLOURS, Size, heat, styled

if TYPE_CHECKING:
    import xarray as xr

    from attnlens.plots.drawing import Drawing

__all__ = ["clip_attention", "peaks", "token_sources"]

CLIPS = ("demo_audio", "target_audio")
PEAKS = 400


def clip_attention(
    detail: xr.Dataset,
    audio: Audio,
    *,
    clip: str = "target_audio",
    layer: int | Sequence[int] | None = None,
    head: int | Sequence[int] | None = None,
    size: Size = "page",
) -> Drawing:
    """Show when in a clip the output's attention falls: waveform, mel spectrogram, and a ribbon per output token.

    Parameters
    ----------
    detail
        Token-level detail of an item, of :func:`attnlens.models.detail.token_detail` or ``open_details``. Without
        ``weights`` only what all tokens together give to each frame can be drawn.
    audio
        The clip itself.
    clip
        Which clip of the prompt it is: ``target_audio``, ``demo_audio 1`` and so on.
    layer, head
        By name in the detail; None averages over all.

    >>> from attnlens.models.detail import token_detail
    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> prompt = probe()
    >>> detail = token_detail(load("tiny:qwen3-asr"), prompt, output="kami")
    >>> figure = clip_attention(detail, prompt.target.audio)
    >>> figure.data["token"].unique().tolist()
    ['k', 'a', 'm', 'i']
    """
    import pandas as pd

    from attnlens.context.retrieval.logmel import HOP, LogMel
    from attnlens.plots.drawing import Drawing, sized

    keys, seconds = _frames(detail, clip)
    samples = audio.load()
    length = len(samples) / RATE
    width_s = length / len(keys)
    if np.abs(seconds.max() + width_s / 2 - length) > 2 * width_s:
        raise BadInput(
            "this is not the clip that was traced",
            given=f"{length:.2f} s",
            present=f"frames up to {seconds.max():.2f} s as {clip}",
            fix="pass the audio of that demonstration or target",
        )
    received, rows, names = _drawn(detail, keys, layer, head)
    frame = pd.DataFrame(
        {
            "token": np.repeat(names, len(keys)),
            "place": np.repeat(np.arange(len(names)), len(keys)),
            "seconds": np.tile(seconds, len(names)),
            "weight": rows.ravel(),
        }
    )
    edges = np.append(seconds - width_s / 2, seconds[-1] + width_s / 2)
    where = ", ".join(_named(name, value) for name, value in (("layer", layer), ("head", head)))
    colour = SOURCE_COLOURS[clip.split(maxsplit=1)[0]]
    with styled(size) as width:
        said = caption(
            f"attention on {clip.replace('_', ' ')} over its {length:.2f} s, {where}",
            f"{len(keys)} positions of {1000 * width_s:.0f} ms",
            f"{100 * received.sum():.1f} % of the output's attention falls on this clip",
        )
        figure = Drawing(
            "clip_attention", data=frame, caption=said, figsize=sized(width, aspect=0.55 + 0.025 * len(names))
        )
        ratios = [1.0, 1.2, 0.9, 0.35 + 0.24 * len(names)]
        wave, mel, all_, each = figure.subplots(4, 1, sharex=True, height_ratios=ratios)
        low, high = peaks(samples)
        wave.fill_between(np.linspace(0, length, len(low)), low, high, color=colour, linewidth=0)
        wave.set_ylabel("wave", rotation=0, ha="right", va="center")
        wave.set_yticks([])
        spectrum = LogMel().frames(audio).T
        top = (spectrum.shape[1] - 1) * HOP / RATE + 0.0125
        mel.imshow(spectrum, origin="lower", aspect="auto", extent=(0, top, 0, 1), cmap="gray_r")
        mel.set_ylabel("mel bands", rotation=0, ha="right", va="center")
        mel.set_yticks([])
        all_.stairs(100 * received, edges, fill=True, color=colour, linewidth=0)
        all_.set_ylabel("received\n(% a frame)", rotation=0, ha="right", va="center")
        mesh = each.pcolormesh(edges, np.arange(len(names) + 1), 100 * rows, cmap=heat(), vmin=0, rasterized=True)
        each.set_yticks(np.arange(len(names)) + 0.5, [_visible(one) for one in names])
        each.invert_yaxis()
        each.tick_params(axis="y", length=0)
        each.set_ylabel("output\ntoken", rotation=0, ha="right", va="center")
        each.set_xlabel("seconds")
        each.set_xlim(0, length)
        figure.colorbar(mesh, ax=each, label="% a frame", pad=0.01, aspect=25)
        for axes in (wave, mel):
            axes.tick_params(labelbottom=False)
            axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def token_sources(
    detail: xr.Dataset,
    *,
    layer: int | Sequence[int] | None = None,
    head: int | Sequence[int] | None = None,
    size: Size = "page",
) -> Drawing:
    """Show what each output token drew from each source of the prompt: one stacked bar per token, adding up to 1.

    >>> from attnlens.models.detail import token_detail
    >>> from attnlens.models.load import load
    >>> from attnlens.models.self_check import probe
    >>> data = token_sources(token_detail(load("tiny:qwen3-asr"), probe(), output="ka")).data
    >>> data.groupby("place")["share"].sum().round(4).tolist()
    [1.0, 1.0]
    """
    import pandas as pd

    from attnlens.plots.drawing import Drawing, sized

    if "token_mass" not in detail:
        raise BadInput("this detail has no masses per token", present=", ".join(map(str, detail.data_vars)))
    shares = _averaged(detail["token_mass"], layer, head).transpose("token", "source")
    tokens = [str(one) for one in detail["token_text"].values]
    names = [str(one) for one in shares["source"].values]
    frame = pd.DataFrame(
        [
            {"place": place, "token": tokens[place], "source": name, "share": float(shares.values[place, at])}
            for place in range(len(tokens))
            for at, name in enumerate(names)
            if shares.values[:, at].any()
        ]
    )
    where = ", ".join(_named(name, value) for name, value in (("layer", layer), ("head", head)))
    with styled(size) as width:
        said = caption(f"what each output token drew from each source, {where}", "not corrected for length")
        figure = Drawing("token_sources", data=frame, caption=said, figsize=sized(width, aspect=0.45))
        axes = figure.subplots()
        base = np.zeros(len(tokens))
        for at, name in enumerate(names):
            values = shares.values[:, at]
            if values.any():
                label = name.replace("_", " ")
                axes.bar(
                    np.arange(len(tokens)), values, 0.92, base, color=SOURCE_COLOURS[name], label=label, linewidth=0
                )
            base = base + values
        axes.set_xticks(range(len(tokens)), [_visible(one) for one in tokens])
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of attention")
        axes.set_xlabel("output token")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure


def peaks(samples: NDArray[np.float32], *, count: int = PEAKS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest sample of each of at most ``count`` stretches, for drawing a waveform.

    >>> low, high = peaks(np.array([0.0, 1.0, -1.0, 0.5], dtype=np.float32), count=2)
    >>> low.tolist(), high.tolist()
    ([0.0, -1.0], [1.0, 0.5])
    """
    parts = np.array_split(samples, min(count, len(samples)))
    return (
        np.array([part.min() for part in parts], dtype=np.float32),
        np.array([part.max() for part in parts], dtype=np.float32),
    )


def _frames(detail: xr.Dataset, clip: str) -> tuple[Any, Any]:
    labels, seconds = detail["key_label"].values.astype(str), detail["seconds"].values
    clips = sorted({one for one in labels.tolist() if one.split()[0] in CLIPS})
    if clip not in clips:
        raise UnknownName.among("clip", clip, clips)
    keys = np.flatnonzero((labels == clip) & np.isfinite(seconds))
    if not len(keys):
        raise BadInput(f"no position of {clip} has a time", fix="trace a family whose audio stands among its tokens")
    return keys, seconds[keys].astype(np.float64)


def _drawn(
    detail: xr.Dataset, keys: Any, layer: int | Sequence[int] | None, head: int | Sequence[int] | None
) -> tuple[Any, Any, list[str]]:
    """Return what each frame received [keys], what each token gave it [tokens, keys], and the tokens."""
    if "weights" in detail:
        rows = _averaged(detail["weights"].isel(key=keys), layer, head).transpose("token", "key").values
        return rows.mean(0), rows, [str(one) for one in detail["token_text"].values]
    if "received" not in detail:
        raise BadInput("this detail does not say what each position received", fix="measure weights or received")
    received = _averaged(detail["received"].isel(key=keys), layer, head).values
    return received, received[None], ["all tokens"]


def _averaged(
    values: xr.DataArray, layer: int | Sequence[int] | None, head: int | Sequence[int] | None
) -> xr.DataArray:
    for dim, wanted in (("layer", layer), ("head", head)):
        if wanted is not None:
            absent = sorted(set(np.atleast_1d(wanted).tolist()) - set(values[dim].values.tolist()))
            if absent:
                raise BadInput(
                    f"there is no {dim} {absent[0]} in this detail",
                    present=f"{dim}s {values[dim].values.min()} to {values[dim].values.max()}",
                    fix=f"pass a {dim} that was traced",
                )
            values = values.sel({dim: np.atleast_1d(wanted)})
        values = values.mean(dim)
    return values


def _named(name: str, value: int | Sequence[int] | None) -> str:
    if value is None:
        return f"mean of all {name}s"
    values = np.atleast_1d(value).tolist()
    return f"{name} {values[0]}" if len(values) == 1 else f"mean of {name}s {', '.join(map(str, values))}"


def _visible(token: str) -> str:
    return token.replace(" ", "␣").replace("\n", "⏎") or "∅"
