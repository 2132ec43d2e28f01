"""What can be read at a row of attention: names, shapes and one line each, without importing anything heavy."""

from __future__ import annotations

from dataclasses import dataclass

from attnlens.registry import Registry

__all__ = ["MEASURES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """One thing that is read: its dims after ``layer, batch, head`` and what it needs.

    ``averages`` says whether a mean over query groups means anything; ``projected`` whether the output projection of
    the attention module is needed.
    """

    dims: tuple[str, ...]
    averages: bool = True
    projected: bool = False


MASS = Measure(("row", "group"))
ENTROPY = Measure(("row",))
MAX = Measure(("row",))
ARGMAX = Measure(("row",), averages=False)
RECEIVED = Measure(("key",), averages=False)
CONTRIBUTION = Measure(("row", "group"), projected=True)
LOGIT_EFFECT = Measure(("row", "group"), averages=False, projected=True)

_HERE = "attnlens.capture.measures"
MEASURES: Registry[Measure] = Registry(
    "measure",
    group="attnlens.measures",
    builtin={
        "mass": (f"{_HERE}:MASS", "sum of the attention weights on each group of keys"),
        "entropy": (f"{_HERE}:ENTROPY", "entropy of the attention weights of a row, in nats"),
        "max": (f"{_HERE}:MAX", "largest attention weight of a row"),
        "argmax": (f"{_HERE}:ARGMAX", "position of the key with the largest weight"),
        "received": (f"{_HERE}:RECEIVED", "sum over the chosen rows of the weight each key receives"),
        "contribution": (f"{_HERE}:CONTRIBUTION", "norm of what each group of keys adds to the attention output"),
        "logit_effect": (f"{_HERE}:LOGIT_EFFECT", "direct effect of each group's part on the gold token's logit"),
    },
)
"""Every measure by name.

>>> MEASURES["mass"].dims
('row', 'group')
"""
