from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from attnlens.evidence.observed import observed
from attnlens.testing import trace


def cell(condition: str, control: str, bits: float, *, items: int = 10, demos: int = 2, seed: int = 0) -> xr.Dataset:
    """Utterances whose reference costs so many bits per character, give or take."""
    made = trace(items=items, demos=demos, seed=seed, measures=("received",))
    noise = np.random.default_rng(seed).normal(0, 0.05, items)
    nll = np.float32((bits + noise) * np.log(2) * made["n_chars"].values)
    made["nll"].values[:] = nll
    named = {"condition": [condition] * items, "control": [control] * items, "shots": [demos] * items}
    return made.assign_coords({name: ("item", values) for name, values in named.items()})


def run(*cells: xr.Dataset) -> xr.Dataset:
    return xr.concat(cells, "item", coords="minimal", compat="override", join="outer")


def bare(bits: float, seed: int = 5) -> xr.Dataset:
    made = cell("asr", "none", bits, seed=seed)
    return made.assign_coords(shots=("item", [0] * made.sizes["item"]))


def test_pairs_that_help_and_a_control_that_destroys_it() -> None:
    found = observed(
        run(bare(4.0), cell("icl", "none", 3.8, seed=1), cell("micl", "none", 2.0, seed=2),
            cell("micl", "mismatched-pairs@0", 4.1, seed=3))
    )  # fmt: skip
    assert found["help micl"].verdict == "supported"
    assert found["help micl"].controls[0].outcome == "withstood"
    assert found["help of audio"].verdict == "supported"
    assert found["control mismatched-pairs"].verdict == "supported"
    assert found["help icl"].estimate == pytest.approx(0.2, abs=0.1)


def test_pairs_that_help_as_much_when_mismatched_are_refuted() -> None:
    found = observed(run(bare(4.0), cell("micl", "none", 3.0, seed=2), cell("micl", "mismatched-pairs@0", 3.0, seed=3)))
    assert found["help micl"].verdict == "refuted by control mismatched-pairs"
    assert found["control mismatched-pairs"].verdict == "inconclusive"


def test_preference_of_heads_without_one_is_not_supported() -> None:
    ds = trace(items=12, layers=2, heads=2, demos=3, measures=("received",), seed=1)
    # A head that spreads evenly over what it sees.
    for name in ("demo_audio", "demo_text"):
        place = list(ds["source"].values).index(name)
        ds["mass"].values[..., place] = ds["tokens"].values[:, None, None, None, place] / 1000
    ds["demo_mass"].values[:] = ds["demo_tokens"].values[:, None, None, None] / 1000
    ds["received"].values[:] = 1 / 1000
    found = observed(ds)
    assert found["preference"].verdict != "supported"
    assert "length alone would give" in found["preference by mass"].claim


def test_interventions_of_a_run_are_told() -> None:
    cut = cell("micl", "none", 3.0, seed=4)
    cut = cut.assign_coords(intervention=("item", ["knockout(output->demo_text,mask)"] * cut.sizes["item"]))
    found = observed(run(cell("micl", "none", 2.0, seed=2), cut))
    assert found["intervention knockout(output->demo_text,mask)"].verdict == "supported"
    assert found["preference"].n == 10


def test_what_lacks_says_so() -> None:
    found = observed(trace(items=8))
    assert found["costs"].verdict == "inconclusive"
    assert "nothing to compare" in found["costs"].why
    found = observed(trace(items=3))
    assert {one.verdict for one in found} == {"inconclusive"}
