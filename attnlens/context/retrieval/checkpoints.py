"""Where an encoder's weights come from, and what identifies them once loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput, listing

if TYPE_CHECKING:
    import torch

__all__ = ["fingerprint", "loaded", "located", "unreadable"]


def located(name: str) -> tuple[str, bool]:
    """Tell a folder on disk from a hub name: return what to load, and whether it is on disk.

    Only a hub name may reach the network; a mistyped folder must not turn into a download.

    >>> located("facebook/wav2vec2-base")
    ('facebook/wav2vec2-base', False)
    >>> located("./no-such-folder")
    Traceback (most recent call last):
    attnlens.errors.BadInput: the encoder folder './no-such-folder' does not exist
      fix:     pass a folder written by save_pretrained, or a model name such as 'openai/whisper-small'
    """
    path = Path(name).expanduser()
    if path.exists():
        return str(path), True
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name:
        raise BadInput(
            f"the encoder folder {name!r} does not exist",
            fix="pass a folder written by save_pretrained, or a model name such as 'openai/whisper-small'",
        )
    return name, False


def loaded(load: Callable[..., Any], name: str, *, optional: Iterable[str] = (), **options: Any) -> Any:
    """Call a model class's ``from_pretrained`` and refuse a checkpoint that leaves weights at random.

    transformers only warns when a checkpoint is of another architecture; its embeddings would be noise. ``optional``
    names parameters that play no part in encoding.
    """
    source, on_disk = located(name)
    try:
        model, report = load(source, local_files_only=on_disk, output_loading_info=True, **options)
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from error
    missing = sorted(key for key in report["missing_keys"] if not any(part in key for part in optional))
    if missing:
        raise BadInput(
            f"the checkpoint {name!r} does not hold this encoder",
            given=type(model).__name__,
            present=f"no weights for {listing(missing, at_most=3)}",
            fix="pass a checkpoint of the encoder itself",
        )
    return model.eval()


def unreadable(name: str, error: Exception) -> BadInput:
    """Return the error for an encoder that its own library cannot load, with that library's first line."""
    return BadInput(
        f"the encoder {name!r} could not be loaded: {str(error).strip().splitlines()[0]}",
        fix="check the name, or pass the folder of a downloaded copy",
    )


def fingerprint(model: torch.nn.Module) -> str:
    """Hash a model's weights, so that what is cached for one fine-tuning step is not taken for another's."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # Viewed as bytes, because numpy knows no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
