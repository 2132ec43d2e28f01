"""Runs the commands of a documentation page, in order, in one empty folder, and puts what they say under them.

    python experiments/docs/console.py docs/transcribe-a-new-language.md
    python experiments/docs/console.py docs/transcribe-a-new-language.md --check     # does every command end well?

A block of the kind `console` holds commands after `$ `, with what they print on stdout below each. A block of another
kind whose first line is `# file: NAME` is written into the folder before the commands behind it run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = "# file: "


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the commands of a page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="leave the page as it is")
    given = parser.parse_args()
    text = given.page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        filled = BLOCK.sub(lambda found: block(found, Path(folder)), text)
    if not given.check:
        given.page.write_text(filled, encoding="utf-8")


def block(found: re.Match[str], folder: Path) -> str:
    kind, body = found.groups()
    if kind != "console":
        first, _, rest = body.partition("\n")
        if first.startswith(FILE):
            (folder / first.removeprefix(FILE)).write_text(rest, encoding="utf-8")
        return found[0]
    commands = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
    parts = [f"$ {command}\n{output(command, folder)}" for command in commands]
    told = "\n".join(part.rstrip() for part in parts)
    return f"```console\n{told}\n```"


def output(command: str, folder: Path) -> str:
    print(f"$ {command}", file=sys.stderr)
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # A reader that has seen enough closes the pipe, which is no failure.
    if done.returncode not in (0, 141):
        sys.exit(f"{command}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
