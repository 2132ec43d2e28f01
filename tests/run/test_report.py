"""From a finished run to its page: detail of chosen items is measured once, and is what a trace of them would say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnlens.errors import BadInput
from attnlens.plots.tokens import read_tokens
from attnlens.run import tokens as module
from attnlens.run.carry_out import run_spec
from attnlens.run.report import report_run
from attnlens.run.spec import RunSpec
from attnlens.run.tokens import keep_details
from attnlens.traces.reading import open_traces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small finished run."""
    path = tmp_path_factory.mktemp("runs") / "run"
    spec = RunSpec(
        model={"name": "tiny:qwen3-asr"},
        data={"corpora": "synthetic", "limit": 1},
        execution={"after": []},
        context={"conditions": "micl", "shots": "2"},
        decoding={"max_new_tokens": 2},
        tracing={"measures": "logit_effect"},
    )
    assert run_spec(spec, path).ended == "finished"
    return path


def test_detail_of_a_run_is_what_it_traced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = keep_details(folder, utterances=1)
    assert len(names) == 2, "as it is and under the control"
    traced = open_traces(folder / "traces.zarr").set_index(item="item")
    kept = read_tokens(folder)
    assert set(kept) == set(names)
    for name, one in kept.items():
        item = traced.sel(item=name).isel(query=0)
        np.testing.assert_allclose(one.detail.token_mass.mean("token"), item.mass, atol=1e-6)
        assert one.about["control"] in ("none", "mismatched-pairs")
        assert set(one.clips) == {"demo_audio 1", "demo_audio 2", "target_audio"}
    monkeypatch.setattr(module, "Bench", None)
    assert keep_details(folder, utterances=1) == names, "nothing is measured twice"


@pytest.mark.slow
def test_a_run_gets_its_page(folder: Path) -> None:
    report = report_run(folder, utterances=1)
    assert report.page.exists()
    assert {"modality_bias", "clip_attention", "layer_head_logit_effect"} <= set(report.figures)
    assert len(report.items) == 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no spec"):
        keep_details(tmp_path)
    (tmp_path / "spec.yaml").write_text("name: x\n", encoding="utf-8")
    with pytest.raises(BadInput, match="at least one utterance"):
        keep_details(tmp_path, utterances=0)
