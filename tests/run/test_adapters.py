from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.cli.main import run
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput
from attnlens.run.adapters import adapter_specs, open_compared, parse_adapters
from attnlens.run.carry_out import run_spec
from attnlens.run.folder import RunFolder
from attnlens.run.plan import make_plan
from attnlens.run.spec import RunSpec
from attnlens.testing import clip, tiny

FLAGS = ("--model", "tiny:qwen3-asr", "--corpora", "synthetic", "--conditions", "asr,micl", "--shots", "1")
SETS = ("data.limit=4", "decoding.max_new_tokens=2", "decoding.conditions=asr", "execution.after=[]")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    from peft import LoraConfig

    lens = tiny("qwen3-asr")
    lens.model.add_adapter(LoraConfig(r=2, target_modules=r"model\.language_model\.layers\..*(q_proj|k_proj)"))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in lens.model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.5)
    lens.model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(list(arguments))
    return int(ended.value.code or 0)


def test_adapters_are_compared_on_the_same_prompts(
    tmp_path: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for one in SETS for part in ("--set", one)]
    command = ["run", *FLAGS, *sets, "--controls", "none", "--out", str(tmp_path / "out"), "--json"]
    assert called(*command, "--compare", f"base=none,xft={adapter}") == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["measure"]: row for row in told["differences"] if row["condition"] == "micl"}
    assert {"bias", "nll_per_char"} <= set(rows)
    assert all((row["adapter"], row["against"], row["utterances"]) == ("xft", "base", 4) for row in rows.values())
    both = open_compared(tmp_path / "out")
    assert set(both["adapter"].values) == {"base", "xft"}
    means = both["nll"].groupby("adapter").sum()
    # The table's difference is what the stores say, condition by condition.
    micl = both.isel(item=np.flatnonzero(both["condition"].values == "micl"))
    each = micl["nll"].groupby("adapter").sum() / micl["n_chars"].groupby("adapter").sum()
    assert rows["nll_per_char"]["difference"] == pytest.approx(float(each[1] - each[0]), rel=1e-3)
    assert float(means[0]) != float(means[1])
    assert (tmp_path / "out" / "figures" / "bias_change.png").is_file()
    assert called(*command, "--compare", f"base=none,xft={adapter}") == 0
    assert json.loads(capsys.readouterr().out)["differences"] == told["differences"]


@pytest.mark.parametrize("given", ["base", "base=none", "base=none,base=own", "base=,xft=x", "a b=none,c=own"])
def test_comparisons_that_are_none_are_refused(given: str) -> None:
    with pytest.raises(BadInput):
        parse_adapters(given)


def test_adapters_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no adapter 'xft'"):
        adapter_specs(RunSpec(), {"base": "none", "xft": str(tmp_path)})


def long(target: float) -> Corpus:
    pool = tuple(Utterance(f"p{n}", clip(seconds=12.0, seed=n), f"ka{n}", "xx") for n in range(3))
    return Corpus("long", "xx", {"pool": pool, "test": (Utterance("t", clip(seconds=target, seed=9), "su", "xx"),)})


def test_frames_lost_to_whispers_window_are_refused_or_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("attnlens.run.plan.find_corpus", lambda name, **_: long(10.0))
    wanted = {"conditions": "micl", "shots": "1,2", "retriever": "first", "controls": []}

    def spec(**context: str) -> RunSpec:
        return RunSpec(
            model={"name": "tiny:whisper"},
            data={"corpora": "long"},
            context={**wanted, **context},
            decoding={"conditions": []},
            execution={"after": []},
        )

    with pytest.raises(BadInput, match="longer together than Whisper's window"):
        make_plan(spec())
    fewer = make_plan(spec(on_overflow="fewer-shots"))
    assert [(item.asked, item.prompt.shots) for item in fewer.items] == [(1, 1), (2, 1)]
    outcome = run_spec(spec(on_overflow="cut-window"), tmp_path / "run")
    rows = RunFolder(outcome.folder).read_items()
    assert [(row["frames_lost"], row["target_frames_lost"]) for row in rows] == [("0", "0"), ("200", "200")]
    with pytest.raises(BadInput, match="no window to cut"):
        make_plan(
            RunSpec(model={"name": "tiny:voxtral"}, data={"corpora": "long"}, context={"on_overflow": "cut-window"})
        )
