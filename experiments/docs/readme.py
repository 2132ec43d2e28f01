"""Puts what the default run says into the README, folded; of the selection, the table of all languages together.

attnlens run --out build/default > build/default.txt
python experiments/docs/readme.py build/default.txt --named runs/default-1890a189
"""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

WIDTH = 145
BEFORE = "and ends like this:\n\n```text\n"
LANGUAGES = re.compile(
    r"^Hypotheses chosen, (?!all languages)([^:]+): .*?(?=^Hypotheses chosen, )", re.DOTALL | re.MULTILINE
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Put what the default run says into the README.")
    parser.add_argument("said", type=Path, help="what `attnlens run` printed")
    parser.add_argument("--named", required=True, help="the folder that a reader's run would have")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    given = parser.parse_args()
    text = given.readme.read_text(encoding="utf-8")
    start = text.index(BEFORE) + len(BEFORE)
    end = text.index("```", start)
    said = shown(given.said.read_text(encoding="utf-8")).replace("build/default", given.named)
    given.readme.write_text(text[:start] + said + text[end:], encoding="utf-8")


def shown(said: str) -> str:
    """Return the lines from the first heading on, folded, each language's own selection only named."""
    said = said[said.index("Is the text (+)") :]
    languages = LANGUAGES.findall(said)
    said = LANGUAGES.sub("", said)
    if languages:
        named = f"[the same of each language: {', '.join(languages)}]"
        said = said.replace("Hypotheses chosen, all", f"{named}\n\nHypotheses chosen, all", 1)
    return "\n".join(map(_folded, said.rstrip().splitlines())) + "\n"


def _folded(line: str) -> str:
    if len(line) <= WIDTH:
        return line.rstrip()
    indent = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.strip(), WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    )


if __name__ == "__main__":
    main()
