"""One look for every figure: colours that mean something, sizes for columns and slides, nothing set globally."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from attnlens.context.display import SOURCE_COLOURS, SOURCE_NAMES
from attnlens.errors import UnknownName

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = [
    "AUDIO",
    "CONDITION_COLOURS",
    "CONTROL",
    "CYCLE",
    "INK",
    "MARKERS",
    "RULE",
    "SIZES",
    "SOURCE_COLOURS",
    "SOURCE_NAMES",
    "TEXT",
    "Size",
    "heat",
    "ramp",
    "signed",
    "styled",
]

Size = Literal["column", "page", "slide"]
SIZES: dict[str, tuple[float, float]] = {"column": (3.35, 8.0), "page": (6.9, 9.0), "slide": (11.0, 16.0)}
"""Width in inches and font size in points: one column of a paper, its full width, a slide."""
INK, RULE = "#23262b", "#cdd1d8"
"""Text and lines; both are stand-ins that the report replaces by those of its light or dark page."""
AUDIO, TEXT = SOURCE_COLOURS["demo_audio"], SOURCE_COLOURS["demo_text"]
CONTROL = "#80868f"
CONDITION_COLOURS = {"asr": "#80868f", "t-icl": "#e69f00", "icl": "#d55e00", "micl": "#8452a1", "a-icl": "#0072b2"}
"""What shows text is warm, what shows audio blue, pairs are between the two."""
CYCLE = ("#1f4e79", "#009e73", "#cc79a7", "#a6761d", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Lines differ in shape as well as in colour."""


@contextmanager
def styled(size: Size = "page") -> Iterator[float]:
    """Draw in the house's look inside this block; matplotlib's own settings are as they were after it.

    Gives the width in inches that belongs to the size.

    >>> import matplotlib
    >>> before = dict(matplotlib.rcParams)
    >>> with styled("slide") as width:
    ...     width
    11.0
    >>> dict(matplotlib.rcParams) == before
    True
    """
    import matplotlib as mpl

    if size not in SIZES:
        raise UnknownName.among("figure size", size, get_args(Size))
    width, points = SIZES[size]
    with mpl.rc_context(_settings(points)):
        yield width


def heat() -> Colormap:
    """Return the colours of amounts, from none to much; undefined cells stay see-through."""
    import matplotlib as mpl

    return mpl.colormaps["cividis"]


def signed(kind: Literal["modality", "effect"] = "modality") -> Colormap:
    """Return the colours of what has a sign: blue audio against vermillion text, or purple help against green harm."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    if kind == "effect":
        return mpl.colormaps["PRGn"]
    return LinearSegmentedColormap.from_list("audio-text", [AUDIO, "#f4f4f2", TEXT])


def ramp(count: int) -> list[Any]:
    """Return colours for an ordered few, such as shots: light for little, dark for much."""
    import seaborn as sns

    return list(sns.color_palette("flare", n_colors=max(count, 1)))


def _settings(points: float) -> Any:
    import seaborn as sns

    small = points * 0.88
    return {
        **{name: value for name, value in sns.axes_style("ticks").items() if not name.startswith("font")},
        "font.family": ["DejaVu Sans"],
        "font.size": points,
        "axes.titlesize": points,
        "axes.labelsize": points,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "figure.titlesize": points * 1.1,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": RULE,
        "axes.linewidth": 0.8,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "lines.linewidth": points / 5.5,
        "lines.markersize": points / 2.2,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "figure.dpi": 110.0,
        "savefig.dpi": 200.0,
        # Text stays text in SVG and PDF, so that it can be searched and edited.
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "svg.hashsalt": "attnlens",
        "text.parse_math": False,
    }
