"""Parts that several figures share: a line with its band, a legend that hides nothing, captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["caption", "layer_axis", "legend", "line", "several"]

MOST_TICKS = 12


def line(
    axes: Axes,
    x: Any,
    estimate: Any,
    low: Any,
    high: Any,
    *,
    label: str,
    colour: Any,
    shade: float = 0.18,
    **look: Any,
) -> None:
    """Draw estimates over ``x`` with a band between the interval's ends; single points get bars instead."""
    x, low, high = (np.asarray(one, dtype=np.float64) for one in (x, low, high))
    there = np.isfinite(low) & np.isfinite(high)
    drawn: dict[str, Any] = {"marker": "o", "markersize": 3.0} | look
    axes.plot(x, estimate, label=label, color=colour, **drawn)
    if there.sum() > 1:
        axes.fill_between(x, low, high, where=there.tolist(), color=colour, alpha=shade, linewidth=0)
    elif there.any():
        axes.vlines(x[there], low[there], high[there], color=colour, linewidth=1.2)


def layer_axis(axes: Axes, layers: Any) -> None:
    """Label the x axis with layers, every one where they fit."""
    layers = np.asarray(layers)
    step = max(1, -(-len(layers) // MOST_TICKS))
    axes.set_xticks(layers[::step].tolist())
    axes.set_xlabel("layer")
    margin = 0.5 if len(layers) == 1 else 0.03 * float(layers.max() - layers.min())
    axes.set_xlim(float(layers.min()) - margin, float(layers.max()) + margin)


def legend(axes: Axes, **options: Any) -> None:
    """Put a legend beside the axes, where it covers no data; none for a single unnamed line."""
    handles, labels = axes.get_legend_handles_labels()
    if any(labels):
        axes.legend(handles, labels, **({"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} | options))


def caption(*parts: str | None) -> str:
    """Join what there is to say into sentences.

    >>> caption("bias by layer", None, "40 utterances")
    'Bias by layer. 40 utterances.'
    """
    said = [part.strip().rstrip(".") for part in parts if part and part.strip()]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in said)


def several(values: Iterable[Any], noun: str, *, at_most: int = 6) -> str:
    """Name the values of a coordinate with their noun.

    >>> several([1, 4], "shots"), several(["micl"], "condition")
    ('shots 1, 4', 'condition micl')
    """
    there: Sequence[str] = [str(one) for one in values]
    more = f" and {len(there) - at_most} more" if len(there) > at_most else ""
    return f"{noun} {', '.join(there[:at_most])}{more}"
