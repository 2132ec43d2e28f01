"""What the acoustic model heard in each target, for text retrieval: from a re-ranking to lines of id and text.

python -m experiments.paper.heard runs/table6 corpora/heard.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def heard(folder: Path) -> list[dict[str, str]]:
    found = []
    for path in sorted(folder.glob("*/transcripts.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append({"id": row["id"], "text": row["acoustic 1-best"]})
    return found


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    rows = heard(source)
    if not rows:
        sys.exit(f"{source} holds no transcripts: pass what `attnlens rerank` wrote")
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} hypotheses in {target}")
