from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from attnlens.testing import corpus

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write a small corpus of a language as a folder; short clips, short texts."""

    def make(
        name: str, *, language: str = "fin", pool: int = 4, dev: int = 2, seed: int = 0, questions: str | None = None
    ) -> Path:
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        rows = []
        for split, utterances in corpus(pool=pool, dev=dev, test=0, seed=seed).splits.items():
            for one in utterances:
                soundfile.write(folder / f"{one.id}.wav", one.audio.load()[:8_000], 16_000)
                row = {"id": one.id, "audio": f"{one.id}.wav", "text": one.text[:6].strip()}
                row |= {"language": language, "split": split}
                rows.append(row if questions is None else {**row, "question": questions})
        lines = [json.dumps(row) for row in rows]
        (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
        heard = [json.dumps({"id": row["id"], "text": row["text"]}) for row in rows]
        (folder / "heard.jsonl").write_text("\n".join(heard), encoding="utf-8")
        return folder

    return make
