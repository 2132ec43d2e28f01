"""Files of a figure: formats, bytes, data, fonts; and nothing set outside it."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from attnlens.errors import BadInput, UnknownName
from attnlens.plots.clip import token_sources
from attnlens.plots.drawing import Drawing, fonts_for
from attnlens.plots.layers import modality_bias
from attnlens.plots.maps import layer_head

BASELINES = Path(__file__).parent / "baselines"


def test_nothing_global_is_touched(run: xr.Dataset, tmp_path: Path) -> None:
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    modality_bias(run).save(tmp_path)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_equal_figures_give_equal_files(run: xr.Dataset, tmp_path: Path) -> None:
    for place in ("a", "b"):
        modality_bias(run).save(tmp_path / place, formats=["pdf", "png", "svg"])
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [f"modality_bias.{end}" for end in ("csv", "pdf", "png", "svg")]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_data_lies_beside_the_figure(run: xr.Dataset, tmp_path: Path) -> None:
    figure = modality_bias(run)
    figure.save(tmp_path, formats=[], name="mine")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "mine.csv", keep_default_na=False), figure.data)


def test_text_stays_text_in_svg(run: xr.Dataset) -> None:
    svg = modality_bias(run).svg()
    assert ">text preferred</text>" in svg
    assert "<dc:date>" not in svg


def test_a_notebook_gets_a_png(run: xr.Dataset) -> None:
    assert modality_bias(run)._repr_png_().startswith(b"\x89PNG")


def test_scripts_without_a_font_are_named_once(
    detail: xr.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lacking = fonts_for({"漢", "של"[0], "🎉"})[1]
    with caplog.at_level(logging.WARNING):
        token_sources(detail).save(tmp_path, formats=["png", "pdf"])
    if "漢" in lacking:
        assert "'漢' (U+6F22)" in caplog.text
        assert "Noto" in caplog.text


def test_fonts_are_chosen_by_letter() -> None:
    assert fonts_for({"a", "ñ", "ŋ", "ש"}) == (["DejaVu Sans"], set())
    assert fonts_for({"\U0010fffd"})[1] == {"\U0010fffd"}


def test_a_dollar_is_no_formula(tmp_path: Path) -> None:
    values = xr.DataArray(np.eye(2), dims=("layer", "head"))
    layer_head(values, what=r"$\broken{", title="$x").save(tmp_path, formats=["png"])


def test_a_bad_format_or_folder_is_refused(tmp_path: Path) -> None:
    drawing = Drawing("d", data=pd.DataFrame({"a": [1]}), caption="", figsize=(1, 1))
    with pytest.raises(UnknownName, match="figure format 'jpg'"):
        drawing.save(tmp_path, formats=["jpg"])  # type: ignore[list-item]
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="could not be written"):
        drawing.save(tmp_path / "file")


@pytest.mark.parametrize("name", ["modality_bias", "layer_head"])
def test_figures_look_as_they_did(run: xr.Dataset, name: str) -> None:
    """Compare with a picture that was looked at; to renew one, remove it and run this test once."""
    from io import BytesIO

    from matplotlib.image import imread, imsave

    figure = (
        modality_bias(run, size="column") if name == "modality_bias" else layer_head(run, what="bias", size="column")
    )
    buffer = BytesIO()
    figure.write(buffer, format="png", dpi=72)
    buffer.seek(0)
    drawn, path = imread(buffer)[..., :3], BASELINES / f"{name}.png"
    if not path.exists():
        BASELINES.mkdir(exist_ok=True)
        imsave(path, drawn)
        pytest.fail("there was no picture to compare with; look at the new one")
    expected = imread(path)[..., :3]
    assert expected.shape == drawn.shape
    assert float(np.sqrt(((expected - drawn) ** 2).mean())) < 0.06
