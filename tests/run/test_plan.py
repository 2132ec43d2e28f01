"""Plans: the grid that a spec means, ids that name results, and everything that is refused beforehand."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnlens.context.encode import encode
from attnlens.context.positions import PositionCounter
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, UnknownName
from attnlens.models.registry import FAMILIES
from attnlens.run.bench import Facts
from attnlens.run.estimate import estimate
from attnlens.run.item import item_id
from attnlens.run.plan import make_plan
from attnlens.run.spec import RunSpec
from attnlens.testing import corpus, front_end
from attnlens.traces.schema import ATTRIBUTES
from tests.run.conftest import small

GRID = {"context__conditions": "asr,t-icl,icl,micl,a-icl", "context__shots": "0,1,2", "data__limit": 1}


def cells(spec: RunSpec) -> Counter[tuple[str, int, str]]:
    return Counter((item.prompt.condition, item.asked, item.control) for item in make_plan(spec).items)


def test_the_grid_is_what_the_spec_means() -> None:
    due = {("asr", 0, "none"), ("t-icl", 0, "none"), ("micl", 2, "mismatched-pairs")}
    due |= {(name, shots, "none") for name in ("t-icl", "icl", "micl", "a-icl") for shots in (1, 2)}
    found = cells(small(**GRID))
    assert set(found) == due
    assert set(found.values()) == {1}
    assert make_plan(small(**GRID)).left_out == {
        f"{name} at 0 shots is the same prompt as asr": 1 for name in ("icl", "micl", "a-icl")
    }


def test_without_asr_zero_shots_are_kept() -> None:
    assert set(cells(small(context__conditions="micl", context__controls=[]))) == {
        ("micl", 0, "none"),
        ("micl", 2, "none"),
    }


def test_asr_is_planned_whatever_the_shots() -> None:
    assert ("asr", 0, "none") in cells(small(context__shots="2"))


def test_seeds_are_repetitions_and_ids_are_distinct() -> None:
    spec = small(seeds="0,1", context__retriever="random")
    plan = make_plan(spec)
    assert len(plan.items) == 12
    assert len({item.id for item in plan.items}) == 12
    chosen = [[one.id for one in item.prompt.demonstrations] for item in plan.items if item.control == "none"]
    assert chosen[1] != chosen[5], "each seed draws anew"


def test_an_id_names_what_determines_the_result_and_nothing_else() -> None:
    spec = small()
    item = make_plan(spec).items[1]
    again = make_plan(small(data__limit=1, execution__on_error="stop", name="x", data__normaliser="paper")).items[1]
    assert again.id == item.id
    for change in (
        {"model__dtype": "bfloat16"},
        {"convention": "paper"},
        {"tracing__measures": "max"},
        {"decoding__max_new_tokens": 3},
    ):
        assert make_plan(small(**change)).items[1].id != item.id, change
    target = replace(item.prompt.target, text="other words")
    for other in (
        replace(item, prompt=replace(item.prompt, target=target)),
        replace(item, prompt=replace(item.prompt, template="bare")),
        replace(item, seed=5),
        replace(item, corpus="elsewhere"),
        replace(item, intervention="knockout"),
    ):
        assert item_id(other, spec).id != item.id
    assert item_id(replace(item, speaker="nobody"), spec).id == item.id


def test_ids_do_not_drift_unnoticed() -> None:
    # Stores on disk are gone on with by them: a change of this value belongs in the changelog.
    # Without audio, whose samples may differ by a rounding between machines.
    spec = small(context__conditions="t-icl", context__retriever="first", context__controls=[])
    assert make_plan(spec).items[1].id == ID


ID = "0ee96ddaa55ae49b"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("condition", ["asr", "micl", "t-icl"])
def test_positions_are_those_of_the_encoded_prompt(family: str, condition: Any) -> None:
    from attnlens.context.build import build_prompt

    front, speech = front_end(family), corpus(pool=2, test=1)
    shots = 0 if condition == "asr" else 2
    prompt = build_prompt(speech.test[0], speech.pool, condition=condition, shots=shots)
    counter = PositionCounter(front)
    try:
        encoded = encode(prompt, front, output="kato mi")
    except BadInput as refused:
        with pytest.raises(BadInput, match=re.escape(refused.message)):
            counter.count(prompt, "kato mi")
    else:
        assert counter.count(prompt, "kato mi") == len(encoded.ids)


def test_text_retrieval_needs_what_was_heard(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="searches with what an acoustic model heard"):
        make_plan(small(context__retriever="text"))
    heard = tmp_path / "heard.jsonl"
    heard.write_text("\n".join(json.dumps({"id": f"test-{n}", "text": "kato mi"}) for n in range(2)))
    plan = make_plan(small(context__retriever="text", data__hypotheses=str(heard)))
    assert len(plan.items) == 6
    heard.write_text('{"id": "test-0", "text": "kato"}')
    with pytest.raises(BadInput, match="have no hypothesis"):
        make_plan(small(context__retriever="text", data__hypotheses=str(heard)))
    heard.write_text('{"id": "test-0"}')
    with pytest.raises(BadInput, match=r"heard.jsonl:1"):
        make_plan(small(context__retriever="text", data__hypotheses=str(heard)))
    with pytest.raises(BadInput, match="cannot be read"):
        make_plan(small(context__retriever="text", data__hypotheses=str(tmp_path / "none.jsonl")))


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"data__corpora": []}, BadInput, "no corpus to read"),
        ({"data__corpora": "syntetic"}, UnknownName, "did you mean 'synthetic'"),
        ({"context__conditions": "micl", "context__shots": "20"}, BadInput, "too few demonstrations"),
        ({"decoding__max_new_tokens": 4000}, BadInput, "does not fit into the model's context"),
        ({"context__controls": "other-language"}, BadInput, "needs other"),
        ({"context__controls": "nonesuch"}, UnknownName, "unknown control"),
        ({"tracing__measures": "entropi"}, UnknownName, "did you mean 'entropy'"),
    ],
)
def test_refused_before_anything_is_loaded(changes: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        make_plan(small(**changes))


def given(monkeypatch: pytest.MonkeyPatch, made: Corpus) -> None:
    monkeypatch.setattr("attnlens.run.plan.find_corpus", lambda *_args, **_options: made)


def test_corpora_that_cannot_be_told_apart_or_lack_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, corpus())
    with pytest.raises(BadInput, match="two corpora are called synthetic"):
        make_plan(small(data__corpora="one,other"))
    given(monkeypatch, corpus(test=0))
    with pytest.raises(BadInput, match="has no utterance in the split 'test'"):
        make_plan(small())


def test_prompts_that_do_not_fit_take_fewer_shots_and_say_so() -> None:
    whole = make_plan(small(context__controls=[], context__shots="0,4"))
    longest = max(item.positions for item in whole.items)
    front = front_end("qwen3-asr")
    limit = longest - 40

    class Short:
        context_length = limit

        def __getattr__(self, name: str) -> Any:
            if name == "encode":
                raise AttributeError(name)
            return getattr(front, name)

    with pytest.raises(BadInput, match="does not fit"):
        make_plan(small(context__controls=[], context__shots="0,4"), front=Short())
    spec = small(context__controls=[], context__shots="0,4", context__on_overflow="fewer-shots")
    plan = make_plan(spec, front=Short())
    shrunk = [item for item in plan.items if item.prompt.shots < item.asked]
    assert shrunk
    assert all(item.positions <= limit for item in plan.items)
    assert len({item.id for item in plan.items}) == len(plan.items)


def test_a_control_that_some_targets_cannot_have_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = corpus()
    speakers = tuple(replace(one, speaker="alone") if one.id == "test-0" else one for one in made.test)
    given(monkeypatch, Corpus(made.name, made.language, {**made.splits, "test": speakers}))
    plan = make_plan(small(context__controls="word-shuffle"))
    assert {item.control for item in plan.items} == {"none", "word-shuffle"}
    alone = make_plan(small(context__controls="mismatched-pairs", context__conditions="asr"))
    assert alone.left_out == {"mismatched-pairs means nothing in these conditions and shots": 1}


def test_controls_take_options_and_the_same_control_may_stand_twice() -> None:
    wanted = ["gold-inserted:slot=1:what=text", "gold-inserted:slot=0", "other-language:other=maori"]
    plan = make_plan(small(context__controls=wanted, data__limit=1))
    applied = {item.control: item.applied for item in plan.items if item.control != "none"}
    assert applied["gold-inserted:slot=1:what=text"] == "gold-inserted@0:slot=1,what=text"
    assert applied["gold-inserted:slot=0"] == "gold-inserted@0:slot=0,what=pair"
    assert applied["other-language:other=maori"].startswith("other-language@0:other=maori")
    assert len({item.id for item in plan.items}) == len(plan.items)


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ("gold-insertd:slot=1", "did you mean 'gold-inserted'"),
        ("gold-inserted:slot", "written name:key=value"),
        ("gold-inserted:slot=1:slot=2", "each key once"),
        ("gold-inserted:slott=1", "did you mean 'slot'"),
        ("gold-inserted:slot=7", "there is no slot 7"),
        ("other-language:other=nowhere", "unknown corpus"),
    ],
)
def test_options_of_controls_that_cannot_be_met_are_refused(control: str, said: str) -> None:
    with pytest.raises((BadInput, UnknownName)) as refused:
        make_plan(small(context__controls=[control], data__limit=1))
    assert said in str(refused.value)


def test_costs_are_reckoned_from_what_is_known() -> None:
    plan = make_plan(small())
    cost = estimate(plan)
    assert cost.items == 6
    assert cost.positions == sum(item.positions for item in plan.items)
    assert (cost.seconds, cost.memory) == (None, None)
    facts = Facts((0, 1, 2), tuple(range(8)), dict.fromkeys(ATTRIBUTES, ""), "w", None, None, 1000, 96, {})
    known = estimate(plan, facts=facts)
    assert (known.seconds, known.untimed) == (None, "unknown: so few items are done as soon as timed")
    assert known.weights == 1000
    assert known.memory is not None
    assert known.memory > 1000
    assert estimate(plan, facts=facts, due=plan.items[:1]).items == 1
