"""Makes a corpus of real recordings: telephone prompts of the Asterisk project, one studio voice per language.

    python experiments/corpora/telephone_prompts.py corpora/telephone-en --language en

Fetches two packages with `apt-get download` (Debian or Ubuntu; nothing is installed), decodes their 16 kHz G.722 audio
with PyAV and writes FLAC files beside `manifest.jsonl`. The recordings are CC-BY-SA-3.0: share what you make of them
alike, and name the Asterisk project. They are real speech, but studio prompts of big languages; a few transcripts do
not match what is said, which is what `attnlens data check` is for.

Left out: bracketed notes (tones, music), the folders of single letters and digits, clips under 0.35 s.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

LEFT_OUT = ("digits/", "letters/", "phonetic/")
SHORTEST = 0.35


def fetch(language: str, folder: Path) -> None:
    package = f"asterisk-core-sounds-{language}"
    subprocess.run(["apt-get", "download", "-qq", package, f"{package}-g722"], cwd=folder, check=True)
    for archive in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=folder, check=True)


def transcripts(folder: Path) -> Iterator[tuple[str, str]]:
    (path,) = folder.glob("usr/share/doc/*/core-sounds-*.txt*")
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    for line in text.splitlines():
        name, colon, words = line.partition(":")
        if colon and not line.startswith(";") and not name.startswith(LEFT_OUT) and not re.search(r"[\[\]<>]", words):
            yield name.strip(), words.strip()


def decode(path: Path) -> np.ndarray:
    with av.open(str(path), format="g722") as file:
        frames = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
    return np.concatenate(frames)


def split_of(name: str) -> str:
    """Sixty in a hundred to the pool, fifteen to dev, the rest to test; the name alone decides."""
    share = hashlib.blake2b(name.encode(), digest_size=2).digest()
    number = int.from_bytes(share, "big") % 100
    return "pool" if number < 60 else "dev" if number < 75 else "test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--language", choices=["en", "fr"], default="en")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)  # apt downloads as another user
        fetch(options.language, folder)
        (sounds,) = folder.glob("usr/share/asterisk/sounds/*")
        for name, words in transcripts(folder):
            path = sounds / f"{name}.g722"
            if not path.exists() or not words:
                continue
            samples = decode(path)
            if len(samples) < SHORTEST * 16_000:
                continue
            id_ = name.replace("/", "_")
            soundfile.write(options.out / f"{id_}.flac", samples, 16_000)
            rows.append(
                {
                    "id": id_,
                    "audio": f"{id_}.flac",
                    "text": words,
                    "language": options.language,
                    "speaker": sounds.name,
                    "split": split_of(name),
                }
            )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (options.out / "manifest.jsonl").write_text(lines, encoding="utf-8")
    print(f"{len(rows)} utterances in {options.out / 'manifest.jsonl'}")


if __name__ == "__main__":
    main()
