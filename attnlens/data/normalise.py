"""What counts as the same text: normalisers by name, and the words and characters that error rates count.

A normaliser's name is stored with every result, for an error rate means nothing without it. None of them knows a
language. What they do to letters that look like punctuation matters to many orthographies:

* The apostrophe, straight (U+0027) or curly (U+2019), is punctuation and goes; so does "!" written for a click.
* The modifier letters U+02BC (glottal stop) and U+02BB (okina), the saltillo U+A78C and the click letter U+01C3 look
  the same but are letters, and stay.
* The hyphen is punctuation and goes without leaving a space; so do the Ethiopic wordspace U+1361 and the Tibetan tsheg
  U+0F0B, which divide words and syllables.

Write glottal stops and clicks with the letters, or use ``none``.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from typing import Literal, Protocol

from attnlens.registry import Registry

__all__ = [
    "NORMALISERS",
    "Normaliser",
    "Spacing",
    "basic_unicode",
    "characters",
    "clusters",
    "none",
    "paper",
    "spacing_of",
    "words",
]

Spacing = Literal["spaces", "no-spaces"]

_JOINERS = "\u200c\u200d"
_SPACELESS = (
    # First words of Unicode character names in scripts written without spaces between words.
    *("THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "TAI", "NEW TAI", "BALINESE", "JAVANESE"),
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO"),
)


class Normaliser(Protocol):
    """What a normaliser is: a text in, the text that is compared out; applied twice it does no more than once."""

    def __call__(self, text: str, /) -> str:
        """Return the normalised text."""


def none(text: str) -> str:
    """Leave the text exactly as it is.

    >>> none(" Ñuka, wasi. ")
    ' Ñuka, wasi. '
    """
    return text


def paper(text: str) -> str:
    """Compare as the published experiments do: punctuation removed, then lower case.

    Removed is every character of a Unicode category P, and of the list ``( ) # + = ? ! ; . , "`` the two that are not
    in it: ``+`` and ``=``. The paper says "remove punctuation", the released code strips that list. White space and the
    Unicode form stay as they are.

    >>> paper("Ñuka, wasi (2+2) t'ika!")
    'ñuka wasi 22 tika'
    """
    return "".join(char for char in text if char not in "+=" and not _is_punctuation(char)).lower()


def basic_unicode(text: str) -> str:
    """Compare whatever the keyboard: NFKC, lower case, category P removed, white space collapsed and trimmed.

    Lower case rather than case folding, so that what is printed still reads as written (ß stays ß). NFKC comes again at
    the end, because removing a character can bring a letter and its accent together.

    >>> basic_unicode("  \uff2e\u0303uka\u3000WASI, ﬁn. ")
    'ñuka wasi fin'
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    kept = "".join(char for char in lowered if not _is_punctuation(char))
    return " ".join(unicodedata.normalize("NFKC", kept).split())


NORMALISERS: Registry[Normaliser] = Registry(
    "normaliser",
    group="attnlens.normalisers",
    builtin={
        "none": ("attnlens.data.normalise:none", "the text as it is"),
        "paper": ("attnlens.data.normalise:paper", "punctuation removed, lower case"),
        "basic-unicode": (
            "attnlens.data.normalise:basic_unicode",
            "NFKC, lower case, punctuation removed, spaces collapsed",
        ),
    },
)


def words(text: str) -> list[str]:
    """Split at white space, for word error rates; of little use where :func:`spacing_of` says "no-spaces".

    >>> words(" ñuka  wasi ")
    ['ñuka', 'wasi']
    """
    return text.split()


def characters(text: str, *, spacing: Spacing | None = None) -> list[str]:
    """Split into what a reader counts as characters, for character error rates.

    Characters are the :func:`clusters` of the NFC form. White space is one space, none at either end, and none at all
    where ``spacing`` is "no-spaces".

    Parameters
    ----------
    text
        One transcript.
    spacing
        None asks :func:`spacing_of` about this text. A reference and its hypotheses must be split alike: ask once about
        the reference and pass the answer.

    >>> characters("n\u0303u ka")
    ['ñ', 'u', ' ', 'k', 'a']
    >>> characters("ที่ นี่")
    ['ที่', 'นี่']
    """
    spacing = spacing or spacing_of(text)
    return clusters((" " if spacing == "spaces" else "").join(unicodedata.normalize("NFC", text).split()))


def clusters(text: str) -> list[str]:
    """Split a text, without loss, into what readers call characters: a base and the marks on it stay together.

    A cluster is a code point with the combining marks (category M) and joiners (U+200C, U+200D) that follow it, and
    what a U+200D joins to it: near to a grapheme cluster, though the consonants of an Indic or Khmer stack count one by
    one. White space stands alone, and nothing attaches to it.

    >>> [len(cluster) for cluster in clusters("e\u0301a")]
    [2, 1]
    """
    found: list[str] = []
    for char in text:
        attaches = char in _JOINERS or unicodedata.category(char)[0] == "M"
        follows = bool(found) and not found[-1].isspace() and not char.isspace()
        if follows and (attaches or found[-1].endswith(_JOINERS[1])):
            found[-1] += char
        else:
            found.append(char)
    return found


def spacing_of(text: str) -> Spacing:
    """Tell whether a text is written with spaces between words: in what script are most of its letters?

    Without: Thai, Lao, Khmer, Burmese (Shan, Karen and Mon too), Tibetan, the Tai scripts, Balinese, Javanese, Han,
    kana and bopomofo. A tie, or no letter at all, counts as with spaces.

    >>> spacing_of("Ñuka wasi"), spacing_of("ភាសាខ្មែរ ok")
    ('spaces', 'no-spaces')
    """
    letters = Counter(_is_spaceless(char) for char in text if unicodedata.category(char)[0] == "L")
    return "no-spaces" if letters[True] > letters[False] else "spaces"


@functools.lru_cache(maxsize=65_536)
def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char)[0] == "P"


@functools.lru_cache(maxsize=65_536)
def _is_spaceless(char: str) -> bool:
    name = unicodedata.name(char, "").removeprefix("HALFWIDTH ")
    return any(name.startswith(f"{script} ") for script in _SPACELESS)
