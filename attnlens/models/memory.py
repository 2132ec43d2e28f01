"""Running out of memory, told as what was asked for and which setting lowers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from attnlens.errors import BadInput

__all__ = ["asking"]


@contextmanager
def asking(what: str, *, fix: str) -> Iterator[None]:
    """Turn running out of memory, on a CPU or a GPU, into an error that says what was asked and what lowers it.

    >>> with asking("logits of 2 prompts of 9 positions", fix="pass fewer prompts at once"):
    ...     raise MemoryError
    Traceback (most recent call last):
    attnlens.errors.BadInput: out of memory: logits of 2 prompts of 9 positions
      fix:     pass fewer prompts at once
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        first = str(error).splitlines()
        raise BadInput(f"out of memory: {what}", present=first[0] if first else None, fix=fix) from error


def _is_memory(error: BaseException) -> bool:
    import torch

    # The CPU's allocator has no error type of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
