"""The audio encoder on many clips at once: the same numbers as the class's own, which takes them one after another."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from attnlens.capture.packed import attend

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["augmented", "encode_clips"]

_GROUP = 8
_KNOTS = 4


def encode_clips(tower: Any, mel: Tensor, mask: Tensor, *, augment: Literal["on", "off"] = "off") -> Tensor:
    """Return encoder states [positions of all clips, width] of log-mel features [clips, mels, frames] and their mask.

    The weights are those of a ``Qwen3ASREncoder``. Its own attention runs clip by clip unless flash attention is
    installed, which makes training wait; here all positions lie end to end. A clip is one window (``n_window_infer``
    is as long as any clip), so nothing else differs.
    """
    import torch
    from torch.nn import functional

    clips, mels, frames = mel.shape
    window = 2 * tower.n_window
    chunks = frames // window
    x = mel.view(clips, mels, chunks, window).transpose(1, 2).reshape(clips * chunks, mels, window)
    counted = mask.view(clips * chunks, window)
    lengths = counted.sum(-1)
    heard = lengths > 0
    x = x[heard]
    if augment == "on":
        x = augmented(x, counted[heard], torch.arange(clips, device=mel.device).repeat_interleave(chunks)[heard])
    # Channels last: three times as fast on a CPU.
    y = x[:, None].contiguous(memory_format=torch.channels_last)
    for convolution in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        y = functional.gelu(convolution(y))
    count, channels, bins, steps = y.shape
    y = tower.conv_out(y.permute(0, 3, 1, 2).reshape(count, steps, channels * bins))
    y = y + tower.positional_embedding.positional_embedding[:steps].to(y.dtype)
    for _ in range(3):
        lengths = torch.where(lengths > 0, (lengths - 1) // 2 + 1, lengths)
    # End to end from here on.
    z = y[torch.arange(steps, device=mel.device) < lengths[heard, None]][None]
    each = lengths.view(clips, chunks).sum(1).tolist()
    for layer in tower.layers:
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(z)
        q, k, v = (
            projection(normed).view(1, z.shape[1], attention.num_heads, -1).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        mixed = attend(q, k, v, each, causal=False)
        z = z + attention.out_proj(mixed.transpose(1, 2).reshape(z.shape))
        z = z + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(z))))
    return tower.ln_post(z)[0]


def augmented(windows: Tensor, mask: Tensor, clip: Tensor) -> Tensor:
    """Return features as other throats and other rooms would give them, drawn from torch's generator.

    The mel axis is stretched or pressed together, by other factors low and high, as voices differ in each formant; a
    few bands are blanked, level, tilt and noise vary. Clips in groups share a stretch, to save time.

    Parameters
    ----------
    windows, mask
        Features [windows, mels, frames] and which frames [windows, frames] count.
    clip
        The clip [windows] of each, in ascending order.
    """
    import torch

    _, mels, _ = windows.shape
    device, clips = windows.device, int(clip[-1]) + 1
    made = windows.clone()
    band = torch.arange(mels, device=device, dtype=windows.dtype)
    borders = torch.searchsorted(clip, torch.arange(0, clips + _GROUP, _GROUP, device=device)).tolist()
    for part in (slice(*pair) for pair in pairwise(borders)):
        factors = torch.empty(1, 1, _KNOTS, device=device).uniform_(0.84, 1.18)
        stretch = torch.nn.functional.interpolate(factors, mels, mode="linear", align_corners=True)[0, 0]
        place = (band * stretch).clamp(0, mels - 1.001)
        low = place.long()
        share = (place - low)[None, :, None]
        made[part] = windows[part][:, low] * (1 - share) + windows[part][:, low + 1] * share
        if float(torch.rand(())) < 0.5:  # noqa: PLR2004 - one group in two
            first, many = int(torch.randint(0, mels - 10, ())), int(torch.randint(1, 9, ()))
            made[part, first : first + many] = made[part].mean()
    tilt = (torch.rand(clips, device=device) - 0.5) * 0.5
    level, noise = torch.randn(clips, device=device) * 0.1, torch.rand(clips, device=device) * 0.05
    made += tilt[clip, None, None] * (band / mels - 0.5)[None, :, None] + level[clip, None, None]
    made += torch.randn_like(made) * noise[clip, None, None]
    return made * mask[:, None]
