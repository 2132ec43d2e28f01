"""What the package ships of the organism: its checkpoint, its target languages' corpora, their acoustic models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnlens.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from attnlens.data.corpus import Corpus

__all__ = ["TARGETS", "acoustic_folder", "guarani", "maori", "model_folder", "quechua", "target_corpus"]

FILES = Path(__file__).parent / "files"
TARGETS = ("guarani", "quechua", "maori")
"""The languages that the organism has never seen, by the names of their corpora."""


def model_folder() -> Path:
    """Return the folder of the organism's checkpoint.

    >>> (model_folder() / "model.safetensors").is_file()
    True
    """
    return _there(FILES / "model")


def acoustic_folder(target: str) -> Path:
    """Return the folder of the acoustic model of a target language."""
    return _there(FILES / "acoustic" / _known(target))


def target_corpus(target: str) -> Corpus:
    """Read the corpus of a target language: synthetic speech of real text, with pool, dev and test.

    >>> target_corpus("quechua")
    Corpus('quechua', language='quy', pool=100, dev=24, test=48)
    """
    from attnlens.data.manifest import read_manifest

    return read_manifest(_there(FILES / "corpora" / _known(target)) / "manifest.jsonl")


def guarani() -> Corpus:
    """Read the Guarani corpus, for the registry of corpora."""
    return target_corpus("guarani")


def quechua() -> Corpus:
    """Read the Quechua corpus, for the registry of corpora."""
    return target_corpus("quechua")


def maori() -> Corpus:
    """Read the Maori corpus, for the registry of corpora."""
    return target_corpus("maori")


def _known(target: str) -> str:
    if target not in TARGETS:
        raise UnknownName.among("target language", target, TARGETS)
    return target


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise BadInput(f"the package lacks {folder.name}", given=folder, fix="install attnlens anew, whole")
    return folder
