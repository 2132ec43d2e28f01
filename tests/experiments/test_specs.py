"""Every spec under experiments/ loads; the paper's are planned on the real sizes, the organism's as they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnlens.asr.rerank_spec import RerankSpec, read_rerank_spec
from attnlens.mapping import read_mapping
from attnlens.models.dimensions import KNOWN, sized_front_end
from attnlens.run.ablation_spec import AblationSpec, read_ablation_spec
from attnlens.run.corpora import find_corpus
from attnlens.run.estimate import estimate
from attnlens.run.load import load_spec
from attnlens.run.plan import make_plan
from attnlens.run.published.read import find_table
from attnlens.run.spec import RunSpec

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAPER = sorted((EXPERIMENTS / "paper").glob("*.yaml"))
SMALL = sorted([*(EXPERIMENTS / "paper" / "organism").glob("*.yaml"), *(EXPERIMENTS / "own").glob("*.yaml")])
OWN_CORPORA = ("guarani", "quechua", "maori")


def spec_of(path: Path) -> RunSpec | RerankSpec | AblationSpec:
    fields = read_mapping(path, keys=(), example="name: default")
    if "windows" in fields:
        return read_ablation_spec(path)
    return read_rerank_spec(path) if "acoustic" in fields else load_spec(path)


def named(path: Path) -> str:
    return str(path.relative_to(EXPERIMENTS).with_suffix(""))


def test_every_table_and_figure_has_a_spec_and_a_small_one() -> None:
    tables = set(find_table("paper:table6")[0].tables) | {"prompts"}
    for folder in (EXPERIMENTS / "paper", EXPERIMENTS / "paper" / "organism"):
        assert tables <= {path.stem for path in folder.glob("*.yaml")}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heard") / "heard.jsonl"
    lines = [{"id": one.id, "text": one.text} for name in OWN_CORPORA for one in find_corpus(name).test]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", PAPER, ids=named)
def test_a_spec_of_the_paper_plans_on_the_real_model(path: Path, heard: Path) -> None:
    spec = spec_of(path)
    if isinstance(spec, RerankSpec):
        assert spec.acoustic.n == 10
        assert spec.selector is None or spec.selector.model in KNOWN
        return
    assert isinstance(spec, RunSpec)
    assert spec.convention == "paper"
    assert spec.model.name in KNOWN
    # The stand-in has a hundred in its pool, and doubles of a target are not shown.
    shots = [min(one, 90) for one in spec.context.shots]
    stand_in = {"data.corpora": "guarani", "data.limit": 1, "data.hypotheses": str(heard), "context.shots": shots}
    front = sized_front_end(spec.model.name)
    plan = make_plan(spec.updated(stand_in), front=front)
    cost = estimate(plan, front=front)
    assert {item.asked for item in plan.items} | {0} == set(shots) | {0}
    assert {item.prompt.condition for item in plan.items} == set(spec.context.conditions)
    assert cost.memory is not None
    assert cost.weights is not None
    assert cost.memory > cost.weights > 1e10
    assert not any("means nothing" in reason for reason in plan.left_out)


@pytest.mark.parametrize("path", SMALL, ids=named)
def test_a_small_spec_plans_as_it_stands(path: Path) -> None:
    spec = spec_of(path)
    if isinstance(spec, RerankSpec):
        assert spec.acoustic.model == "organism"
        return
    if isinstance(spec, AblationSpec):
        assert spec.model == "organism"
        return
    assert spec.model.name == "organism"
    # Which demonstrations are shown makes no difference to the plan, and to rank recordings takes a while.
    plan = make_plan(spec.updated({"data.limit": 1, "data.corpora": "guarani", "context.retriever": "first"}))
    assert plan.items
    assert not any("means nothing" in reason for reason in plan.left_out)


def test_the_published_prompts_at_zero_shots_are_not_those_of_asr(heard: Path) -> None:
    spec = load_spec(EXPERIMENTS / "paper" / "table3.yaml")
    stand_in = {"data.corpora": "guarani", "data.limit": 1, "data.hypotheses": str(heard), "context.shots": "0"}
    plan = make_plan(spec.updated(stand_in), front=sized_front_end(spec.model.name))
    assert [str(item.prompt.condition) for item in plan.items] == ["asr", "t-icl", "icl", "micl"]
    assert not plan.left_out
    assert len({item.positions for item in plan.items}) > 2
