"""A corpus from a path: which reader it takes is found out by looking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from attnlens.data.corpus import Corpus, OnBad, Row, Split
from attnlens.data.folder import folder_rows, read_folder
from attnlens.data.kaldi import is_kaldi, kaldi_rows, read_kaldi
from attnlens.data.manifest import manifest_rows, read_manifest
from attnlens.data.records import SUFFIXES
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, listing

__all__ = ["read_corpus", "read_rows"]

MANIFESTS = tuple(f"manifest{suffix}" for suffix in SUFFIXES)
LOOKED_FOR = f"a file ({' '.join(SUFFIXES)}) or a folder with manifest.jsonl (.csv, .tsv), wav.scp or audio files"


class _Reader(Protocol):
    def __call__(self, path: str | Path, *, language: str | None, on_bad: OnBad, split: Split) -> Corpus: ...


class _Rows(Protocol):
    def __call__(self, path: Path, *, split: Split) -> Iterator[Row | Problem]: ...


def read_corpus(
    path: str | Path, *, language: str | None = None, on_bad: OnBad = "refuse", split: Split = "pool"
) -> Corpus:
    """Read a corpus whatever its format: what the command line and run specs use.

    A ``.jsonl``, ``.csv`` or ``.tsv`` file is a manifest; a folder is looked into for ``manifest.*``, then for Kaldi's
    ``wav.scp``, then for audio files. The options are those of :func:`~attnlens.data.manifest.read_manifest`.

    >>> read_corpus("no/such/place")
    Traceback (most recent call last):
    attnlens.errors.BadInput: there is no such corpus
      given:   no/such/place
      fix:     pass a file (.jsonl .csv .tsv) or a folder with manifest.jsonl (.csv, .tsv), wav.scp or audio files
    """
    reader, _, place = _picked(Path(path))
    return reader(place, language=language, on_bad=on_bad, split=split)


def read_rows(path: str | Path, *, split: Split = "pool") -> Iterator[Row | Problem]:
    """Yield rows and problems of a corpus in any format, refusing nothing: what the check reads."""
    _, rows, place = _picked(Path(path))
    return rows(place, split=split)


def _picked(path: Path) -> tuple[_Reader, _Rows, Path]:
    if path.is_file():
        return read_manifest, manifest_rows, path
    if not path.is_dir():
        raise BadInput("there is no such corpus", given=path, fix=f"pass {LOOKED_FOR}")
    manifests = [path / name for name in MANIFESTS if (path / name).is_file()]
    if len(manifests) > 1:
        present = listing(file.name for file in manifests)
        raise BadInput(
            "the folder has more than one manifest", given=path, present=present, fix="pass one of these files"
        )
    if manifests:
        return read_manifest, manifest_rows, manifests[0]
    if is_kaldi(path):
        return read_kaldi, kaldi_rows, path
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        raise BadInput(
            "the folder is a saved Hugging Face dataset",
            given=path,
            fix="load it with datasets.load_from_disk and pass it to attnlens.data.huggingface.read_dataset",
        )
    return read_folder, folder_rows, path
