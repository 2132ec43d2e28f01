"""Token-level detail against the trace of the same prompt, which adds the same numbers up."""

from __future__ import annotations

import numpy as np
import pytest

from attnlens.context.spans import SOURCES
from attnlens.errors import BadInput, UnknownName
from attnlens.models import detail as module
from attnlens.models.detail import token_detail
from attnlens.models.self_check import probe
from attnlens.testing import tiny


@pytest.mark.parametrize("family", ["qwen3-asr", "voxtral"])
def test_it_adds_up_to_the_trace(family: str) -> None:
    lens, prompt = tiny(family), probe()
    detail = token_detail(lens, prompt, output="kami su", measures=["weights", "effects"])
    traced = lens.trace(prompt, outputs="kami su", measures=["mass", "logit_effect"]).isel(item=0, query=0)
    np.testing.assert_allclose(detail.token_mass.mean("token"), traced.mass, atol=1e-6)
    of = np.array([SOURCES.index(label.split()[0]) for label in detail.key_label.values])
    for name, whole in (("weights", traced.mass), ("effects", traced.logit_effect)):
        sums = [detail[name].mean("token").values[..., of == number].sum(-1) for number in range(len(SOURCES))]
        np.testing.assert_allclose(np.stack(sums, -1), whole, atol=1e-6)
    np.testing.assert_allclose(detail.received, detail.weights.mean("token"), atol=1e-7)


def test_seconds_run_through_each_clip() -> None:
    prompt = probe()
    detail = token_detail(tiny("qwen3-asr"), prompt, output="ka")
    for number, one in enumerate(prompt.demonstrations):
        assert one.audio is not None
        times = detail.seconds.values[detail.key_label.values == f"demo_audio {number + 1}"]
        times = times[np.isfinite(times)]
        assert (np.diff(times) > 0).all()
        assert times[0] == pytest.approx(one.audio.seconds - times[-1], abs=1e-4)
    assert np.isnan(detail.seconds.values[detail.key_label.values == "demo_text 1"]).all()


def test_what_cannot_be_measured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lens, prompt = tiny("qwen3-asr"), probe()
    with pytest.raises(UnknownName, match="token-level measure"):
        token_detail(lens, prompt, measures=["mass"])  # type: ignore[list-item]
    with pytest.raises(BadInput, match="is empty"):
        token_detail(lens, prompt, output=" ")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(BadInput, match="pass layers="):
        token_detail(lens, prompt)
