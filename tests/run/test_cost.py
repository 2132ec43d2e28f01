"""Costs of published checkpoints that are not here: their sizes, and what a plan makes of them."""

from __future__ import annotations

import json

import pytest

from attnlens.cli.main import run
from attnlens.errors import UnknownName
from attnlens.models.dimensions import KNOWN, is_here, sized_front_end
from attnlens.run.estimate import estimate
from attnlens.run.hardware import GPUS, find_gpu, seconds_on
from attnlens.run.plan import make_plan
from tests.run.conftest import small

PHI = "microsoft/Phi-4-multimodal-instruct"
OMNI = "Qwen/Qwen3-Omni-30B-A3B-Instruct"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # Planning must not ask the network; with this it could not.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_sizes_agree_with_the_counts_that_are_published() -> None:
    phi, omni = KNOWN[PHI], KNOWN[OMNI]
    # transformers' class with these widths has 3,221,422,080 parameters in its layers, 2 x 32 norms of 3,072 among them
    assert phi.active == 3_221_422_080 - 2 * 32 * 3072
    adapter = 320 * phi.layers * ((3072 + 5120) + (3072 + 3072) + (3072 + 16384) + (8192 + 3072))
    assert adapter == 461_373_440
    assert 3.0e9 < omni.active + 2 * omni.hidden * omni.vocabulary < 3.5e9, "3.3 billion are said to be active"


@pytest.mark.parametrize("name", KNOWN)
def test_a_front_end_of_the_right_size(name: str) -> None:
    assert not is_here(name)
    front = sized_front_end(name)
    text = front.config.get_text_config(decoder=True)
    assert (text.num_hidden_layers, text.num_attention_heads) == (KNOWN[name].layers, KNOWN[name].heads)
    assert front.context_length == KNOWN[name].context


@pytest.mark.parametrize("name", [PHI, OMNI])
def test_costs_without_the_checkpoint(name: str) -> None:
    front = sized_front_end(name)
    plan = make_plan(small(model__name=name), front=front)
    cost = estimate(plan, front=front)
    assert cost.weights == 2 * KNOWN[name].parameters
    assert cost.memory is not None
    assert cost.memory > cost.weights
    assert cost.active_bytes == 2 * KNOWN[name].active
    passes = sum((1 + item.transcribed) * item.positions for item in plan.items)
    assert cost.operations == pytest.approx(2 * KNOWN[name].active * passes, rel=0.1)
    gpu = find_gpu("a100-80gb")
    reading = seconds_on(gpu, operations=cost.operations, written=0, active_bytes=0)
    written = seconds_on(gpu, operations=cost.operations, written=100, active_bytes=cost.active_bytes)
    assert written - reading == pytest.approx(100 * cost.active_bytes / (0.5 * gpu.bandwidth))


def test_the_command_says_what_it_reckoned_from(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "--model", PHI, "--corpora", "synthetic", "--shots", "2", "--gpu", "a100-80gb", "--json"]
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 0
    assert "not on this machine" in captured.err
    assert json.loads(captured.out)["estimate"]["gpu_seconds"] > 0


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown GPU"):
        find_gpu("a100-80")
    with pytest.raises(UnknownName, match="published checkpoint"):
        sized_front_end("microsoft/Phi-5")
    assert list(GPUS)
