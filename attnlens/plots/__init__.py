"""Figures and the report: traces and tables in, files out.

Every figure is a function of datasets or tables that returns a :class:`~attnlens.plots.drawing.Drawing`, a matplotlib
figure that carries its data and its caption. Here belongs how things look; what is concluded, and the numbers in an
interval, come from :mod:`attnlens.stats`. No figure touches matplotlib's global settings.
"""

from attnlens.plots import plot as plot

__all__ = ["plot"]
