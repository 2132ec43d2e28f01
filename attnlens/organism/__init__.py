"""The organism: a small speech LLM of known behaviour, its corpora, and everything that makes them."""

from __future__ import annotations

__all__: list[str] = []
