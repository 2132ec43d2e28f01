"""All figures by name, drawn from run directories or stores; what cannot be drawn says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from attnlens.errors import AttnlensError, BadInput
from attnlens.plots.cause import control_comparison, knockout_grid, mass_against_effect
from attnlens.plots.clip import clip_attention, token_sources
from attnlens.plots.composition import demo_position, source_composition
from attnlens.plots.curves import cumulative_ablation, oracle_curve, shots_curve
from attnlens.plots.interventions import intervention_effects
from attnlens.plots.layers import modality_bias
from attnlens.plots.maps import layer_demo, layer_head, layer_source
from attnlens.plots.source import Source
from attnlens.plots.style import Size
from attnlens.registry import Registry

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from attnlens.plots.drawing import Drawing, Format

__all__ = ["FIGURES", "OVERLAID", "Drawn", "Maker", "draw_figures"]

Sources: TypeAlias = Sequence[Source]


class Maker(Protocol):
    """What is registered: sources in, a drawing out; BadInput where the run holds nothing to draw."""

    def __call__(self, sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        """Draw the figure; all but the overlaid ones get one source at a time."""


@dataclass
class Drawn:
    """What came of drawing: figures by name, the files of each, and why others were not drawn."""

    figures: dict[str, Drawing] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def draw_figures(
    sources: Source | Sources,
    out: str | Path | None,
    *,
    names: Sequence[str] | None = None,
    view: str | None = None,
    formats: Sequence[Format] = ("pdf", "png"),
    size: Size = "page",
    tick: Callable[[str], None] | None = None,
) -> Drawn:
    """Draw figures by name and write them, each with its data; all that can be drawn when no names are given.

    What is named and cannot be drawn is refused; of the rest, the reason is kept in ``skipped``. Several sources are
    laid over each other where lines allow it, and drawn one by one elsewhere. ``out=None`` writes nothing.

    >>> import tempfile
    >>> from attnlens.testing import trace
    >>> from attnlens.traces.writing import save
    >>> path = Path(tempfile.mkdtemp()) / "traces.zarr"
    >>> _ = save(trace(items=4), path)
    >>> drawn = draw_figures(Source.open(path), None, names=["modality_bias"])
    >>> list(drawn.figures), drawn.skipped
    (['modality_bias'], {})
    """
    listed = [sources] if isinstance(sources, Source) else list(sources)
    if not listed:
        raise BadInput("there is nothing to draw from", fix="pass a run directory or a store")
    wanted = sorted(FIGURES, key=_place) if names is None else list(names)
    for name in wanted:
        FIGURES.require(name)
    drawn = Drawn()
    for name in wanted:
        if tick is not None:
            tick(name)
        groups = [listed] if name in OVERLAID or len(listed) == 1 else [[one] for one in listed]
        for group in groups:
            told = name if len(groups) == 1 else f"{name}-{group[0].label}"
            try:
                figure = FIGURES[name](group, view=view, size=size)
            except AttnlensError as error:
                if names is not None:
                    raise
                drawn.skipped[told] = error.message
                continue
            figure.name = told
            drawn.figures[told] = figure
            if out is not None:
                drawn.files[told] = figure.save(out, formats=formats)
    return drawn


def _bias(fixed: str) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        return modality_bias(_traces(sources), view=view if view in PREFERENCES else fixed, size=size)

    return draw


PREFERENCES = ("bias", "log_ratio")
"""Views with one value per layer; other views are of sources."""


def _bias_by_shots(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    """Draw one line per number of shots, without controls."""
    traces = {label: _clean(one) for label, one in _traces(sources).items()}
    if all(len(set(one["shots"].values[one["shots"].values > 0].tolist())) < 2 for one in traces.values()):  # noqa: PLR2004
        raise BadInput("the run has one number of shots only", fix="run with context.shots=1,4 or more")
    return modality_bias(traces, by="shots", view=view if view in PREFERENCES else "bias", size=size)


def _traces(sources: Sources) -> dict[str, xr.Dataset]:
    if len(sources) == 1:
        return {"": sources[0].traces}
    return {one.label: one.traces for one in sources}


def _clean(dataset: xr.Dataset) -> xr.Dataset:
    there = dataset["control"].values == "none"
    return dataset.isel(item=np.flatnonzero(there)) if there.any() else dataset


def _heads_mass(source: str) -> Maker:
    """Draw mass on a source by layer and head."""

    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        return _beside(layer_head(sources[0].traces, what="mass", source=source, size=size), sources[0])

    return draw


def _beside(figure: Drawing, source: Source) -> Drawing:
    """Say beside masses how well mass foretells what a cut costs, where the run has measured that."""
    rows = source.tables.get("faithfulness")
    if rows is None:
        figure.caption += " How well mass foretells what a cut costs was not measured here (`attnlens ablate` does)."
    if rows is not None and "mass" in set(rows.get("measure", ())):
        row = rows[rows["measure"] == "mass"].iloc[0]
        figure.caption += (
            f" How well a head's mass on demonstrations foretells what its loss costs: Spearman rho {row['rho']:+.2f} "
            f"[{row['low']:+.2f}, {row['high']:+.2f}], p = {row['p']:.3g}."
        )
    return figure


def _heads_of(what: str) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        if what not in sources[0].traces and what not in PREFERENCES:
            raise BadInput(f"the run did not measure {what}", fix=f"run with tracing.measures={what}")
        return layer_head(sources[0].traces, what=what, size=size)

    return draw


def _sources_by_layer(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    chosen = view if view in ("raw", "sinkless", "density") else "raw"
    return _beside(layer_source(sources[0].traces, view=chosen, size=size), sources[0])


def _demos_by_layer(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    return _beside(layer_demo(_with_pairs(sources[0].traces), size=size), sources[0])


def _demos_by_control(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    dataset = _with_pairs(sources[0].traces)
    if len(set(dataset["control"].values.tolist())) < 2:  # noqa: PLR2004
        raise BadInput("the run has no controls", fix="run with context.controls")
    return layer_demo(dataset, shots=_most_shots(dataset, controlled=True), panels="control", size=size)


def _with_pairs(dataset: xr.Dataset) -> xr.Dataset:
    counts = dataset["demo_tokens"].sel(modality=["audio", "text"]).sum("demo").values
    both = (counts > 0).all(-1)
    if not both.any():
        raise BadInput("no item has demonstrations with audio and text", fix="run the condition micl with shots")
    return dataset.isel(item=np.flatnonzero(both))


def _most_shots(dataset: xr.Dataset, *, controlled: bool) -> int:
    keep = dataset["control"].values != "none" if controlled else np.ones(dataset.sizes["item"], dtype=bool)
    return int(dataset["shots"].values[keep].max())


def _composition(sink: Any) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        dataset = _clean(sources[0].traces)
        condition = "micl" if "micl" in dataset["condition"].values else None
        with_demos = dataset["shots"].values > 0
        shots = sorted(set(dataset["shots"].values[with_demos].tolist())) or None
        drawn = source_composition(dataset, sink=sink, condition=condition, shots=shots, size=size)
        return _beside(drawn, sources[0])

    return draw


def _position(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    return _beside(demo_position(_with_pairs(sources[0].traces), size=size), sources[0])


def _shots(metric: Any) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        if metric in ("wer", "cer"):
            return shots_curve(_rates(_whole(sources[0]), metric), metric=metric, size=size)
        return shots_curve(sources[0].traces, metric=metric, size=size)

    return draw


def _whole(source: Source) -> pd.DataFrame:
    """Return the table of errors without what was cut, which has a figure of its own."""
    errors, cut = source.table("errors"), source.tables.get("interventions")
    names = [] if cut is None or "intervention" not in cut else [str(one) for one in set(cut["intervention"])]
    changed = (
        errors["control"].astype(str).map(lambda one: one in names or one.endswith(tuple(f" with {n}" for n in names)))
    )
    return errors[~changed]


def _rates(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Turn the run's table, with one column per metric, into one row per value; all corpora together where told."""
    if metric not in table.columns or table[metric].isna().all():
        raise BadInput(f"nothing was transcribed, so there is no {metric}")
    together = (
        table[table["corpus"] == "all"] if "corpus" in table.columns and (table["corpus"] == "all").any() else table
    )
    ends = {f"{metric}_low": "low", f"{metric}_high": "high", metric: "estimate", "utterances": "n"}
    made = together[together[metric].notna()].rename(columns=ends).assign(metric=metric)
    names = ["condition", "shots", "control", "metric", "estimate", "low", "high", "n"]
    return made[[name for name in names if name in made.columns]]


