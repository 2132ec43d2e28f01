"""A corpus of any source as a folder: its clips as files, and a manifest beside them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from attnlens.data.audio import RATE, Audio, AudioBytes
from attnlens.data.corpus import SPLITS, Corpus, Row
from attnlens.data.manifest import require_writable, write_rows
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

__all__ = ["save_corpus"]

MANIFEST = "manifest.jsonl"


def save_corpus(corpus: Corpus, folder: str | Path, *, existing: Literal["refuse", "replace"] = "refuse") -> Path:
    """Write what a data set holds in memory as files, so that specs and commands can name it by its folder.

    Encoded clips are written as they are; samples, and clips that were edited, as 32-bit WAV of 16 kHz, which is what a
    model hears. Clips that are files already stay where they are. Returns the folder, which ``read_corpus`` reads.

    >>> import tempfile
    >>> from attnlens.data.read import read_corpus
    >>> from attnlens.testing import corpus
    >>> folder = save_corpus(corpus(pool=2, dev=1, test=1), Path(tempfile.mkdtemp()) / "made-up")
    >>> read_corpus(folder)
    Corpus('made-up', language='xx', pool=2, dev=1, test=1)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    require_writable(manifest, existing=existing)
    rows = [
        Row("", split, _written(utterance, folder / split))
        for split in SPLITS
        for utterance in corpus.splits.get(split, ())
    ]
    return write_rows(rows, manifest, existing=existing).parent


def _written(utterance: Utterance, folder: Path) -> Utterance:
    audio = utterance.audio
    if isinstance(audio.source, Path) and not audio.edits:
        return utterance
    folder.mkdir(exist_ok=True)
    # Ids may hold anything, names of files may not.
    path = folder / quote(utterance.id, safe=" ")
    if isinstance(audio.source, AudioBytes) and not audio.edits:
        path = path.with_name(f"{path.name}.{_format(audio.source.data, utterance.id)}")
        path.write_bytes(audio.source.data)
        return replace(utterance, audio=Audio(path, audio.start, audio.end))
    import soundfile

    path = path.with_name(f"{path.name}.wav")
    soundfile.write(path, audio.load(), RATE, subtype="FLOAT")
    return replace(utterance, audio=Audio(path))


def _format(data: bytes, name: str) -> str:
    import soundfile

    try:
        return str(soundfile.info(io.BytesIO(data)).format).lower()
    except soundfile.LibsndfileError as error:
        raise BadInput(
            f"the audio of {name!r} is of no known form", given=str(error), fix="leave that row out"
        ) from None
