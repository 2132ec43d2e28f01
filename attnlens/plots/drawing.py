"""A figure that knows what it shows: its data as a table, its caption, and how it is written to files."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from matplotlib.figure import Figure

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.style import styled

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Drawing", "Format", "fonts_for", "sized"]

Format = Literal["png", "pdf", "svg"]
NOTHING_DATED: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
_log = logging.getLogger(__name__)


class Drawing(Figure):
    """A matplotlib figure with its data, one row per drawn value, and a caption that says what a reader must know.

    It stands outside pyplot: nothing is left open and no window appears. Everything matplotlib can do with a figure
    can be done with it.

    >>> import pandas as pd
    >>> drawing = Drawing("example", data=pd.DataFrame({"layer": [0], "bias": [0.2]}), caption="One layer.")
    >>> drawing.name, len(drawing.data)
    ('example', 1)
    """

    def __init__(self, name: str, *, data: pd.DataFrame, caption: str, **options: Any) -> None:
        super().__init__(**({"layout": "constrained"} | options))
        self.name = name
        self.data = data
        self.caption = caption
        self._svg: str | None = None

    def save(
        self, folder: str | Path, *, formats: Sequence[Format] = ("pdf", "png"), name: str | None = None
    ) -> list[Path]:
        """Write the figure in each format and its data as CSV beside them; equal figures give equal files.

        >>> import tempfile
        >>> import pandas as pd
        >>> drawing = Drawing("example", data=pd.DataFrame({"layer": [0]}), caption="One layer.", figsize=(1, 1))
        >>> [path.name for path in drawing.save(tempfile.mkdtemp(), formats=["png"])]
        ['example.png', 'example.csv']
        """
        folder, name = Path(folder), name or self.name
        for one in formats:
            if one not in get_args(Format):
                raise UnknownName.among("figure format", one, get_args(Format))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths = []
            for one in formats:
                paths.append(folder / f"{name}.{one}")
                if one == "svg":
                    paths[-1].write_text(self.svg(), encoding="utf-8", newline="\n")
                else:
                    self.write(paths[-1], format=one)
            paths.append(folder / f"{name}.csv")
            self.data.to_csv(paths[-1], index=False, lineterminator="\n")
        except OSError as error:
            raise BadInput(
                f"the figure {name} could not be written: {error.strerror or error}",
                given=folder,
                fix="make room, or pass a folder that can be written to",
            ) from error
        return paths

    def write(self, target: Any, *, format: Format, **options: Any) -> None:  # noqa: A002 - as matplotlib calls it
        """Write one format to a path or an open file, in the house's look."""
        with styled(), warnings.catch_warnings():
            _with_glyphs(self)
            # Said once, by its letters, instead of at each letter of each drawing.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.savefig(target, format=format, metadata=NOTHING_DATED[format], **options)

    def svg(self) -> str:
        """Return the figure as SVG on no background, drawn once however often it is asked for."""
        if self._svg is None:
            buffer = io.StringIO()
            self.write(buffer, format="svg", transparent=True)
            self._svg = buffer.getvalue()
        return self._svg

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.write(buffer, format="png", dpi=110)
        return buffer.getvalue()


def sized(width: float, *, aspect: float = 0.62, rows: int = 1) -> tuple[float, float]:
    """Return width and height in inches of so many rows of panels."""
    return width, width * aspect * rows


def _with_glyphs(figure: Figure) -> None:
    """Choose fonts that have every letter of a figure, and say once which letters no installed font has."""
    from matplotlib.text import Text

    texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and not one.get_text().isascii()]
    if not texts:
        return
    wanted = {letter for one in texts for letter in one.get_text() if letter.isprintable()}
    families, lacking = fonts_for(wanted)
    for one in texts:
        one.set_fontfamily(families)
    if lacking:
        said = ", ".join(f"{letter!r} (U+{ord(letter):04X})" for letter in sorted(lacking)[:12])
        more = f" and {len(lacking) - 12} more" if len(lacking) > 12 else ""  # noqa: PLR2004
        _log.warning("no installed font has %s%s: drawn as boxes; install a Noto font of the script", said, more)


def fonts_for(letters: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return installed font families that have the letters between them, best known first, and what none has.

    >>> fonts_for("abc")
    (['DejaVu Sans'], set())
    """
    from matplotlib.font_manager import fontManager, get_font

    left = set(letters)
    chosen = ["DejaVu Sans"]
    left -= _has(left, _path("DejaVu Sans"))
    # Only when the usual font lacks something are others opened: there may be hundreds.
    for entry in sorted(fontManager.ttflist, key=lambda one: ("Noto" not in one.name, one.name)) if left else ():
        if entry.style != "normal" or entry.name in chosen or "Last Resort" in entry.name:
            continue
        try:
            found = {letter for letter in left if ord(letter) in get_font(entry.fname).get_charmap()}
        except (OSError, RuntimeError):
            continue
        if found:
            chosen.append(entry.name)
            left -= found
        if not left:
            break
    return chosen, left


def _path(family: str) -> str:
    from matplotlib.font_manager import findfont

    return str(findfont(family))


def _has(letters: set[str], path: str) -> set[str]:
    from matplotlib.font_manager import get_font

    there = get_font(path).get_charmap()
    return {letter for letter in letters if ord(letter) in there}
