"""What is told of a re-ranking, an ablation or a training before it runs is what it then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlens
from attnlens.asr.rerank_spec import RerankSpec
from attnlens.cli.main import run
from attnlens.data.read import read_corpus
from attnlens.errors import BadInput, UnknownName
from attnlens.evidence.measure import Bench
from attnlens.models.dimensions import KNOWN
from attnlens.models.load import load
from attnlens.models.replay import Replay
from attnlens.run.ablation import prompts_of
from attnlens.run.ablation_spec import AblationSpec
from attnlens.run.corpora import find_corpus
from attnlens.run.forecast import Forecast, SizedModel
from attnlens.run.forecast_ablation import forecast_ablation
from attnlens.run.forecast_rerank import forecast_rerank
from attnlens.run.forecast_training import forecast_training
from attnlens.run.kinds import changed, kind_of_spec, read_any_spec
from attnlens.run.price import forecast
from attnlens.run.spec import RunSpec
from attnlens.run.stand_in import find_or_stand_in, published_corpus
from attnlens.train.recipe import make_recipe
from attnlens.train.spec import TrainSpec

SPEECH = Path(attnlens.__file__).parent / "organism" / "files" / "corpora" / "maori" / "manifest.jsonl"
PHI = "microsoft/Phi-4-multimodal-instruct"


def counts(found: Forecast) -> dict[str, int]:
    return {one.does: one.count for one in found.steps}


def test_a_list_is_read_as_its_prompt_once_and_its_hypotheses_after_it() -> None:
    part = {"model": "tiny:qwen3-asr", "shots": 0, "controls": [], "prompted": "loops"}
    spec = RerankSpec(corpora=["synthetic"], limit=2, selector=part, ngram=None, acoustic={"n": 4})
    found = forecast_rerank(spec)
    lens, speech = load("tiny:qwen3-asr"), find_corpus("synthetic")
    from attnlens.context.build import build_prompt

    read = 0
    for one in speech.test[:2]:
        prompt = build_prompt(one, [], condition="asr")
        before = len(lens.encode(prompt).ids)
        read += before + 4 * (len(lens.encode(prompt, one.text).ids) - before)
    steps = {one.does: one for one in found.steps}
    assert steps["score the lists of test"].positions == read
    assert steps["score the lists of test"].count == 2
    assert steps["write transcripts"].tokens_made == 400


def test_controls_the_n_gram_model_and_a_missing_selector_count() -> None:
    many = forecast_rerank(RerankSpec(corpora=["synthetic"], selector={"shots": 2, "controls": ["mismatched-pairs"]}))
    assert counts(many)["score under mismatched-pairs"] == 4
    assert counts(many)["search again with the n-gram model"] == 4 + 2 * 3 * 2
    assert many.cost.weights is not None
    assert many.cost.memory is not None
    assert many.cost.memory > many.cost.weights
    twice = forecast_rerank(RerankSpec(corpora=["synthetic"], selector={"shots": 2}, seeds=[0, 1]))
    assert counts(twice)["score under mismatched-pairs"] == 8
    assert counts(twice)["search again with the n-gram model"] == counts(many)["search again with the n-gram model"]
    alone = forecast_rerank(RerankSpec(corpora=["synthetic"], selector=None))
    assert alone.cost.positions == 0
    assert alone.cost.memory is None
    assert alone.cost.disk > 0


def test_cuts_are_as_many_as_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"edges": ["output -> demo_text", "demo_text -> demo_audio"], "ablations": []}
    spec = AblationSpec(
        model="tiny:qwen3-asr", corpora=["synthetic"], limit=2, shots=2, retriever="random", heads="off", **options
    )
    told = counts(forecast_ablation(spec))
    made = 0
    real = Replay.nll

    def counted(self: Replay, *given: Any, **more: Any) -> float:
        nonlocal made
        made += 1
        return real(self, *given, **more)

    monkeypatch.setattr(Replay, "nll", counted)
    from attnlens.evidence.asked import Cut
    from attnlens.evidence.edges import edge, windows

    lens, prompts = load("tiny:qwen3-asr"), prompts_of(spec, find_corpus("synthetic"))
    plan = [
        (Cut(edge(name)), layers)
        for name in options["edges"]
        for layers in [*windows(lens.n_layers), tuple(range(lens.n_layers))]
    ]
    bench = Bench(lens, prompts, plan, how="mask", controls=spec.controls, corpora=[], seed=0)
    for place in range(len(prompts)):
        bench.measure(place)
    # Random keys may find nothing to cut.
    assert 0.7 * told["cut edges"] <= made <= told["cut edges"]


def test_batches_are_as_long_as_those_that_are_drawn() -> None:
    options: dict[str, Any] = {
        "model": "tiny:qwen3-asr",
        "corpora": [str(SPEECH)],
        "shots": {1: 1, 2: 1},
        "target_languages": [read_corpus(SPEECH).language],
        "adapter": {"kind": "lora", "rank": 4},
        "batch_size": 3,
        "dev_episodes": 2,
    }
    spec = TrainSpec(recipe="tft", steps=10, evaluate_every=5, options=options)
    found = forecast_training(spec)
    recipe = make_recipe("tft", seed=0, device="cpu", steps=10, options=options)
    rng = np.random.default_rng(3)
    drawn = [3 * max(len(one.targets) for one in recipe.batch(rng)) for _ in range(40)]
    assert found.steps[0].positions / 10 == pytest.approx(np.mean(drawn), rel=0.1)
    assert counts(found) == {"learn from batches of 3": 10, "ask dev prompts": 4}
    trained = sum(one.numel() for one in recipe.module.parameters() if one.requires_grad)
    assert f"at most {trained:,} parameters" in " ".join(found.remarks)
    measured = forecast(spec, measure=True)
    assert measured.cost.seconds is not None
    assert f"{trained:,} of" in measured.remarks[0]


def test_the_paper_s_adapter_has_the_size_it_has() -> None:
    found = forecast_training(
        TrainSpec(
            recipe="tft",
            options={
                "model": PHI,
                "corpora": ["corpora/mboshi"],
                "adapter": {"kind": "own"},
                "target_languages": ["mdw"],
            },
        )
    )
    assert "461,373,440 parameters are trained" in " ".join(found.remarks)
    assert found.cost.memory is not None
    assert found.cost.memory > 2 * KNOWN[PHI].parameters + 12 * 461_373_440


def test_a_recipe_of_another_kind_says_how_to_know() -> None:
    found = forecast_training(TrainSpec(recipe="organism-joint", steps=7, options={"pool": "x"}))
    assert found.steps[0].count == 7
    assert "--measure" in found.remarks[0]
    with pytest.raises(UnknownName, match="option of the recipe"):
        forecast_training(TrainSpec(recipe="tft", options={"modle": PHI}))


def test_corpora_that_are_published_stand_in_and_others_are_refused() -> None:
    found, remarks = find_or_stand_in([str(SPEECH), "anywhere/kichwa"])
    assert len(remarks) == 1
    assert remarks[0].startswith("anywhere/kichwa is not here")
    hours = sum(one.audio.seconds for one in found[1].pool) / 3600
    assert hours == pytest.approx(3.05, abs=0.01)
    assert len({one.text for one in found[1]}) == len(found[1])
    assert published_corpus("corpora/nahuatl") is None
    with pytest.raises(UnknownName, match="unknown corpus"):
        find_or_stand_in(["corpora/nahuatl"])


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, "run"),
        ({"name": "x"}, "run"),
        ({"model": {"name": "organism"}}, "run"),
        ({"corpora": ["x"], "acoustic": {}}, "rerank"),
        ({"model": "organism", "heads": "off"}, "ablate"),
        ({"recipe": "tft"}, "train"),
        ({"recipe": "tft", "stepz": 3, "options": {}}, "train"),
        ({"corpora": ["x"], "rulez": [], "selector": None}, "rerank"),
    ],
)
def test_kinds_are_told_by_their_keys(fields: dict[str, Any], kind: str) -> None:
    assert kind_of_spec(fields) == kind


@pytest.mark.parametrize(("text", "why"), [("colour: red", "no known kind"), ("corpora: [x]", "several kinds")])
def test_a_spec_of_no_known_kind_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=why) as refused:
        read_any_spec(path)
    assert "rerank (" in str(refused.value)


def test_changes_reach_every_kind() -> None:
    assert changed(AblationSpec(), {"shots": 3}).shots == 3
    assert changed(RunSpec(), {"context.shots": [3]}).context.shots == (3,)
    assert changed(TrainSpec(recipe="tft", options={"shots": {1: 1}}), {"options.batch_size": 2}).options == {
        "shots": {1: 1},
        "batch_size": 2,
    }
    with pytest.raises(UnknownName, match="section"):
        changed(RerankSpec(corpora=["x"], selector=None), {"selector.shots": 2})


def test_a_pace_is_measured_and_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("corpora: [synthetic]\nlimit: 1\nselector: {model: 'tiny:qwen3-asr', shots: 2}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        run(["plan", str(path), "--measure", "--json", "--shots", "1"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["estimate"]["seconds"] > 0
    with pytest.raises(SystemExit) as ended:
        run(["plan", str(path), "--shots", "1,2"])
    assert ended.value.code == 2
    assert "one number" in capsys.readouterr().err


def test_sizes_are_known_without_weights() -> None:
    model = SizedModel.of(PHI, dtype="bfloat16")
    assert model.weights == 2 * KNOWN[PHI].parameters
    assert model.memory(1000, rows=20) == pytest.approx(model.weights, rel=0.05)
