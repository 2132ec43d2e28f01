"""The catalogue and the page: what is drawn, what is said to be missing, what is escaped, what the explorer holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import BadInput, DamagedStore, UnknownName
from attnlens.plots.catalogue import FIGURES, draw_figures
from attnlens.plots.explorer import COARSE_LEVELS, LEVELS, explorer_data, slots_of
from attnlens.plots.findings import findings_of
from attnlens.plots.report import report_html, write_report
from attnlens.plots.source import Source
from attnlens.plots.tokens import read_tokens
from attnlens.testing import trace
from attnlens.traces.writing import save


def test_every_figure_is_drawn_or_says_why_not(folder: Path) -> None:
    drawn = draw_figures(Source.open(folder), None)
    assert set(drawn.figures) | set(drawn.skipped) == set(FIGURES)
    assert set(drawn.skipped) == {
        "interventions",
        "layer_head_contribution",
        "layer_head_logit_effect",
        "shots_wer",
        "mass_against_effect",
        "cumulative_ablation",
        "oracle_curve",
    } - {"shots_wer"}
    assert "tracing.measures" not in drawn.skipped["oracle_curve"]
    assert drawn.figures["shots_wer"].data["condition"].tolist() == ["asr"]
    for name, figure in drawn.figures.items():
        assert len(figure.data), name
        assert figure.caption, name


def test_named_figures_must_be_there(folder: Path, tmp_path: Path) -> None:
    source = Source.open(folder)
    drawn = draw_figures(source, tmp_path, names=["modality_bias"], view="log_ratio", formats=["svg"])
    assert [path.name for path in drawn.files["modality_bias"]] == ["modality_bias.svg", "modality_bias.csv"]
    assert set(drawn.figures["modality_bias"].data["view"]) == {"log_ratio"}
    with pytest.raises(BadInput, match="no table 'oracle'"):
        draw_figures(source, None, names=["oracle_curve"])
    with pytest.raises(UnknownName, match="did you mean 'modality_bias'"):
        draw_figures(source, None, names=["modalty_bias"])


def test_runs_and_stores_side_by_side(folder: Path, tmp_path: Path) -> None:
    save(trace(items=5, layers=6), tmp_path / "other.zarr")
    sources = [Source.open(folder), Source.open(tmp_path / "other.zarr")]
    drawn = draw_figures(sources, None, names=["modality_bias", "source_composition"])
    assert list(drawn.figures) == ["modality_bias", f"source_composition-{folder.name}", "source_composition-other"]
    assert set(drawn.figures["modality_bias"].data["trace"]) == {folder.name, "other"}


def test_what_is_no_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither a run directory nor a store"):
        Source.open(tmp_path)
    with pytest.raises(BadInput, match="a report is of a run"):
        write_report(folder / "traces.zarr")
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    (mine / "provenance.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="is no JSON"):
        write_report(mine, formats=[])
    (mine / "findings.json").write_text('[{"said": 1}]', encoding="utf-8")
    with pytest.raises(BadInput, match="no list of findings"):
        findings_of(Source.open(mine))
    next((mine / "tokens").glob("*.nc")).write_bytes(b"cut")
    with pytest.raises(DamagedStore, match="token-level detail"):
        read_tokens(mine)


class Seen(HTMLParser):
    """Collect tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_texts_with_markup_stay_texts(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    for bad in ("<script>alert", "<img", "<b>weights", "</script><b>ima"):
        assert bad not in html, bad
    assert "name: &lt;script&gt;alert(2)" in html
    seen = Seen()
    seen.feed(html)
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    handlers = [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert handlers == []


def test_the_page_needs_nothing_else(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    seen = Seen()
    seen.feed(html)
    links = [attrs[name] or "" for _, attrs in seen.tags for name in ("src", "href", "xlink:href") if name in attrs]
    assert {one.split(":")[0] for one in links if not one.startswith("#")} == {"data"}
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert page.stat().st_size < 10_000_000
    ids = [attrs["id"] for _, attrs in seen.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_is_missing(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    assert "6 figures were not drawn" in html
    assert "the run has no table &#x27;oracle&#x27;" in html
    assert "The table empty is empty." in html
    assert 'id="exposure"' in html
    assert "a run &amp; more" in html


def test_equal_runs_give_equal_pages(page: Path) -> None:
    source = Source.open(page.parent)
    names = ["modality_bias", "clip_attention"]
    first, second = (report_html(source, draw_figures(source, None, names=names)) for _ in range(2))
    assert first == second


def unpacked(text: str, dtype: str, shape: tuple[int, ...]) -> Any:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype=dtype).reshape(shape)


def test_the_explorer_holds_what_was_measured(page: Path, folder: Path) -> None:
    html = page.read_text(encoding="utf-8")
    found = re.search(r'id="explorer-data">(.*?)</script>', html, re.DOTALL)
    assert found
    data = json.loads(found.group(1))
    tokens = read_tokens(folder)
    assert [one["control"] for one in data["items"]] == ["none", "mismatched-pairs"]
    assert len(data["clips"]) == 2, "clips that stand in both items are there once"
    for one in data["items"]:
        detail = tokens[one["item"]].detail
        weights = detail.weights.values
        assert one["tokens"] == detail.token_text.values.tolist()
        assert one["heads_kept"] == [6, 6]
        packed = one["measures"]["weights"]
        shape = (len(one["slots"]), 4, len(one["keys"]))
        assert one["steps"] == "fine"
        tops = unpacked(packed["tops"], "<f4", shape[:2])[..., None]
        positions = unpacked(packed["positions"], "<i2", shape) * tops / LEVELS
        shares = unpacked(packed["shares"], "<f4", (*shape[:2], len(one["blocks"])))
        for place, (layer, head) in enumerate(one["slots"]):
            part = weights[layer if layer >= 0 else slice(None)]
            part = part if layer < 0 else part[None]
            part = part.mean((0, 1)) if head < 0 else part[0, head]
            np.testing.assert_allclose(positions[place], part, atol=weights.max() / LEVELS)
            for number, block in enumerate(one["blocks"]):
                expected = part[:, block["start"] : block["stop"]].sum(-1)
                np.testing.assert_allclose(shares[place, :, number], expected, atol=1e-6)
        assert {block["label"] for block in one["blocks"]} == set(detail.key_label.values.tolist())


def test_heads_are_left_out_when_space_is_short(folder: Path) -> None:
    tokens = read_tokens(folder)
    made = explorer_data({"a": tokens["item-none"]}, most_bytes=1_600)["items"][0]
    kept, every = made["heads_kept"]
    assert 0 <= kept < every
    assert made["steps"] == "coarse"
    assert made["slots"][:3] == [(-1, -1), (0, -1), (1, -1)], "means of all heads are always there"
    detail = tokens["item-none"].detail
    packed, shape = made["measures"]["weights"], (len(made["slots"]), 4, len(made["keys"]))
    steps = unpacked(packed["positions"], "i1", shape) / COARSE_LEVELS
    kept_as = np.sign(steps) * steps**2 * unpacked(packed["tops"], "<f4", shape[:2])[..., None]
    mean = detail.weights.values.mean((0, 1))
    # The square root's step is widest at the top: 1/127 of it there, far less below.
    np.testing.assert_allclose(kept_as[0], mean, atol=float(mean.max()) / COARSE_LEVELS)
    best = slots_of(detail, 1)[-1]
    on_demos = np.char.startswith(detail.key_label.values.astype(str), "demo_")
    mass = detail.weights.values[..., on_demos].sum(-1).mean(-1)
    assert best == tuple(int(one) for one in np.unravel_index(mass.argmax(), mass.shape))


def test_findings_of_the_run_are_those_of_its_report(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    told = [{"claim": "Audio matters.", "evidence": "p = 0.01", "verdict": "refuted by control X"}]
    (mine / "findings.json").write_text(json.dumps(told), encoding="utf-8")
    (one,) = findings_of(Source.open(mine))
    assert (one.claim, one.verdict) == ("Audio matters.", "refuted by control X")
    page = write_report(mine, formats=[]).page.read_text(encoding="utf-8")
    assert "Audio matters." in page
    assert '<li class="refuted">' in page
    (mine / "findings.json").unlink()
    found = findings_of(Source.open(mine))
    assert any("mismatched-pairs" in one.claim for one in found)
    assert any("Per token" in one.claim for one in found)


def test_too_few_utterances_find_nothing(tmp_path: Path) -> None:
    save(trace(items=2), tmp_path / "traces.zarr")
    found = findings_of(Source.open(tmp_path))
    assert {one.verdict for one in found} == {"inconclusive"}
    assert len(found) == 3


def test_a_run_of_one_condition_has_a_page(tmp_path: Path) -> None:
    made: xr.Dataset = trace(items=1, layers=1, heads=1)
    save(made, tmp_path / "traces.zarr")
    report = write_report(tmp_path, formats=["svg"])
    assert "modality_bias" in report.figures
    assert (tmp_path / "figures" / "modality_bias.svg").exists()
    assert "has token-level detail" in report.page.read_text(encoding="utf-8")
