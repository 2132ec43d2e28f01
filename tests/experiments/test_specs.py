"""Every spec under experiments/ loads and is priced by `attnlens plan`, the paper's on the real sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnlens.asr.rerank_spec import RerankSpec
from attnlens.cli.main import run
from attnlens.mapping import read_mapping
from attnlens.models.dimensions import KNOWN, sized_front_end
from attnlens.models.front import NATIVE
from attnlens.run.kinds import kind_of_spec, read_any_spec
from attnlens.run.load import load_spec
from attnlens.run.plan import make_plan
from attnlens.run.published.read import find_table
from attnlens.run.spec import RunSpec
from attnlens.run.stand_in import find_or_stand_in

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PAPER = sorted((EXPERIMENTS / "paper").glob("*.yaml"))
SMALL = sorted([*(EXPERIMENTS / "paper" / "organism").glob("*.yaml"), *(EXPERIMENTS / "own").glob("*.yaml")])
RECIPES = [
    EXPERIMENTS / "acoustic" / "mms.yaml",
    *(EXPERIMENTS / "recipes" / f"{one}.yaml" for one in ("asr-ft", "tft", "xft")),
]


def named(path: Path) -> str:
    return str(path.relative_to(EXPERIMENTS).with_suffix(""))


def test_every_table_and_figure_has_a_spec_and_a_small_one() -> None:
    tables = set(find_table("paper:table6")[0].tables) | {"prompts"}
    for folder in (EXPERIMENTS / "paper", EXPERIMENTS / "paper" / "organism"):
        assert tables <= {path.stem for path in folder.glob("*.yaml")}


def price(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        run(["plan", str(path), "--json", "--gpu", "h200-141gb", *words])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    return dict(json.loads(told.out))


def limited(path: Path) -> list[str]:
    """Return the flags that make a plan of one utterance, and of demonstrations that nobody has to search for."""
    kind = kind_of_spec(read_mapping(path, keys=(), example="name: default"))
    if kind == "run":
        return ["--set", "data.limit=1", "--retriever", "first"]
    return ["--set", "limit=1"] if kind in ("rerank", "ablate") else []


@pytest.mark.parametrize("path", PAPER, ids=named)
def test_a_spec_of_the_paper_is_priced_on_the_real_model(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, spec = read_any_spec(path)
    flags = limited(path)[:2]  # its own retriever: hypotheses are not here, and nothing is said to be missing
    told = price(path, capsys, *flags)
    cost = told["estimate"]
    assert told["kind"] == kind
    if isinstance(spec, RerankSpec):
        assert spec.acoustic.n == 10
        assert {one["corpus"] for one in told["steps"]} == {"khinalug", "kichwa", "mboshi"}
        if spec.selector is None:
            assert cost["positions"] == 0
            return
        assert spec.selector.model in KNOWN
    else:
        assert isinstance(spec, RunSpec)
        assert spec.convention == "paper"
        assert spec.model.name in KNOWN
        assert {item["condition"] for item in told["items"]} == set(spec.context.conditions)
        assert {item["shots_asked"] for item in told["items"]} | {0} == set(spec.context.shots) | {0}
        assert not any("means nothing" in reason for reason in told["left_out"])
    assert cost["memory"] > cost["weights"] > 1e10
    assert cost["gpu_seconds"] > 0
    assert cost["disk"] > 0


@pytest.mark.parametrize("path", SMALL, ids=named)
def test_a_small_spec_is_priced_as_it_stands(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, spec = read_any_spec(path)
    told = price(path, capsys, *limited(path))
    cost = told["estimate"]
    if isinstance(spec, RunSpec):
        assert told["items"]
        assert not any("means nothing" in reason for reason in told["left_out"])
    else:
        assert told["steps"]
    if not isinstance(spec, RerankSpec) or spec.selector is not None:
        assert cost["memory"] > cost["weights"] > 1e6
        assert cost["positions"] > 0


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_a_recipe_of_the_paper_is_priced(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = price(path, capsys)
    cost = told["estimate"]
    assert told["kind"] == "train"
    assert cost["memory"] > 5e9
    assert cost["gpu_seconds"] > 10
    assert cost["disk"] > 1e9


@pytest.mark.parametrize("path", [*PAPER, *RECIPES], ids=named)
def test_phi_is_asked_for_in_the_form_that_loads(path: Path) -> None:
    _, spec = read_any_spec(path)
    fields = spec.model_dump()
    model = fields.get("model") or fields.get("selector") or fields.get("options") or {}
    name = model.get("name") or model.get("model")
    assert name not in NATIVE or model["revision"] == NATIVE[name]


def test_the_published_prompts_at_zero_shots_are_not_those_of_asr() -> None:
    spec = load_spec(EXPERIMENTS / "paper" / "table3.yaml")
    stand_in = {"data.limit": 1, "data.hypotheses": None, "context.shots": "0", "context.retriever": "first"}
    corpora, _ = find_or_stand_in(["corpora/khinalug"])
    plan = make_plan(spec.updated(stand_in), front=sized_front_end(spec.model.name), corpora=corpora)
    assert [str(item.prompt.condition) for item in plan.items] == ["asr", "t-icl", "icl", "micl"]
    assert not plan.left_out
    assert len({item.positions for item in plan.items}) > 2
