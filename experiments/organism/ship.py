"""Puts what was trained into the package: the model, the corpora, the acoustic models.

    python experiments/organism/ship.py --model build/organism/cpu/joint/model --corpora build/organism/corpora \
        --acoustic build/organism/acoustic

Replaces attnlens/organism/files, and refuses what would make it larger than 20 MB.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from attnlens.organism.shipped import FILES, TARGETS

MOST = 20e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Put what was trained into the package.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--acoustic", type=Path, required=True)
    given = parser.parse_args()
    parts = {FILES / "model": given.model}
    for target in TARGETS:
        parts[FILES / "corpora" / target] = given.corpora / target
        parts[FILES / "acoustic" / target] = given.acoustic / target
    lacking = [str(source) for source in parts.values() if not source.is_dir()]
    if lacking:
        sys.exit(f"not there: {', '.join(lacking)}; make organism makes all of it")
    size = sum(one.stat().st_size for source in parts.values() for one in source.rglob("*") if one.is_file())
    if size > MOST:
        sys.exit(f"{size / 1e6:.1f} MB are more than the {MOST / 1e6:.0f} MB that may be shipped")
    for there, source in parts.items():
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(source, there)
        for one in there.rglob("*"):
            one.chmod(0o755 if one.is_dir() else 0o644)
    print(f"{size / 1e6:.1f} MB in {FILES}")


if __name__ == "__main__":
    main()
