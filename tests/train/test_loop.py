from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from attnlens.errors import BadInput, DamagedStore, UnknownName
from attnlens.train.loop import train
from attnlens.train.spec import TrainSpec, read_train_spec


class Killed(Exception):
    pass


class Line:
    """Fits a line through noise, with dropout, and counts its steps, so that every kind of state is in play."""

    metric = "error"
    better: Literal["lower", "higher"] = "lower"
    ahead = True

    def __init__(self, *, nan_at: int | None = None, done_at: int | None = None, flat: bool = False) -> None:
        torch.manual_seed(0)
        self.module: torch.nn.Module = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1)
        )
        self.nan_at, self.done_at, self.flat, self.steps = nan_at, done_at, flat, 0

    def batch(self, rng: np.random.Generator) -> Any:
        x = rng.normal(size=(16, 4)).astype(np.float32)
        return x, x.sum(1, keepdims=True)

    def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        x, y = (torch.as_tensor(one) for one in batch)
        loss = ((self.module(x) - y) ** 2).mean()
        return loss * (float("nan") if self.nan_at == self.steps + 1 else 1.0), {"steps": float(self.steps)}

    def evaluate(self) -> dict[str, float]:
        x, y = self.batch(np.random.default_rng(99))
        error = float(((self.module(torch.as_tensor(x)) - torch.as_tensor(y)) ** 2).mean().detach())
        return {"error": 1.0 if self.flat else error}

    def after_step(self, step: int, figures: dict[str, float]) -> str | None:
        self.steps += 1
        return "done" if step == self.done_at else None

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def set_state(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        torch.save(self.module.state_dict(), folder / "weights.pt")


def spec(**changes: Any) -> TrainSpec:
    fields = {"recipe": "episodes", "steps": 20, "evaluate_every": 5, "save_every": 4, "log_every": 1, "device": "cpu"}
    return TrainSpec(**{**fields, **changes})


def lines(folder: Path) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model" / "weights.pt", weights_only=True)


@pytest.mark.parametrize("optimiser", [{}, {"muon": ["0."]}], ids=["adamw", "muon"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kill_at", [1, 4, 7, 19])
def test_a_killed_run_ends_with_the_same_bits(
    tmp_path: Path, kill_at: int, accumulate: int, optimiser: dict[str, Any]
) -> None:
    one = spec(accumulate=accumulate, optimiser=optimiser)
    train(one, tmp_path / "whole", recipe=Line())

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == kill_at:
            raise Killed

    with pytest.raises(Killed):
        train(one, tmp_path / "killed", recipe=Line(), tick=kill)
    outcome = train(one, tmp_path / "killed", recipe=Line())
    assert outcome.steps == 20
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_paused_run_exports_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    train(spec(), tmp_path / "whole", recipe=Line())
    paused = train(spec(minutes=1e-9), tmp_path / "paused", recipe=Line())
    assert (paused.steps, paused.ended) == (1, "time is up")
    assert weights(tmp_path / "paused")
    outcome = train(spec(), tmp_path / "paused", recipe=Line())
    assert (outcome.steps, outcome.ended) == (20, "all steps done")
    last = [torch.load(tmp_path / one / "last.pt", weights_only=True)["module"] for one in ("whole", "paused")]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_workers_change_no_number(tmp_path: Path) -> None:
    train(spec(), tmp_path / "none", recipe=Line())
    train(spec(workers=1), tmp_path / "one", recipe=Line())
    assert lines(tmp_path / "none") == lines(tmp_path / "one")


def test_batches_that_depend_on_the_past_are_not_made_ahead(tmp_path: Path) -> None:
    recipe = Line()
    recipe.ahead = False
    with pytest.raises(BadInput, match="cannot be made ahead"):
        train(spec(workers=2), tmp_path / "run", recipe=recipe)


def test_it_learns_and_keeps_the_best(tmp_path: Path) -> None:
    recipe = Line()
    before = recipe.evaluate()["error"]
    outcome = train(spec(steps=200, optimiser={"rate": 0.02}), tmp_path / "run", recipe=recipe)
    assert outcome.best is not None
    assert outcome.best < before / 4
    devs = {line["step"]: line["dev"]["error"] for line in lines(tmp_path / "run") if "dev" in line}
    assert outcome.best == min(devs.values()) == devs[outcome.best_step or 0]
    kept = Line()
    kept.module.load_state_dict(weights(tmp_path / "run"))
    kept.module.eval()
    assert kept.evaluate()["error"] == pytest.approx(outcome.best)


def test_patience_stops_a_run_that_gets_no_better(tmp_path: Path) -> None:
    outcome = train(spec(patience=2), tmp_path / "run", recipe=Line(flat=True))
    assert (outcome.steps, outcome.best_step, outcome.ended) == (15, 5, "no better dev metric")


def test_training_ends_where_dev_is_good_enough(tmp_path: Path) -> None:
    whole = train(spec(steps=200, optimiser={"rate": 0.02}), tmp_path / "whole", recipe=Line())
    assert whole.best is not None
    outcome = train(spec(steps=200, optimiser={"rate": 0.02}, enough=2 * whole.best), tmp_path / "run", recipe=Line())
    assert outcome.ended == "the dev metric is good enough"
    assert outcome.steps == outcome.best_step
    assert outcome.steps < 200
    assert spec().hash == spec(enough=None).hash != spec(enough=1.0).hash


def test_training_ends_where_all_that_is_named_is_good_enough(tmp_path: Path) -> None:
    class Two(Line):
        def evaluate(self) -> dict[str, float]:
            found = super().evaluate()
            return {**found, "other": found[self.metric] / 4}

    def ended(folder: str, enough: Any) -> int:
        fields: dict[str, Any] = {"steps": 200, "optimiser": {"rate": 0.02}, "enough": enough}
        return train(spec(**fields), tmp_path / folder, recipe=Two()).steps

    whole = train(spec(steps=200, optimiser={"rate": 0.02}), tmp_path / "whole", recipe=Two())
    assert whole.best is not None
    metric = Line.metric
    first = ended("first", {metric: 4 * whole.best})
    assert ended("one", 4 * whole.best) == first
    assert ended("easy", {metric: 4 * whole.best, "other": 10 * whole.best}) == first
    assert ended("hard", {metric: 4 * whole.best, "other": 0.3 * whole.best}) > first
    with pytest.raises(UnknownName, match="figure of dev in enough 'wer'"):
        ended("unknown", {"wer": 1.0})


def test_a_recipe_may_end_the_run(tmp_path: Path) -> None:
    outcome = train(spec(), tmp_path / "run", recipe=Line(done_at=7))
    assert (outcome.steps, outcome.ended) == (7, "the recipe is done")
    again = train(spec(), tmp_path / "run", recipe=Line(done_at=7))
    assert (again.steps, again.ended, again.best) == (7, "finished before", outcome.best)


def test_a_nan_loss_is_told_and_the_last_state_stays(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="loss of step 10 is nan") as told:
        train(spec(), tmp_path / "run", recipe=Line(nan_at=10))
    assert "step 8" in str(told.value)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 8
    assert not (tmp_path / "run" / "model").exists()


def test_another_spec_or_folder_is_left_untouched(tmp_path: Path) -> None:
    train(spec(), tmp_path / "run", recipe=Line())
    before = {one: one.read_bytes() for one in (tmp_path / "run").rglob("*") if one.is_file()}
    with pytest.raises(BadInput, match="another spec"):
        train(spec(seed=1), tmp_path / "run", recipe=Line())
    assert before == {one: one.read_bytes() for one in (tmp_path / "run").rglob("*") if one.is_file()}
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="no training run"):
        train(spec(), tmp_path / "papers", recipe=Line())
    assert [one.name for one in (tmp_path / "papers").iterdir()] == ["thesis.txt"]


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nan"):
        train(spec(), tmp_path / "run", recipe=Line(nan_at=10))
    (tmp_path / "run" / "last.pt").write_bytes(b"PK torn")
    with pytest.raises(DamagedStore, match="cannot be read"):
        train(spec(), tmp_path / "run", recipe=Line())


def test_specs_are_refused_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="stepz"):
        TrainSpec(recipe="episodes", stepz=3)
    with pytest.raises(UnknownName, match="rat"):
        TrainSpec(recipe="episodes", optimiser={"rat": 3})
    with pytest.raises(BadInput, match=r"steps: input should be greater"):
        TrainSpec(recipe="episodes", steps=0)
    with pytest.raises(BadInput, match=r"recipe: field required"):
        TrainSpec()
    with pytest.raises(UnknownName, match="recipe"):
        train(spec(recipe="episode"), tmp_path / "run")
    with pytest.raises(BadInput, match="no spec file"):
        read_train_spec(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(BadInput, match="no mapping"):
        read_train_spec(tmp_path / "list.yaml")


def test_rates_by_prefix(tmp_path: Path) -> None:
    recipe = Line()
    before = {name: tensor.clone() for name, tensor in recipe.module.state_dict().items()}
    train(spec(optimiser={"rates": {"0.": 1e-12}, "decay": 0.0}), tmp_path / "run", recipe=recipe)
    after = recipe.module.state_dict()
    assert torch.allclose(before["0.weight"], after["0.weight"], atol=1e-9)
    assert not torch.allclose(before["2.weight"], after["2.weight"], atol=1e-4)
    with pytest.raises(BadInput, match="not there"):
        train(spec(optimiser={"rates": {"decoder.": 0.5}}), tmp_path / "other", recipe=Line())
