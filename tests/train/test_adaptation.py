"""The recipes of adaptation, from their own YAML files through the command, on tiny random models that overfit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from attnlens.cli.main import run
from attnlens.errors import BadInput, UnknownName
from attnlens.models.load import load
from attnlens.models.self_check import probe
from attnlens.models.speechlm import SpeechLM
from attnlens.testing import tiny
from attnlens.train.cost import Cost
from attnlens.train.loop import train
from attnlens.train.spec import TrainSpec, read_train_spec

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"
Made = Callable[..., Path]
FAST: dict[str, Any] = {
    "accumulate": 1,
    "evaluate_every": 15,
    "save_every": 15,
    "log_every": 1,
    "device": "cpu",
    "precision": "float32",
    "optimiser": {"rate": 0.02, "warmup": 3, "schedule": "constant"},
}
SMALL: dict[str, Any] = {"batch_size": 2, "dev_episodes": 1, "dtype": "float32"}


def changed(name: str, *, steps: int, options: dict[str, Any]) -> dict[str, Any]:
    """The recipe as it stands in its file, on a stand-in: another model, other data, a faster optimiser."""
    fields = read_train_spec(RECIPES / f"{name}.yaml").model_dump()
    kept = fields["options"]
    return {**fields, **FAST, "steps": steps, "options": {**kept, **SMALL, **options}}


def called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["train", *arguments])
    return int(ended.value.code or 0)


def trained(folder: Path, fields: dict[str, Any]) -> list[dict[str, Any]]:
    (folder / "spec.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    assert called(str(folder / "spec.yaml"), "--out", str(folder / "run"), "--quiet") == 0
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


def logits(lens: SpeechLM) -> torch.Tensor:
    return lens.logits(lens.inputs(lens.encode(probe(), "kuna mana")))


def stand_in(family: str, folder: Path) -> str:
    """A tiny random model as a checkpoint folder, whose frozen unembedding can say something at all."""
    lens = tiny(family)
    with torch.no_grad():
        lens.back.unembedding.weight.mul_(30)
    for part in (lens.model, lens.front.tokenizer, lens.front.extractor):
        part.save_pretrained(folder)
    if family == "phi4-multimodal":
        from peft import LoraConfig

        torch.manual_seed(1)
        lens.model.add_adapter(LoraConfig(r=8, target_modules=r"model\.layers\..*(qkv_proj|o_proj|down_proj)"))
        lens.model.save_pretrained(folder / "speech-lora")
    return str(folder)


OWN = ("asr-ft", "tft", "xft")


@pytest.mark.parametrize("name", OWN)
def test_phi4s_own_adapter_overfits_a_handful(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = stand_in("phi4-multimodal", tmp_path / "phi4")
    corpus = made("one", language="kjj" if name == "tft" else "fin", pool=3, dev=1)
    options: dict[str, Any] = {"model": model, "corpora": [str(corpus)], "templates": {"default": 1}}
    if name != "asr-ft":
        options |= {"shots": {1: 1, 2: 1}}
    lines = trained(tmp_path, changed(name, steps=25 if name == "xft" else 4, options=options))
    losses = [line["loss"] for line in lines if "loss" in line]
    if name == "xft":
        assert np.mean(losses[-3:]) < np.mean(losses[:3]) / 2
    before, after = load(model), load(model, adapter=str(tmp_path / "run" / "model"))
    assert not torch.allclose(logits(before), logits(after), atol=1e-3)
    told = json.loads((tmp_path / "run" / "model" / "training.json").read_text())
    assert told["spec"]["recipe"] == name
    assert told["base"]["model"] == model
    assert told["languages"] == ["kjj" if name == "tft" else "fin"]


def test_sicl_at_mixes_tasks_on_qwen(made: Made, tmp_path: Path) -> None:
    asked = {
        name: {
            "corpora": [str(made(name, seed=seed, questions=None if name == "asr" else f"what {name}?"))],
            "hypotheses": str(tmp_path / "data" / name / "heard.jsonl"),
            **({} if name == "asr" else {"templates": {"question": 1}}),
        }
        for seed, name in enumerate(("asr", "st", "sqa"))
    }
    options = {
        "model": stand_in("qwen2.5-omni", tmp_path / "omni"),
        "tasks": asked,
        "shots": {1: 1},
        "retriever": "ticl",
    }
    fields = changed("sicl-at", steps=25, options=options)
    assert fields["options"]["adapter"] == {"kind": "lora", "rank": 8, "alpha": 32, "where": ["decoder"]}
    losses = [line["loss"] for line in trained(tmp_path, fields) if "loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) * 0.7
    config = json.loads((tmp_path / "run" / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (8, 32, "LORA")
    load(str(tmp_path / "omni"), adapter=str(tmp_path / "run" / "model"))


def test_smile_trains_whisper_and_its_ranks_fall(made: Made, tmp_path: Path) -> None:
    adapter = {"kind": "adalora", "where": ["encoder", "decoder"], "initial_rank": 6, "final_rank": 2}
    adapter |= {"warmup": 2, "settled": 4, "every": 2, "orthogonality": 0.1}
    options = {
        "model": stand_in("whisper", tmp_path / "whisper"),
        "corpora": [str(made("one", pool=2, dev=1))],
        "adapter": adapter,
    }
    lines = trained(tmp_path, changed("smile", steps=15, options={**options, "batch_size": 1, "dev_episodes": 1}))
    losses = [line["nll"] for line in lines if "nll" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) * 0.7
    lens = load(str(tmp_path / "whisper"), adapter=str(tmp_path / "run" / "model"))
    left = [
        int((value != 0).sum())
        for name, value in torch.load(tmp_path / "run" / "last.pt", weights_only=True)["module"].items()
        if "lora_E" in name
    ]
    assert np.mean(left) <= 2.5
    assert not torch.allclose(logits(lens), logits(load(str(tmp_path / "whisper"))), atol=1e-3)
    # k-shot with the trained adapter, as published at inference: one pair, nearest by divergence.
    assert lens.generate(probe(), max_new_tokens=2).ids.size <= 2


@pytest.mark.parametrize("kind", ["dora", "adalora", "lora"])
def test_a_killed_adaptation_ends_with_the_same_weights_and_loads_the_same(
    made: Made, tmp_path: Path, kind: str
) -> None:
    adapter: dict[str, Any] = {"kind": kind, "rank": 4, "initial_rank": 4, "final_rank": 2, "warmup": 1, "settled": 1}
    if kind == "lora":
        adapter["modules"] = ["projector"]
    options = {"model": "tiny:qwen3-asr", "corpora": [str(made("one"))], "shots": {1: 1}, "adapter": adapter}
    fields = {**FAST, "recipe": "episodes", "steps": 6, "save_every": 2, "evaluate_every": 3}
    spec = TrainSpec(**fields, options={**SMALL, **options, "checkpointing": "on"})

    class Killed(Exception):
        pass

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    train(spec, tmp_path / "whole")
    with pytest.raises(Killed):
        train(spec, tmp_path / "killed", tick=kill)
    train(spec, tmp_path / "killed")
    states = [torch.load(tmp_path / one / "last.pt", weights_only=True)["module"] for one in ("whole", "killed")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # What is kept is what is trained, and no copy of the frozen model.
    assert all("lora_" in name or "projector" in name for name in states[0])
    one, other = (load("tiny:qwen3-asr", adapter=str(tmp_path / run / "model")) for run in ("whole", "killed"))
    assert torch.equal(logits(one), logits(other))


def test_named_modules_are_trained_in_full(made: Made, tmp_path: Path) -> None:
    options = {"model": "tiny:qwen3-asr", "corpora": [str(made("one"))], "adapter": {"modules": ["projector"]}}
    fields = {**FAST, "recipe": "episodes", "steps": 3, "options": {**SMALL, **options, "shots": {1: 1}}}
    train(TrainSpec(**fields), tmp_path / "run")
    before, after = tiny("qwen3-asr").model.state_dict(), load(str(tmp_path / "run" / "model")).model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("multi_modal_projector" in name for name in moved)


def test_languages_that_overlap_are_refused_before_loading(made: Made, tmp_path: Path) -> None:
    def spec(recipe: str, language: str, **options: Any) -> TrainSpec:
        corpus = str(made(f"{recipe}-{language}-{len(options)}", language=language))
        given = {**SMALL, "model": "no/such-model", "corpora": [corpus], "shots": {1: 1}, **options}
        return TrainSpec(**FAST, recipe=recipe, steps=2, options=given)

    with pytest.raises(BadInput, match="training languages are target languages"):
        train(spec("xft", "qu", target_languages=["quy"]), tmp_path / "a")
    with pytest.raises(BadInput, match="none is named"):
        train(spec("xft", "fin"), tmp_path / "b")
    with pytest.raises(BadInput, match="corpora of other languages"):
        train(spec("tft", "fin", target_languages=["quy"]), tmp_path / "c")
    with pytest.raises(BadInput, match="shows no demonstrations"):
        train(spec("asr-ft", "fin"), tmp_path / "d")
    with pytest.raises(BadInput, match="trains by AdaLoRA"):
        train(spec("smile", "fin"), tmp_path / "e")
    allowed = spec("xft", "qu", target_languages=["quy"], overlap="allow", model="tiny:qwen3-asr")
    assert train(allowed, tmp_path / "f").steps == 2


def test_bad_adapters_and_tasks_are_refused(made: Made, tmp_path: Path) -> None:
    corpus = str(made("one"))

    def attempt(**options: Any) -> None:
        given = {**SMALL, "model": "tiny:qwen3-asr", "shots": {1: 1}, **options}
        if "tasks" not in given:
            given["corpora"] = [corpus]
        train(TrainSpec(**FAST, recipe="episodes", steps=4, options=given), tmp_path / "run")

    with pytest.raises(UnknownName, match="q_prj"):
        attempt(adapter={"kind": "lora", "targets": ["q_prj"]})
    with pytest.raises(UnknownName, match="elsewhere"):
        attempt(adapter={"kind": "lora", "where": ["elsewhere"]})
    with pytest.raises(BadInput, match="no adapter of its own"):
        attempt(adapter={"kind": "own"})
    with pytest.raises(BadInput, match="nothing is trained"):
        attempt(adapter={"kind": "none"})
    with pytest.raises(BadInput, match="no step left"):
        attempt(adapter={"kind": "adalora", "warmup": 4})
    with pytest.raises(BadInput, match="ranks do not fall"):
        attempt(adapter={"kind": "adalora", "initial_rank": 2, "final_rank": 2})
    with pytest.raises(BadInput, match="has no projector"):
        attempt(model="tiny:whisper", adapter={"kind": "lora", "where": ["projector"]})
    with pytest.raises(BadInput, match="has no corpora"):
        attempt(tasks={"asr": {"corpora": [corpus]}, "st": {"corpora": []}})
    with pytest.raises(BadInput, match="never drawn"):
        attempt(tasks={"asr": {"corpora": [corpus], "weight": 0}})
    with pytest.raises(BadInput, match="no corpus matches"):
        attempt(tasks={"asr": {"corpora": [f"{tmp_path}/nowhere/*"]}})
    with pytest.raises(BadInput, match="nothing to ask"):
        attempt(templates={"question": 1})
    assert not (tmp_path / "run" / "model").exists()


def test_an_adapter_of_other_weights_is_refused(made: Made, tmp_path: Path) -> None:
    options = {"model": "tiny:qwen3-asr", "corpora": [str(made("one"))], "shots": {1: 1}, "adapter": {"kind": "lora"}}
    train(TrainSpec(**FAST, recipe="episodes", steps=2, options={**SMALL, **options}), tmp_path / "run")
    adapter = str(tmp_path / "run" / "model")
    load("tiny:qwen3-asr", adapter=adapter)
    with pytest.raises(BadInput, match="trained on another model"):
        load("tiny:qwen3-asr", adapter=adapter, seed=1)
    with pytest.raises(BadInput, match="trained on another model"):
        load("tiny:qwen2-audio", adapter=adapter)


def test_the_cost_is_told_first_and_changes_nothing(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = str(made("one"))
    options = {**SMALL, "model": "tiny:qwen3-asr", "corpora": [corpus], "shots": {1: 1}, "adapter": {"kind": "lora"}}
    fields = {**FAST, "recipe": "episodes", "steps": 3, "options": options}
    spec = TrainSpec(**fields)
    costs: list[Cost] = []
    train(spec, tmp_path / "silent")
    train(spec, tmp_path / "told", planned=costs.append)
    states = [torch.load(tmp_path / one / "last.pt", weights_only=True)["module"] for one in ("silent", "told")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    cost = costs[0]
    trained = sum(one.numel() for one in states[0].values())
    assert (cost.trained, cost.states) == (trained, 12 * trained)
    assert cost.parameters > trained
    assert cost.weights < cost.memory == cost.weights + cost.states + cost.activations
    assert cost.activations > 0
    assert cost.seconds >= 3 * cost.batch_seconds > 0
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    assert called(str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "run")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "parameters are trained; about" in said
    assert said.index("of memory") < said.index("a batch, so about")


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_spec_of_recipes_and_open_questions_is_read(path: Path) -> None:
    from attnlens.context.retrieval import make
    from attnlens.run.load import load_spec

    keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "languages" in keys:
        return
    if "recipe" in keys:
        spec = read_train_spec(path)
        assert spec.options["model"]
        return
    make(load_spec(path).context.retriever)
    for command in re.findall(r"in (.+); do", path.read_text(encoding="utf-8")):
        for name in command.split():
            if name.split(":")[0] in {"kl", "audio", "ticl", "random"}:
                make(name)
