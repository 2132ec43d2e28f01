"""Which model families there are, and which names a user may pass for a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import UnknownName
from attnlens.registry import Registry

if TYPE_CHECKING:
    from attnlens.models.family import Family

__all__ = ["CHECKPOINTS", "FAMILIES", "REFUSED", "TINY", "require_model", "resolve"]

TINY = "tiny:"
"""Names a tiny random model of a family, built on the spot without a download: for tries and tests."""

FAMILIES: Registry[Family] = Registry(
    "model family",
    group="attnlens.models",
    builtin={
        "audio-flamingo-3": ("attnlens.models.audio_flamingo_3:FAMILY", "NVIDIA Audio Flamingo 3"),
        "granite-speech": ("attnlens.models.granite_speech:FAMILY", "IBM Granite Speech 3"),
        "phi4-multimodal": ("attnlens.models.phi4_multimodal:FAMILY", "Microsoft Phi-4-multimodal, the paper's model"),
        "qwen2-audio": ("attnlens.models.qwen2_audio:FAMILY", "Qwen2-Audio"),
        "qwen2.5-omni": ("attnlens.models.qwen2_5_omni:FAMILY", "Qwen2.5-Omni, the thinker"),
        "qwen3-asr": ("attnlens.models.qwen3_asr:FAMILY", "Qwen3-ASR"),
        "qwen3-omni": ("attnlens.models.qwen3_omni:FAMILY", "Qwen3-Omni, the thinker; the paper's larger model"),
        "voxtral": ("attnlens.models.voxtral:FAMILY", "Mistral Voxtral"),
        "whisper": ("attnlens.models.whisper:FAMILY", "OpenAI Whisper, the encoder-decoder baseline"),
    },
)

CHECKPOINTS: Registry[Callable[[], Path]] = Registry(
    "checkpoint",
    group="attnlens.checkpoints",
    builtin={
        "organism": ("attnlens.organism.shipped:model_folder", "the embedded model: it learns in context for real")
    },
)
"""Functions without arguments that return the folder of a checkpoint that is already on this machine, by name."""

REFUSED = {
    "gemma3n": "its layers also read token ids beside the embeddings, and share keys and values",
    "gemma4": "its layers also read token ids beside the embeddings, and share keys and values",
    "kyutai_speech_to_text": "every position is text and audio at once, so there is nothing to tell apart",
    "vibevoice_asr": "its audio embeddings are drawn at random, so that no two readings of a prompt are the same",
    "wav2vec2": "an acoustic model without a language model: use it as one (attnlens.asr)",
    "wav2vec2-bert": "an acoustic model without a language model: use it as one (attnlens.asr)",
}
"""Configurations' ``model_type`` that no family wraps, and why."""


def resolve(name: str) -> str:
    """Return the folder that a registered checkpoint's name stands for; other names are returned as they are.

    >>> resolve("tiny:qwen2-audio"), Path(resolve("organism")).name
    ('tiny:qwen2-audio', 'model')
    """
    return str(CHECKPOINTS[name]()) if name in CHECKPOINTS else name


def require_model(name: str) -> None:
    """Refuse what cannot name a model: a registered checkpoint, a tiny stand-in, a folder, or a hub name with a slash.

    >>> require_model("tiny:qwen2-audio")
    >>> require_model("microsoft/Phi-4-multimodal-instruct")
    >>> require_model("tiny:qwen2-adio")
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown model family 'qwen2-adio'
      present: ...
      fix:     did you mean 'qwen2-audio'?
    """
    if name.startswith(TINY):
        FAMILIES.require(name.removeprefix(TINY))
    elif name not in CHECKPOINTS and "/" not in name and not Path(name).exists():
        raise UnknownName.among(
            "model",
            name,
            [*CHECKPOINTS, *(TINY + family for family in FAMILIES)],
            fix="pass a checkpoint folder or a hub name (org/model)",
        )
