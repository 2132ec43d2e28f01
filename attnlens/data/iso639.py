"""ISO 639 codes: which two name the same language, or languages that the standard counts as one macro-language."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

__all__ = ["code_of", "macro_of", "same_language"]

TABLE = Path(__file__).with_name("iso639.tsv")
"""Two- and three-letter codes of parts 1 and 2, and the members of macro-languages of part 3, as the registries list
them (Library of Congress; SIL International, iso639-3.sil.org)."""


def code_of(language: str) -> str:
    """Return the three-letter code of a language tag; what is no known code is returned as it is, in lower case.

    >>> code_of("qu"), code_of("pt-BR"), code_of("ger"), code_of("quy"), code_of("kashka")
    ('que', 'por', 'deu', 'quy', 'kashka')
    """
    first = language.strip().lower().replace("_", "-").split("-")[0]
    return _table()[0].get(first, first)


def macro_of(language: str) -> str:
    """Return the macro-language that a language belongs to, or the language itself.

    >>> macro_of("quy"), macro_of("qu"), macro_of("ko")
    ('que', 'que', 'kor')
    """
    code = code_of(language)
    return _table()[1].get(code, code)


def same_language(one: str, other: str) -> bool:
    """Tell whether two tags name one language, or members of one macro-language.

    >>> same_language("quy", "qu"), same_language("cmn", "yue"), same_language("gn", "mi")
    (True, True, False)
    """
    return macro_of(one) == macro_of(other)


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, str], dict[str, str]]:
    codes: dict[str, str] = {}
    macros: dict[str, str] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        kind, code, *others = line.split()
        if kind == "macro":
            macros.update(dict.fromkeys(others, code))
        else:
            codes.update(dict.fromkeys(others, code))
    return codes, macros
