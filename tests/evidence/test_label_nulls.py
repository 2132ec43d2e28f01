from __future__ import annotations

import numpy as np
import pytest

import attnlens
from attnlens.context.prompt import Prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.label_nulls import _blocks, _drawn, _rotated, _tokens, label_nulls
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import trace


def test_what_the_store_holds_is_what_the_heads_gave(lens: SpeechLM, prompts: list[Prompt]) -> None:
    ds = lens.trace(prompts[:2], measures=("received",))
    for one, whole in zip(_tokens(ds), _blocks(ds), strict=True):
        assert one.mass[:, one.text].sum(1) == pytest.approx(whole.mass[:, whole.text].sum(1), abs=1e-5)
        assert one.mass[:, ~one.text].sum(1) == pytest.approx(whole.mass[:, ~whole.text].sum(1), abs=1e-5)
        assert one.text.sum() == whole.tokens[whole.text].sum()
    text = ds.mass.sel(query="output", source="demo_text").mean("head").values
    np.testing.assert_allclose([one.mass[:, one.text].sum(1) for one in _tokens(ds)], text, atol=1e-5)
    both = lens.trace(prompts[0], measures=("received",), queries=("demo_text", "output"))
    np.testing.assert_allclose(both.received.values, lens.trace(prompts[0], measures=("received",)).received, atol=1e-6)
    assert float(ds.received.sum("position").max()) == pytest.approx(1, abs=1e-4)


def test_rotations_are_those_of_a_loop() -> None:
    (one,) = _tokens(trace(items=1, measures=("received",)))
    naive = [one.mass[:, np.roll(one.text, shift)].sum(1) for shift in range(len(one.text))]
    np.testing.assert_allclose(_rotated(one), naive, atol=1e-12)


@pytest.mark.parametrize("null", ["free", "blockwise"])
def test_draws_are_those_of_a_loop(null: str) -> None:
    ds = trace(items=1, measures=("received",))
    (one,) = _tokens(ds) if null == "free" else _blocks(ds)
    found = _drawn(one, null, "log_ratio", 4_000, np.random.default_rng(0))  # type: ignore[arg-type]
    rng, naive = np.random.default_rng(1), []
    for _ in range(4_000):
        text = rng.permutation(one.text)
        density = [one.mass[:, side].sum(1) / one.tokens[side].sum() for side in (text, ~text)]
        naive.append(np.log(density[0] / density[1]))
    np.testing.assert_allclose(found.mean(0), np.mean(naive, 0), atol=5 * np.std(naive, 0).max() / 4_000**0.5 + 1e-3)
    np.testing.assert_allclose(found.std(0), np.std(naive, 0), rtol=0.1)


def _flat(ds: object, preferred: float, seed: int) -> object:
    """Rewrite what is received: every token gamma-distributed, those of text so many times as much."""
    rng = np.random.default_rng(seed)
    made = ds.copy(deep=True)  # type: ignore[attr-defined]
    counts = made["demo_tokens"].values
    starts = made["demo_start"].values
    for item, layer in np.ndindex(*made["received"].shape[:2]):
        row = rng.gamma(1.0, size=made.sizes["position"])
        for demo in range(counts.shape[1]):
            row[starts[item, demo, 1] : starts[item, demo, 1] + counts[item, demo, 1]] *= preferred
        row /= row.sum()
        made["received"].values[item, layer] = row
        for demo, place in np.ndindex(*counts.shape[1:]):
            start = starts[item, demo, place]
            made["demo_mass"].values[item, layer, :, 0, demo, place] = row[
                start : start + counts[item, demo, place]
            ].sum()
    return made


def test_a_preference_per_token_survives_and_its_absence_does_not() -> None:
    base = trace(items=12, layers=2, heads=1, demos=4, measures=("received",))
    strong = label_nulls(_flat(base, 3.0, 0))  # type: ignore[arg-type]
    assert (strong.observed > 0.7).all()
    for name in ("free", "blockwise", "circular"):
        assert (strong.tests[name].p_family <= 0.05).all(), name
        assert strong.against(0)[0].outcome == "withstood"
    none = label_nulls(_flat(base, 1.0, 1))  # type: ignore[arg-type]
    assert (none.tests["free"].p_family > 0.01).all()
    # The paper's bias of such a head is far from 0, and all of it is length.
    bias = label_nulls(_flat(base, 1.0, 1), statistic="bias")  # type: ignore[arg-type]
    assert (bias.observed < -0.3).all()
    np.testing.assert_allclose(bias.explained["free"], bias.observed, atol=0.06)
    assert bias.against(0)[0].outcome == "failed"
    assert "length alone" in str(bias)
    figure = attnlens.plot.modality_bias(_flat(base, 1.0, 1), null=bias.band("free"))  # type: ignore[arg-type]
    assert figure.name == "modality_bias"


def test_tests_under_the_null_are_at_their_level() -> None:
    base = trace(items=6, layers=1, heads=1, demos=3, measures=("received",))
    p = [float(label_nulls(_flat(base, 1.0, seed), nulls=["free"], draws=199).tests["free"].p[0]) for seed in range(80)]  # type: ignore[arg-type]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 80) ** 0.5
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.2)


def test_blocks_alone_do_without_token_masses() -> None:
    found = label_nulls(trace(items=4))
    assert list(found.tests) == ["blockwise"]
    assert set(found.absent) == {"free", "circular"}
    assert [one.outcome for one in found.against(1)][1:] == ["undefined", "undefined"]
    assert len(found.to_frame()) == 3


def test_seeds_of_an_utterance_are_averaged_first() -> None:
    ds = trace(items=4, seed=3)
    doubled = ds.isel(item=[0, 0, 0, 1, 2, 3])
    np.testing.assert_allclose(label_nulls(doubled).observed, label_nulls(ds).observed)


def test_bad_input() -> None:
    ds = trace(items=3)
    with pytest.raises(UnknownName, match="label null"):
        label_nulls(ds, nulls=["blocks"])  # type: ignore[list-item]
    with pytest.raises(UnknownName, match="statistic"):
        label_nulls(ds, statistic="density")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no null"):
        label_nulls(ds, nulls=[])
    silent = ds.copy(deep=True)
    silent["demo_tokens"].values[..., 0] = 0
    with pytest.raises(BadInput, match="audio and text"):
        label_nulls(silent)
    with pytest.raises(BadInput, match="draws"):
        label_nulls(ds, draws=5)
