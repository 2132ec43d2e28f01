"""Training: episodes as a user would prompt, one loop, and recipes by name."""

from __future__ import annotations

__all__: list[str] = []
