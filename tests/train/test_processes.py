from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnlens.errors import BadInput
from attnlens.train.optimiser import make_optimiser
from attnlens.train.processes import Processes
from attnlens.train.spec import OptimiserSpec

SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np, torch
from attnlens.train.loop import train
from attnlens.train.spec import TrainSpec

class Line:
    metric, better, ahead = "error", "lower", True
    def __init__(self):
        torch.manual_seed(0)
        self.module = torch.nn.ModuleList([torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)])
    def batch(self, rng):
        x = rng.normal(size=(8, 4)).astype(np.float32)
        return int(rng.integers(2)), x, x.sum(1, keepdims=True)
    def loss(self, batch):
        which, x, y = batch  # the other half has no gradient in this process
        loss = ((self.module[which](torch.as_tensor(x)) - torch.as_tensor(y)) ** 2).mean()
        return loss, {f"of {which}": float(x.sum())}  # nor has every batch every figure
    def evaluate(self):
        which, x, y = self.batch(np.random.default_rng(9))
        return {"error": float(self.loss((which, x, y))[0])}
    def export(self, folder):
        folder.mkdir(exist_ok=True)

spec = TrainSpec(recipe="episodes", steps=6, accumulate=4, evaluate_every=3, save_every=3, log_every=1, device="cpu")
def tick(step, figures):
    if step == 5 and sys.argv[2:] == ["kill"]:
        os._exit(1)
print(train(spec, sys.argv[1], recipe=Line(), tick=tick))
"""


def lines(folder: Path) -> list[dict[str, object]]:
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for start, name in (([sys.executable], "one"), (launcher, "two")):
        subprocess.run([*start, str(script), str(tmp_path / name)], env=surroundings, check=True, capture_output=True)
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert len(one) == len(two) == 8
    for left, right in zip(one, two, strict=True):
        assert left.pop("dev", {}) == pytest.approx(right.pop("dev", {}), rel=1e-5)
        assert left == pytest.approx(right, rel=1e-5)
    # Killed after what step 3 has kept, two go on to the weights of two that were not.
    again = [*launcher, str(script), str(tmp_path / "killed")]
    killed = subprocess.run([*again, "kill"], env=surroundings, check=False, capture_output=True)
    assert killed.returncode != 0
    assert lines(tmp_path / "killed")[-1]["step"] in (4, 5)
    subprocess.run(again, env=surroundings, check=True, capture_output=True)
    kept = ("one", "two", "killed")
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True)["module"] for name in kept]
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-5, atol=1e-6)
        assert torch.equal(states[1][name], states[2][name])


def test_batches_that_do_not_share_out_evenly_are_refused() -> None:
    processes = Processes("cpu")
    processes.count, processes.rank = 2, 1
    assert list(processes.parts(4)) == [1, 3]
    with pytest.raises(BadInput, match="do not share out evenly"):
        processes.parts(3)


def test_a_state_of_the_plain_optimiser_loads(tmp_path: Path) -> None:
    # The format on disk is torch's own, whatever steps: runs begun before data parallelism go on.
    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = torch.nn.Linear(2, 2)
        return module, make_optimiser(module, OptimiserSpec())

    module, plain = made()
    module(torch.ones(1, 2)).sum().backward()
    plain.step()
    other, bare = made()

    class Recipe:
        pass

    stepping = Processes("cpu").prepare(Recipe(), other, bare)  # type: ignore[arg-type]
    stepping.load_state_dict(plain.state_dict())
    assert str(stepping.state_dict()) == str(plain.state_dict())
