"""Published numbers beside ours: the data file adds up, ours are as defined, and pairs belong together."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attnlens.cli.compare import render_beside
from attnlens.cli.output import Output
from attnlens.errors import BadInput, UnknownName
from attnlens.run.published.beside import put_beside
from attnlens.run.published.measured import find_measured, left_out
from attnlens.run.published.read import PUBLISHED, find_table, read_publication
from attnlens.traces.reading import open_traces

TABLES = [f"table{number}" for number in (*range(2, 11), *range(11, 16))] + ["figure1", "figure2"]

OTHER = """
name: other
source: nobody
url: https://example.org
languages: {xxish: [xx], yyish: [yy]}
unknown: []
measures: {perplexity: as we please, wer: as we please, share: of all, demo-share: of demonstrations}
tables:
  one:
    title: A table
    source: Table 1
    grids:
      - measure: perplexity
        down: [language, condition]
        across: shots
        columns: [0, 2]
        rows:
          xxish / micl: [null, 100000]
          yyish / micl: [1, 2]
          xxish / asr: [300, null]
  two:
    title: Shares
    source: Table 2
    grids:
      - {measure: share, fixed: {condition: micl, shots: 2}, down: [segment], rows: {demo_audio: 3}}
      - {measure: demo-share, fixed: {condition: micl, shots: 2}, down: [segment], rows: {demo_audio: 30}}
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "other.yaml"
    path.write_text(OTHER.replace("null", "7"))
    made = read_publication(path)
    PUBLISHED.register("other", lambda: made, summary="for a test")
    yield "other"
    PUBLISHED._entries.pop("other")
    PUBLISHED._loaded.pop("other", None)


def test_every_table_and_figure_is_there() -> None:
    publication, _ = find_table("paper:table6")
    assert list(publication.tables) == TABLES
    for table in publication.tables.values():
        assert bool(table.cells) != bool(table.says)
        keys = {(cell.measure, tuple(sorted(cell.where.items()))) for cell in table.cells}
        assert len(keys) == len(table.cells), table.name
        for cell in table.cells:
            assert cell.where.get("language", "khinalug") in publication.languages


@pytest.mark.parametrize(
    ("name", "where", "value"),
    [
        ("table2", {"language": "kichwa", "condition": "t-icl", "shots": "25"}, 652),
        ("table2", {"language": "mboshi", "condition": "asr", "shots": "0"}, 242),
        ("table3", {"language": "khinalug", "model": "base", "condition": "icl", "shots": "3"}, 1778),
        ("table6", {"system": "phi4-tft", "language": "mboshi"}, 28.6),
        ("table9", {"language": "khinalug"}, 34.2),
        ("table12", {"model": "xft", "shots": "5", "segment": "demo_audio"}, 5.4),
        ("table13", {"language": "kichwa", "retriever": "random", "condition": "micl", "shots": "100"}, 230),
        ("table15", {"language": "khinalug", "trained-shots": "fixed 10", "shots": "100"}, 87),
    ],
)
def test_spot_checks_of_printed_numbers(name: str, where: dict[str, str], value: float) -> None:
    cells = [cell for cell in find_table(f"paper:{name}")[1].cells if where.items() <= cell.where.items()]
    assert [cell.value for cell in cells] == [value]


def test_printed_shares_add_up() -> None:
    totals: dict[tuple[tuple[str, str], ...], float] = {}
    for name in ("table4", "table8", "table12"):
        for cell in find_table(f"paper:{name}")[1].cells:
            if cell.measure.endswith("share"):
                key = ("table", name), *sorted((k, v) for k, v in cell.where.items() if k != "segment")
                totals[key] = totals.get(key, 0.0) + cell.value
    assert totals
    assert all(abs(total - 100) < 0.11 for total in totals.values())


