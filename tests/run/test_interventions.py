"""Interventions as a part of items: planned beside the clean run, carried out, kept, compared."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from attnlens.cli.answer import render_answer
from attnlens.errors import BadInput, UnknownName
from attnlens.models.named_interventions import parse_intervention
from attnlens.plots.catalogue import draw_figures
from attnlens.plots.source import Source
from attnlens.run.bench import Bench
from attnlens.run.carry_out import Outcome, run_spec
from attnlens.run.folder import read_csv
from attnlens.run.plan import make_plan
from attnlens.traces.reading import open_traces
from tests.run.conftest import small

CUT = "knockout:queries=output:keys=demo_text+demo_label:layers=1-2"
HEADS = "ablate-heads:layers=0:heads=0+1"


def test_the_plan_multiplies_by_interventions_where_they_mean_something() -> None:
    plan = make_plan(small(interventions=[CUT, HEADS]))
    clean = make_plan(small())
    # Of six items two hear no demonstrations: the knockout means nothing there.
    assert len(plan.items) == 3 * len(clean.items) - 2
    assert {item.id for item in clean.items} <= {item.id for item in plan.items}
    assert len({item.id for item in plan.items}) == len(plan.items)
    assert plan.left_out[f"{CUT} cuts what asr does not show"] == 2
    assert ("synthetic", "micl", 2, f"mismatched-pairs with {HEADS}") in plan.groups()


def test_items_under_an_intervention_are_what_the_lens_gives(tmp_path: Path, computed: list[str], bench: Bench) -> None:
    spec = small(interventions=[CUT, HEADS])
    outcome = run_spec(spec, tmp_path)
    assert (outcome.ended, outcome.finished) == ("finished", 16)
    traces = open_traces(tmp_path / "traces.zarr")
    items = {item.id: item for item in make_plan(spec).items}
    cut = traces.isel(item=traces["intervention"].values == CUT)
    assert cut.sizes["item"] == 4
    assert float(cut["mass"].sel(source="demo_text", layer=[1, 2]).max()) == 0
    assert float(cut["mass"].sel(source="demo_text", layer=0).min()) > 0
    name = cut["item"].values[0]
    item = items[name]
    lens = bench.lens
    with lens.knockout(queries="output", keys=["demo_text", "demo_label"], layers=[1, 2]):
        by_hand = lens.trace(item.prompt, outputs=item.reference)
        answer = lens.generate(item.prompt, max_new_tokens=2)
    np.testing.assert_array_equal(by_hand["mass"].values[0], cut["mass"].values[0])
    rows = {row["item"]: row for row in read_csv(tmp_path / "items.csv")}
    assert rows[name]["transcription"] == answer.text
    assert rows[name]["intervention"] == CUT
    told = {(row["intervention"], row["condition"]) for row in outcome.tables["interventions"]}
    assert (CUT, "micl") in told
    assert (HEADS, "asr") in told
    clean = [row for row in outcome.tables["errors"] if row["control"] == "none"]
    assert {row["items"] for row in clean} == {2}, "what is cut is not averaged into the clean run"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("knockouts:queries=output", "unknown intervention"),
        ("knockout:queries=output", "lacks keys"),
        ("knockout:queries=output:keys=demotext", "unknown source"),
        ("knockout:queries=output:keys=all:layer=1", "unknown option"),
        ("ablate-heads:layers=one:heads=0", "layers are numbers"),
        ("ablate-heads:layers:heads=0", "written key=value"),
    ],
)
def test_what_cannot_be_cut_is_refused_before_anything_runs(said: str, words: str) -> None:
    with pytest.raises((BadInput, UnknownName), match=words):
        parse_intervention(said)
    with pytest.raises((BadInput, UnknownName)):
        small(interventions=[said])


def test_layers_that_are_not_there_fail_their_items(tmp_path: Path, computed: list[str]) -> None:
    outcome = run_spec(small(interventions=["ablate-heads:layers=77:heads=0"], data__limit=1), tmp_path)
    assert (outcome.ended, len(outcome.failed)) == ("failures", 3)
    assert "77" in next(iter(outcome.failed.values()))


def test_what_interventions_change_is_a_table_of_its_own(tmp_path: Path, computed: list[str]) -> None:
    spec = small(interventions=[CUT, HEADS], data__limit=5, context__conditions="asr,micl")
    outcome = run_spec(spec, tmp_path)
    rows = outcome.tables["interventions"]
    assert {(row["intervention"], row["control"], row["condition"]) for row in rows} == {
        (CUT, "none", "micl"),
        (CUT, "mismatched-pairs", "micl"),
        (HEADS, "none", "asr"),
        (HEADS, "none", "micl"),
        (HEADS, "mismatched-pairs", "micl"),
    }
    assert {row["control"] for row in outcome.tables["controls"]} == {"mismatched-pairs"}
    # By hand, from the lines of items.csv: the same prompts with and without.
    items = [row for row in read_csv(tmp_path / "items.csv") if row["condition"] == "micl" and row["control"] != "none"]
    sums = {name: sum(float(row["nll"]) for row in items if row["intervention"] == name) for name in ("none", HEADS)}
    chars = sum(int(row["n_chars"]) for row in items if row["intervention"] == HEADS)
    [found] = [
        row
        for row in rows
        if (row["intervention"], row["control"], row["measure"]) == (HEADS, "mismatched-pairs", "nll_per_char")
    ]
    assert found["difference"] == pytest.approx((sums[HEADS] - sums["none"]) / chars)
    assert found["difference_low"] <= found["difference"] <= found["difference_high"]
    assert found["whole"] == pytest.approx(sums["none"] / chars)
    assert run_spec(spec, tmp_path).tables == outcome.tables, "told again from the files"
    _told_and_drawn(tmp_path, outcome)


def _told_and_drawn(folder: Path, outcome: Outcome) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    render_answer(console, outcome)
    text = console.export_text()
    assert "What the interventions changed" in text
    assert "cut output → demo text + demo label, layers 1-2" in text
    assert "micl, mismatched-pairs" in text
    assert CUT not in text.partition("What the interventions")[0], "what was cut is told in its own table alone"
    drawn = draw_figures(Source.open(folder), None)
    assert "interventions" in drawn.figures
    figure = drawn.figures["interventions"]
    assert set(figure.data["control"]) == {"none"}
    assert "prompts under a control are in the table" in figure.caption.lower()
    [shown] = figure.data.query(f"intervention == '{HEADS}' and condition == 'asr' and measure == 'nll_per_char'").index
    assert figure.data["difference"][shown] == pytest.approx(
        next(
            row["difference"]
            for row in outcome.tables["interventions"]
            if (row["intervention"], row["condition"], row["measure"]) == (HEADS, "asr", "nll_per_char")
        )
        / math.log(2)
    )
    rates = drawn.figures["shots_cer"].data
    assert not [one for one in rates["control"] if "knockout" in one or "ablate" in one], "they have their own figure"


def test_a_run_without_interventions_says_nothing_of_them(whole: Path) -> None:
    assert not (whole / "tables" / "interventions.csv").exists()
    assert "interventions" in draw_figures(Source.open(whole), None).skipped
