"""Prompt controls: named, seeded changes that should destroy the effect under study, and only that.

Here belongs every change of a prompt that could refute a finding. Each is a pure function from prompt to prompt whose
docstring says what it keeps and what it destroys; a change that would be void is refused. Changes inside a model
(knockout, patching) belong to :mod:`attnlens.capture`, changes of labels to :mod:`attnlens.stats`. A package adds its
own through the entry-point group ``attnlens.controls``.
"""

from attnlens.context.controls.apply import CONTROLS, apply_control, parse_control
from attnlens.context.controls.base import Control, Draw, What
from attnlens.context.controls.insert import GoldSlot, gold_slots
from attnlens.context.controls.order import order_permutations

__all__ = [
    "CONTROLS",
    "Control",
    "Draw",
    "GoldSlot",
    "What",
    "apply_control",
    "gold_slots",
    "order_permutations",
    "parse_control",
]
