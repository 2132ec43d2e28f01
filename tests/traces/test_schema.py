"""The schema refuses what would be read wrongly later, and says all that is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from attnlens.errors import BadInput, DamagedStore
from attnlens.testing import trace
from attnlens.traces.schema import VARIABLES, validate

Spoil = Callable[[xr.Dataset], xr.Dataset]


def heavier(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(mass=ds.mass * 1.1)


def with_nan(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(mass=ds.mass.where(ds.layer != 0))


SPOILT: dict[str, tuple[Spoil, str]] = {
    "variable gone": (lambda ds: ds.drop_vars("nll"), "no variable 'nll'"),
    "coordinate gone": (lambda ds: ds.drop_vars("condition"), "no item coordinate 'condition'"),
    "unknown variable": (lambda ds: ds.assign(bias=ds.nll), "unknown variable 'bias'"),
    "wrong dims": (lambda ds: ds.assign(mass=ds.mass.transpose("layer", ...)), "mass has dims"),
    "wrong type": (lambda ds: ds.assign(tokens=ds.tokens.astype(float)), "tokens is of type"),
    "sources renamed": (lambda ds: ds.assign_coords(source=[f"s{i}" for i in range(10)]), "source is s0"),
    "mass over one": (heavier, "do not sum to 1"),
    "mass missing": (with_nan, "do not sum to 1"),
    "tokens disagree": (lambda ds: ds.assign(positions=ds.positions + 1), "do not add up"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_fault_is_named(case: str) -> None:
    spoil, said = SPOILT[case]
    with pytest.raises(BadInput, match=said):
        validate(spoil(trace()))
    with pytest.raises(DamagedStore, match=said):
        validate(spoil(trace()), damaged=True)


def test_a_missing_attribute_is_named() -> None:
    ds = trace()
    del ds.attrs["rows"]
    with pytest.raises(BadInput, match="no attribute 'rows'"):
        validate(ds)


def test_mass_where_there_are_no_tokens_is_a_fault() -> None:
    ds = trace()
    tokens = ds.tokens.values.copy()
    moved = tokens[:, 1].copy()
    tokens[:, 1] = 0
    tokens[:, 2] += moved
    with pytest.raises(BadInput, match="without tokens has mass"):
        validate(ds.assign(tokens=(("item", "source"), tokens)))


def test_demo_mass_adds_up_to_the_sources() -> None:
    ds = trace(items=3, demos=4)
    for modality in ("audio", "text", "label"):
        np.testing.assert_allclose(
            ds.demo_mass.sel(modality=modality).sum("demo"), ds.mass.sel(source=f"demo_{modality}"), atol=1e-6
        )


def test_the_page_lists_every_variable() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "schema.md").read_text(encoding="utf-8")
    for name, spec in VARIABLES.items():
        assert f"| `{name}` | {', '.join(spec.dims)} | {spec.meaning}" in page
