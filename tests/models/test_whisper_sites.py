"""Whisper's three kinds of attention as separate sites, against transformers' own eager weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.capture.sites import Kind
from attnlens.context.spans import SOURCES, Source, SpanMap
from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.models.rows import rows_of
from attnlens.models.self_check import check_model, probe

PROMPT = probe()
ANSWER = "kuna mana"
LENS = load("tiny:whisper")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def eager(site: Kind) -> torch.Tensor:
    """Weights [layers, heads, queries, keys] of one kind of attention."""
    model = load("tiny:whisper", attn="eager").model
    model.set_attn_implementation("eager")
    inner = model.model
    modules = {
        "self": [layer.self_attn for layer in inner.decoder.layers],
        "cross": [layer.encoder_attn for layer in inner.decoder.layers],
        "encoder": [layer.self_attn for layer in inner.encoder.layers],
    }[site]
    weights: list[torch.Tensor] = []
    hooks = [one.register_forward_hook(lambda m, given, made: weights.append(made[1][0])) for one in modules]
    with torch.no_grad():
        model(**LENS.inputs(LENS.encode(PROMPT, ANSWER)), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack(weights)


@pytest.mark.parametrize(
    ("site", "query"),
    [
        ("self", "output"),
        ("self", "demo_text"),
        ("cross", "output"),
        ("cross", "demo_text"),
        ("encoder", "target_audio"),
    ],
)
def test_each_site_is_eager_attention_added_up(site: Kind, query: Source) -> None:
    made = LENS.trace(PROMPT, outputs=ANSWER, site=site, queries=(query,), measures=("mass", "entropy"))
    encoded = LENS.encode(PROMPT, ANSWER)
    assert encoded.encoder_spans is not None
    keys: SpanMap = encoded.spans if site == "self" else encoded.encoder_spans
    asking = encoded.encoder_spans if site == "encoder" else encoded.spans
    picked = eager(site)[:, :, rows_of(asking, query)]
    assert made.attrs["site"] == site
    for index, source in enumerate(SOURCES):
        naive = picked[..., keys.positions(source)].sum(-1).mean(-1)
        np.testing.assert_allclose(made.mass[0, :, :, 0, index], naive, atol=3e-6, err_msg=source)
    entropy = -(picked * picked.clamp_min(1e-30).log()).sum(-1).mean(-1)
    np.testing.assert_allclose(made.entropy[0, :, :, 0], entropy, atol=1e-4)


def test_cutting_the_target_frames_is_felt_everywhere_the_decoder_looks() -> None:
    clean = float(LENS.trace(PROMPT, outputs=ANSWER).nll[0])
    with LENS.knockout(queries="output", keys="target_audio", site="cross"):
        cut = LENS.trace(PROMPT, outputs=ANSWER, site="cross")
        scored = LENS.score(PROMPT, [ANSWER])[0].total
        LENS.generate(PROMPT, max_new_tokens=2)
    assert float(cut.mass.sel(source="target_audio").max()) == 0.0
    assert abs(float(cut.nll[0]) - clean) > 1e-4
    assert scored == pytest.approx(-float(cut.nll[0]), abs=1e-4)
    assert ",cross," in cut.intervention.item()
    assert float(LENS.trace(PROMPT, outputs=ANSWER).nll[0]) == clean


def test_the_doctor_passes() -> None:
    table = check_model(LENS)
    assert table.passed, [finding for finding in table.findings if not finding.passed]


def test_sites_that_a_family_does_not_have_are_refused() -> None:
    lens = load("tiny:qwen3-asr")
    with pytest.raises(BadInput, match="no 'cross' attention"):
        lens.trace(PROMPT, outputs=ANSWER, site="cross")
    with (
        lens.knockout(queries="output", keys="target_audio", site="cross"),
        pytest.raises(BadInput, match="no encoder"),
    ):
        lens.score(PROMPT, [ANSWER])
