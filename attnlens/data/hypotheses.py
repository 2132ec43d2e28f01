"""What an acoustic model heard, from a file: what retrievers search with."""

from __future__ import annotations

import json
from pathlib import Path

from attnlens.errors import BadInput

__all__ = ["read_hypotheses"]


def read_hypotheses(path: Path) -> dict[str, str]:
    """Read what an acoustic model heard: one JSON object per line, with ``id`` and ``text``.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "heard.jsonl"
    >>> _ = path.write_text('{"id": "t1", "text": "imata"}')
    >>> read_hypotheses(path)
    {'t1': 'imata'}
    """
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the hypotheses cannot be read: {error}", given=path, fix="pass a UTF-8 file") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found[str(row["id"])] = str(row["text"])
        except (ValueError, KeyError, TypeError):
            raise BadInput(
                "a line of the hypotheses is no JSON object with id and text",
                given=f"{path}:{number}: {line[:60]}",
                fix='write for instance {"id": "t1", "text": "imata"}',
            ) from None
    return found
