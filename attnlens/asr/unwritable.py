"""What an acoustic model cannot write: characters of texts that none of its outputs holds."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from attnlens.asr.vocabulary import Vocabulary, tidy

__all__ = ["tell_unwritable", "unwritable"]

LISTED = 8


def unwritable(texts: Iterable[str], vocabulary: Vocabulary, *, normalise: Callable[[str], str] = str) -> Counter[str]:
    """Count the characters of texts that no transcript of the model can hold, as they are compared.

    Both sides are normalised, so that a model of capitals writes small letters; a letter with its mark counts as both.

    >>> unwritable(["ka tó!", "kä"], Vocabulary.of(["ka to"]))
    Counter({'́': 1, '!': 1, '̈': 1})
    >>> unwritable(["ka"], Vocabulary.of(["KA"]), normalise=str.lower)
    Counter()
    """
    known = {" "}
    for piece in set(vocabulary.pieces) | {"".join(vocabulary.pieces)}:
        known |= set(_apart(piece)) | set(_apart(normalise(piece)))
    return Counter(one for text in texts for one in _apart(tidy(normalise(text))) if one not in known)


def tell_unwritable(
    texts: Iterable[str], vocabulary: Vocabulary, *, of: str, normalise: Callable[[str], str] = str
) -> str | None:
    """Say which characters of some texts are beyond a model, None where all can be written.

    >>> tell_unwritable(["ka tu"], Vocabulary.of(["ka to"]), of="test")
    'the acoustic model cannot write 1 of 4 characters of test (u): no hypothesis can hold them'
    """
    texts = list(texts)
    found = unwritable(texts, vocabulary, normalise=normalise)
    if not found:
        return None
    whole = sum(not one.isspace() for text in texts for one in _apart(tidy(normalise(text))))
    names = [one if unicodedata.combining(one) == 0 else f"U+{ord(one):04X}" for one, _ in found.most_common(LISTED)]
    more = " ..." if len(found) > LISTED else ""
    return (
        f"the acoustic model cannot write {found.total():,} of {whole:,} characters of {of} ({' '.join(names)}{more}): "
        "no hypothesis can hold them"
    )


def _apart(text: str) -> str:
    return unicodedata.normalize("NFD", text)
