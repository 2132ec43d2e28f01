"""All figure functions in one place: ``attnlens.plot.modality_bias(ds)``."""

from __future__ import annotations

from attnlens.plots.cause import control_comparison, knockout_grid, mass_against_effect
from attnlens.plots.clip import clip_attention, token_sources
from attnlens.plots.composition import demo_position, source_composition
from attnlens.plots.curves import cumulative_ablation, oracle_curve, shots_curve
from attnlens.plots.interventions import intervention_effects
from attnlens.plots.layers import modality_bias
from attnlens.plots.maps import layer_demo, layer_head, layer_source

__all__ = [
    "clip_attention",
    "control_comparison",
    "cumulative_ablation",
    "demo_position",
    "intervention_effects",
    "knockout_grid",
    "layer_demo",
    "layer_head",
    "layer_source",
    "mass_against_effect",
    "modality_bias",
    "oracle_curve",
    "shots_curve",
    "source_composition",
    "token_sources",
]