def _controls(metric: Any) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        return control_comparison(sources[0].traces, metric=metric, size=size)

    return draw


def _from_table(name: str, draw_table: Callable[..., Drawing]) -> Maker:
    def draw(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
        return draw_table(sources[0].table(name), size=size)

    return draw


def _scatter(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    import xarray as xr

    from attnlens.plots.inputs import table

    given = table(sources[0].table("head_effects"), needs=["layer", "head", "effect"], what="mass against effect")
    effect = xr.DataArray.from_series(given.set_index(["layer", "head"])["effect"].astype(float))
    dataset = _with_pairs(_clean(sources[0].traces))
    mass = dataset["mass"].sel(query="output", source=["demo_audio", "demo_text"]).sum("source").mean("item").compute()
    both = mass.sel(layer=effect["layer"], head=effect["head"])
    return mass_against_effect(
        both, effect, measure="mass on demonstrations", size="column" if size == "page" else size
    )


def _first_clip(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    from attnlens.data.audio import Audio

    found = next(iter(sources[0].tokens.values()), None)
    if found is None or not found.clips:
        raise BadInput("the run has no token-level detail", fix="run `attnlens report RUN --tokens 4`")
    clip = "target_audio" if "target_audio" in found.clips else next(iter(found.clips))
    return clip_attention(found.detail, Audio(found.clips[clip]), clip=clip, size=size)


def _first_tokens(sources: Sources, /, *, view: str | None, size: Size) -> Drawing:
    found = next(iter(sources[0].tokens.values()), None)
    if found is None:
        raise BadInput("the run has no token-level detail", fix="run `attnlens report RUN --tokens 4`")
    return token_sources(found.detail, size=size)


OVERLAID = ("modality_bias", "modality_bias_by_token", "modality_bias_by_shots")
"""Figures that lay several sources over each other instead of drawing one each."""
FIGURES: Registry[Maker] = Registry("figure", group="attnlens.figures", builtin={})
"""All figures by name; packages add theirs through the entry-point group ``attnlens.figures``."""
_BUILTIN: tuple[tuple[str, Maker, str], ...] = (
    ("modality_bias", _bias("bias"), "layer-wise preference for text or audio, with intervals and controls"),
    ("modality_bias_by_token", _bias("log_ratio"), "layer-wise preference per token, corrected for length"),
    ("modality_bias_by_shots", _bias_by_shots, "layer-wise preference for each number of shots"),
    ("source_composition", _composition("shown"), "share of each layer's attention on every source"),
    (
        "source_composition_sinkless",
        _composition("left-out"),
        "share of each layer's attention on every source but the first token",
    ),
    ("layer_source", _sources_by_layer, "layer x source, by condition"),
    ("layer_demo", _demos_by_layer, "layer x demonstration, by shots (the paper's Figure 1)"),
    ("layer_demo_controls", _demos_by_control, "layer x demonstration, by control (as the paper's Figure 2)"),
    ("layer_head_audio", _heads_mass("demo_audio"), "layer x head: mass on the demonstrations' audio"),
    ("layer_head_text", _heads_mass("demo_text"), "layer x head: mass on the demonstrations' text"),
    ("layer_head_bias", _heads_of("bias"), "layer x head: preference for text or audio"),
    ("layer_head_contribution", _heads_of("contribution"), "layer x head: what the demonstrations' text wrote"),
    ("layer_head_logit_effect", _heads_of("logit_effect"), "layer x head: its direct effect on the output"),
    ("demo_position", _position, "attention by place of the demonstration"),
    ("shots_bits_per_character", _shots("bits-per-character"), "bits per character by shots"),
    ("shots_perplexity", _shots("perplexity"), "perplexity by shots"),
    ("shots_cer", _shots("cer"), "character error rate by shots"),
    ("shots_wer", _shots("wer"), "word error rate by shots"),
    ("control_nll", _controls("nll"), "what each control changes in likelihood"),
    ("control_bias", _controls("bias"), "what each control changes in the preference"),
    ("interventions", _from_table("interventions", intervention_effects), "what each intervention of the run changes"),
    ("knockout_grid", _from_table("knockout", knockout_grid), "edges x windows of layers: effect of a cut"),
    ("mass_against_effect", _scatter, "heads: mass against the effect of cutting them"),
    ("cumulative_ablation", _from_table("cumulative", cumulative_ablation), "heads taken away one after the other"),
    ("oracle_curve", _from_table("oracle", oracle_curve), "error rate by length of the N-best list"),
    ("clip_attention", _first_clip, "attention over one recording, token by token"),
    ("token_sources", _first_tokens, "sources of each output token of one item"),
)
for _name, _maker, _summary in _BUILTIN:
    FIGURES.register(_name, _maker, summary=_summary)


def _place(name: str) -> int:
    """Keep the order above, in which a reader should meet them; others' figures come last."""
    names = [one for one, _, _ in _BUILTIN]
    return names.index(name) if name in names else len(names)
