"""The audio encoder on many clips at once: the same numbers as the class's own, which takes them one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["augmented", "encode_clips"]

_GROUP = 8
_KNOTS = 4


def encode_clips(tower: Any, mel: Tensor, mask: Tensor) -> Tensor:
    """Return encoder states [positions of all clips, width] of log-mel features [clips, mels, frames] and their mask.

    The weights are those of a ``Qwen3ASREncoder``. Its own attention runs clip by clip unless flash attention is
    installed, which makes training wait; here the clips are padded and masked. A clip is one window (``n_window_infer``
    is as long as any clip), so nothing else differs.
    """
    import torch
    from torch.nn import functional

    clips, mels, frames = mel.shape
    window = 2 * tower.n_window
    chunks = frames // window
    x = mel.view(clips, mels, chunks, window).permute(0, 2, 1, 3).reshape(clips * chunks, 1, mels, window)
    lengths = mask.view(clips * chunks, window).sum(-1)
    heard = lengths > 0
    y = x[heard]
    for convolution in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        y = functional.gelu(convolution(y))
    count, channels, bins, steps = y.shape
    y = tower.conv_out(y.permute(0, 3, 1, 2).reshape(count, steps, channels * bins))
    y = y + tower.positional_embedding.positional_embedding[:steps].to(y.dtype)
    z = y.new_zeros(clips * chunks, steps, y.shape[-1])
    z[heard] = y
    z = z.view(clips, chunks * steps, -1)
    for _ in range(3):
        lengths = torch.where(lengths > 0, (lengths - 1) // 2 + 1, lengths)
    valid = (torch.arange(steps, device=mel.device) < lengths[:, None]).view(clips, chunks * steps)
    for layer in tower.layers:
        attention, normed = layer.self_attn, layer.self_attn_layer_norm(z)
        q, k, v = (
            projection(normed).view(*z.shape[:2], attention.num_heads, -1).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=valid[:, None, None, :])
        z = z + attention.out_proj(mixed.transpose(1, 2).reshape(z.shape))
        z = z + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(z))))
    return tower.ln_post(z)[valid]


def augmented(mel: Tensor, mask: Tensor) -> Tensor:
    """Return features as other throats and other rooms would give them, drawn from torch's generator.

    The mel axis is stretched or pressed together, by other factors low and high, as voices differ in each formant; a
    few bands are blanked, level, tilt and noise vary. Clips in groups share a stretch, to save time.
    """
    import torch

    clips, mels, _ = mel.shape
    made = mel.clone()
    band = torch.arange(mels, device=mel.device, dtype=mel.dtype)
    for start in range(0, clips, _GROUP):
        part = slice(start, start + _GROUP)
        factors = torch.empty(1, 1, _KNOTS, device=mel.device).uniform_(0.84, 1.18)
        stretch = torch.nn.functional.interpolate(factors, mels, mode="linear", align_corners=True)[0, 0]
        place = (band * stretch).clamp(0, mels - 1.001)
        low = place.long()
        share = (place - low)[None, :, None]
        made[part] = mel[part][:, low] * (1 - share) + mel[part][:, low + 1] * share
        if float(torch.rand(())) < 0.5:  # noqa: PLR2004 - one group in two
            first, many = int(torch.randint(0, mels - 10, ())), int(torch.randint(1, 9, ()))
            made[part, first : first + many] = made[part].mean()
    tilt = (torch.rand(clips, 1, 1, device=mel.device) - 0.5) * 0.5 * (band / mels - 0.5)[None, :, None]
    level = torch.randn(clips, 1, 1, device=mel.device) * 0.1
    noise = torch.randn_like(made) * 0.05 * torch.rand(clips, 1, 1, device=mel.device)
    return (made + tilt + level + noise) * mask[:, None]
