"""The embedded corpora: the target languages spoken by held-out voices, as files with a manifest each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnlens.data.audio import RATE
from attnlens.data.corpus import SPLITS, Corpus, Split
from attnlens.data.manifest import read_manifest
from attnlens.data.overlap import near_duplicates
from attnlens.errors import BadInput
from attnlens.organism.espeak import Espeak
from attnlens.organism.speech import say_text
from attnlens.organism.splits import Splits, TargetLanguage
from attnlens.organism.udhr import clauses, phrases, read_declaration

__all__ = ["CorpusPlan", "build_corpora", "build_corpus"]


@dataclass(frozen=True, kw_only=True)
class CorpusPlan:
    """How large each corpus is, and how long its phrases: words, characters."""

    pool: int = 100
    dev: int = 24
    test: int = 48
    words: tuple[int, int] = (2, 4)
    longest: int = 32
    seed: int = 7


def build_corpora(splits: Splits, package: Path, out: Path, plan: CorpusPlan) -> list[Corpus]:
    """Build the corpus of every target language into a folder of its name; existing folders are refused first."""
    for target in splits.targets:
        folder = out / target.name
        if folder.exists():
            raise BadInput(f"{folder} is already there", fix="remove it, or pass another --out")
    return [build_corpus(target, splits.test_variants, package, out / target.name, plan) for target in splits.targets]


def build_corpus(
    target: TargetLanguage, variants: tuple[str, ...], package: Path, folder: Path, plan: CorpusPlan
) -> Corpus:
    """Speak phrases of one declaration, each once, every voice alike often in every split; write Opus and a manifest.

    No phrase is nearly another one's double: a test sentence that stands in the pool would be read off.
    """
    rng = np.random.default_rng([plan.seed, *target.text.encode()])
    found = phrases(clauses(read_declaration(package, target.text)), rng, words=plan.words, longest=plan.longest)
    texts = _apart([" ".join(found[int(place)]) for place in rng.permutation(len(found))])
    sizes: dict[Split, int] = {"pool": plan.pool, "dev": plan.dev, "test": plan.test}
    if len(texts) < sum(sizes.values()):
        raise BadInput(
            f"the text of {target.name} is too short",
            given=f"{sum(sizes.values())} phrases wanted",
            present=f"{len(texts)} different ones",
            fix="lower the sizes, or allow shorter phrases",
        )
    rest = iter(texts)
    lines = []
    (folder / "audio").mkdir(parents=True)
    engine = Espeak()
    for split in SPLITS:
        for number in range(sizes[split]):
            variant = variants[number % len(variants)]
            name, text = f"{target.name}-{split}-{number:03d}", next(rest)
            _speak(text, f"{target.voice}+{variant}", folder / "audio" / f"{name}.opus", rng, engine)
            row = {"id": name, "audio": f"audio/{name}.opus", "text": text, "language": target.language}
            lines.append(json.dumps({**row, "speaker": variant, "split": split}, ensure_ascii=False))
    engine.close()
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_manifest(manifest)


def _apart(texts: list[str]) -> list[str]:
    """Keep the first of texts that are nearly the same."""
    dropped = {max(match.index, match.other) for match in near_duplicates(texts, texts) if match.index != match.other}
    return [text for place, text in enumerate(texts) if place not in dropped]


def _speak(text: str, voice: str, path: Path, rng: np.random.Generator, engine: Espeak) -> None:
    import soundfile

    said = say_text(text, voice, rng, engine=engine)
    if said is None:
        raise BadInput(f"the voice {voice!r} says nothing", given=text, fix="leave the phrase out")
    soundfile.write(path, said.samples, RATE, format="OGG", subtype="OPUS")
