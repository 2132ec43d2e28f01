"""Transcripts: acoustic models, N-best decoding, language models, selection, error rates.

Here belongs what turns speech into competing transcripts, scores them and says how wrong they are. What a speech LLM
says of a transcript comes from :mod:`attnlens.models`; how such figures are compared belongs to :mod:`attnlens.stats`.
"""

from __future__ import annotations

__all__: list[str] = []