def test_perplexities_are_what_their_definitions_say(whole: Path) -> None:
    with (whole / "items.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "asr"]
    nll, first, tokens = (
        np.array([float(row[name]) for row in rows]) for name in ("nll", "nll_first", "n_output_tokens")
    )
    found = next(one for one in find_measured(whole, "perplexity") if one.where["condition"] == "asr")
    assert found.published is not None
    assert found.published.estimate == int(np.mean(np.exp((nll - first) / (tokens - 1))))
    assert found.default is not None
    assert found.default.estimate == pytest.approx(np.exp(nll.sum() / tokens.sum()))


def test_shares_are_what_their_definitions_say(whole: Path) -> None:
    ds = open_traces(whole / "traces.zarr").load()
    ds = ds.isel(item=(ds["condition"] == "micl") & (ds["control"] == "none"))
    mass = ds["mass"].isel(query=0).mean(["layer", "head", "item"]).to_series()
    audio, text = mass["demo_audio"], mass["demo_text"] + mass["demo_label"]
    whole_mass = audio + text + mass[["sink", "system", "instruction", "target_audio", "task"]].sum()
    clean = [one for one in find_measured(whole, "demo-share") if one.where["control"] == "none"]
    shares = {one.where["segment"]: one for one in clean}
    assert shares["demo_audio"].published is not None
    assert shares["demo_audio"].published.estimate == pytest.approx(100 * audio / (audio + text))
    assert shares["demo_audio"].default is not None
    assert shares["demo_audio"].default.estimate == pytest.approx(100 * audio / (audio + mass["demo_text"]))
    total = {one.where["segment"]: one for one in find_measured(whole, "share") if one.where["control"] == "none"}
    assert total["demo_audio"].published is not None
    assert total["demo_audio"].published.estimate == pytest.approx(100 * audio / whole_mass)
    tokens = {one.where["segment"]: one.default for one in find_measured(whole, "tokens")}
    assert tokens["demo_audio"] is not None
    assert tokens["demo_audio"].estimate == pytest.approx(20 * ds["tokens"].sel(source="demo_audio").values.mean())


def test_what_no_row_holds_is_told_with_its_share(whole: Path, other: str) -> None:
    ds = open_traces(whole / "traces.zarr").load()
    ds = ds.isel(item=(ds["condition"] == "micl") & (ds["control"] == "none"))
    mass = ds["mass"].isel(query=0).mean(["layer", "head", "item"]).to_series()
    found = left_out(whole, "share")
    assert found["other"].estimate == pytest.approx(100 * mass["other"] / mass.sum(), rel=1e-4)
    segments = ["sink", "system", "instruction", "demo_audio", "demo_label", "demo_text", "target_audio", "task"]
    rest = 100 * mass[segments].sum() / mass.sum()
    assert found["other"].estimate + found["output"].estimate + rest == pytest.approx(100, rel=1e-4)
    tokens = ds["tokens"].mean("item").to_series()
    assert left_out(whole, "tokens")["other"].estimate == pytest.approx(100 * tokens["other"] / tokens.sum(), rel=1e-4)
    assert left_out(whole, "perplexity") == {}
    beside = put_beside(whole, f"{other}:two")
    assert "markup, separators" in beside.left_out[0]
    assert f"{found['other'].estimate:.1f} %" in beside.left_out[0]
    console = Output().console()
    with console.capture() as captured:
        render_beside(console, beside)
    assert "left out: shares of demonstrations are of their audio and text alone" in captured.get()


def test_another_language_stands_beside_all_of_theirs(whole: Path) -> None:
    found = put_beside(whole, "paper:table2")
    assert not found.same_languages
    by_condition = {line.where["condition"]: line for line in found.lines}
    assert set(by_condition["asr"].printed) == {"khinalug", "kichwa", "mboshi"}
    assert by_condition["micl"].where["shots"] == "2"
    assert all(line.inside is None for line in found.lines)
    assert any("not comparable" in one for one in found.differs)
    console = Output().console()
    with console.capture() as captured:
        render_beside(console, found)
    assert "13, 6, 24" in captured.get()


def test_the_same_language_is_compared_with_itself(whole: Path, other: str) -> None:
    found = put_beside(whole, f"{other}:one")
    assert found.same_languages == ("xxish",)
    assert {(line.where["condition"], line.where["shots"]) for line in found.lines} == {("micl", "2"), ("asr", "0")}
    assert all(list(line.printed) == ["xxish"] for line in found.lines)
    far = next(line for line in found.lines if line.where["condition"] == "micl")
    assert far.inside in (False, None)
    assert json.loads(json.dumps(found.to_dict()))["same_languages"] == ["xxish"]


def test_what_cannot_be_compared_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing of .* stands in paper:table6"):
        put_beside(whole, "paper:table6")
    with pytest.raises(UnknownName, match="did you mean 'paper:table2'"):
        put_beside(whole, "paper:tabel2")
    with pytest.raises(UnknownName, match="unknown publication"):
        put_beside(whole, "papper:table2")
    with pytest.raises(BadInput, match="neither a run nor a re-ranking"):
        put_beside(tmp_path, "paper:table2")
    with pytest.raises(UnknownName, match="coordinate of table3"):
        put_beside(whole, "paper:table3", only={"modell": "xft"})
    with pytest.raises(UnknownName, match="model of table3"):
        put_beside(whole, "paper:table3", only={"model": "xfft"})
    assert {line.where["model"] for line in put_beside(whole, "paper:table3", only={"model": "xft"}).lines} == {"xft"}


def test_a_reranking_stands_beside_its_tables(tmp_path: Path) -> None:
    systems = ["acoustic 1-best", "micl paper-code", "micl interpolated", "oracle", "joint decoding", "prompted"]
    said = [{"id": f"u{n}", "reference": "ka to mi su"} | dict.fromkeys(systems, "ka to mi le") for n in range(6)]
    said = [one | {"oracle": one["reference"]} for one in said]
    folder = tmp_path / "maori"
    folder.mkdir()
    (folder / "transcripts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in said))
    (tmp_path / "spec.yaml").write_text("selector: {model: organism, retriever: text}\n")
    rows = [{"system": name} for name in systems]
    table = {"language": "maori", "normaliser": "basic-unicode", "rows": rows}
    (tmp_path / "results.json").write_text(json.dumps({"tables": [table]}))
    found = {line.where["system"]: line for line in put_beside(tmp_path, "paper:table6").lines}
    assert set(found) == {"acoustic 1-best", "phi4-asr-ft", "phi4-xft", "phi4-tft", "qwen3-omni", "oracle"}
    chosen = found["phi4-xft"]
    assert chosen.as_published is not None
    assert chosen.default is not None
    assert (chosen.as_published.estimate, chosen.default.estimate) == (25.0, 25.0)
    assert found["oracle"].default is not None
    assert found["oracle"].default.estimate == 0
    assert found["oracle"].printed == {"khinalug": 36.5, "kichwa": 12.4, "mboshi": 22.1}
    assert [line.printed["mboshi"] for line in put_beside(tmp_path, "paper:table9").lines] == [27.3]
    written = put_beside(tmp_path, "paper:table5").lines[0]
    assert (written.as_published is None, written.default is None) == (True, False)
    # With the published guard it is the published way to write.
    (tmp_path / "spec.yaml").write_text("selector: {model: organism, retriever: text, prompted: paper}\n")
    guarded = put_beside(tmp_path, "paper:table5").lines[0]
    assert (guarded.as_published is None, guarded.default is None) == (False, True)


def test_figures_say_what_they_show(whole: Path) -> None:
    found = put_beside(whole, "paper:figure1")
    assert not found.lines
    assert found.table.look == "layer_demo"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("measure: perplexity", "measure: perplexety"),
        ("xxish / micl", "xxish micl"),
        ("title: A table", "titel: A table"),
        ("[7, 100000]", "[7]"),
    ],
)
def test_a_damaged_data_file_is_refused(tmp_path: Path, change: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(OTHER.replace("null", "7").replace(change, said))
    with pytest.raises(BadInput, match="does not read as published numbers"):
        read_publication(path)
