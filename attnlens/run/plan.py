"""From a spec to an ordered list of independent items: everything that can be refused is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from attnlens.context.build import build_prompt
from attnlens.context.controls import CONTROLS, apply_control, parse_control
from attnlens.context.encode import DoesNotFit
from attnlens.context.positions import PositionCounter
from attnlens.context.prompt import Condition, Prompt
from attnlens.context.retrieval import Query, Ranking, make
from attnlens.context.templates import TEMPLATES
from attnlens.data.corpus import Corpus
from attnlens.data.hypotheses import read_hypotheses
from attnlens.data.utterance import Utterance
from attnlens.errors import AttnlensError, BadInput, listing
from attnlens.models.named_interventions import parse_intervention
from attnlens.run.corpora import find_corpus
from attnlens.run.item import Item, item_id
from attnlens.run.spec import RunSpec

if TYPE_CHECKING:
    from attnlens.context.encode import FrontEnd

__all__ = ["Plan", "allow_cutting", "make_plan"]

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a run will do: items in order, and what of the spec's grid is not among them, with the reason."""

    spec: RunSpec
    items: tuple[Item, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    """How many cells of the grid were left out, by reason."""

    @property
    def demos(self) -> int:
        """The largest number of demonstrations of any item."""
        return max(item.prompt.shots for item in self.items)

    def groups(self) -> dict[tuple[str, str, int, str], list[Item]]:
        """Return the items by corpus, condition, shots asked, and what is changed, in order."""
        found: dict[tuple[str, str, int, str], list[Item]] = {}
        for item in self.items:
            key = (item.corpus, str(item.prompt.condition), item.asked, item.changed)
            found.setdefault(key, []).append(item)
        return found


def make_plan(
    spec: RunSpec,
    *,
    front: FrontEnd | None = None,
    tick: Tick | None = None,
    corpora: Sequence[Corpus] | None = None,
) -> Plan:
    """Lay out every item of a run without loading weights.

    ``asr`` takes no demonstrations and is planned once, whatever the shots. With ``asr`` in the plan, ``icl``, ``micl``
    and ``a-icl`` at zero shots are left out where the template makes the same prompt of them. Controls are planned
    where they mean something.

    Parameters
    ----------
    front
        The model's front end; by default it is loaded by the spec's name.
    tick
        Called with the name of each utterance that is planned.
    corpora
        What stands for the spec's corpora, where a price is asked and they are not here.

    >>> spec = RunSpec(
    ...     context={"conditions": "asr,micl", "shots": "0,2"}, data={"corpora": "synthetic", "limit": 1}
    ... )
    >>> plan = make_plan(spec)
    >>> [(item.prompt.condition, item.prompt.shots, item.control) for item in plan.items]
    [('asr', 0, 'none'), ('micl', 2, 'none'), ('micl', 2, 'mismatched-pairs')]
    """
    from attnlens.models.front import load_front_end

    if not spec.data.corpora:
        raise BadInput("there is no corpus to read", fix="name one in data.corpora, or pass --corpora")
    corpora = corpora or [find_corpus(name, on_bad=spec.data.on_bad) for name in spec.data.corpora]
    _distinct(corpora)
    front = front or load_front_end(spec.model.name, revision=spec.model.revision)
    allow_cutting(front, spec)
    planner = _Planner(spec, PositionCounter(front))
    items = [item for corpus in corpora for item in planner.of(corpus, tick or (lambda _name: None))]
    planner.settle_controls()
    if not items:
        raise BadInput(
            "nothing is left to do",
            given=listing(f"{reason}: {count}" for reason, count in planner.left_out.items()) or None,
            fix="add shots above 0, or the condition asr",
        )
    return Plan(spec, tuple(items), dict(planner.left_out))


@dataclass(frozen=True)
class _Round:
    """One target under one seed, with what was retrieved for it."""

    corpus: Corpus
    target: Utterance
    shown: list[Utterance]
    seed: int


class _Planner:
    def __init__(self, spec: RunSpec, counter: PositionCounter) -> None:
        self.spec = spec
        self.counter = counter
        self.left_out: Counter[str] = Counter()
        self.refused: dict[str, AttnlensError] = {}
        self.applied: set[str] = set()
        self.controls = {said: _with_corpora(*parse_control(said)) for said in spec.context.controls}
        self.interventions = [parse_intervention(said) for said in spec.interventions]
        self.heard = read_hypotheses(spec.data.hypotheses) if spec.data.hypotheses else {}

    def of(self, corpus: Corpus, tick: Tick) -> Iterator[Item]:
        targets = corpus.splits.get(self.spec.data.split, ())[: self.spec.data.limit]
        if not targets:
            raise BadInput(
                f"corpus {corpus.name!r} has no utterance in the split {self.spec.data.split!r}",
                present=repr(corpus),
                fix="choose another data.split",
            )
        empty = [one.id for one in targets if not one.text.strip()]
        if empty:
            raise BadInput(f"there is nothing to read along for {listing(empty, at_most=5)}: the text is empty")
        for seed in self.spec.seeds:
            rankings = self._ranked(corpus, targets, seed)
            for target, ranking in zip(targets, rankings, strict=True):
                tick(target.id)
                one = _Round(corpus, target, [corpus[name] for name in ranking.ids], seed)
                for condition, shots in self._cells():
                    yield from self._items(one, condition, shots)

    def settle_controls(self) -> None:
        """Refuse a control that no target can have, and note one that means nothing in this grid."""
        for name in self.spec.context.controls:
            if name in self.refused and name not in self.applied:
                raise self.refused[name]
            if name != "none" and name not in self.applied:
                self.left_out[f"{name} means nothing in these conditions and shots"] += 1

    def _cells(self) -> Iterator[tuple[Condition, int]]:
        context = self.spec.context
        same = getattr(TEMPLATES[context.template], "zero_shot_is_asr", "yes") == "yes"
        for condition in context.conditions:
            if condition == "asr":
                yield condition, 0
                continue
            for shots in context.shots:
                if shots == 0 and condition != "t-icl" and "asr" in context.conditions and same:
                    self.left_out[f"{condition} at 0 shots is the same prompt as asr"] += 1
                else:
                    yield condition, shots

    def _ranked(self, corpus: Corpus, targets: tuple[Utterance, ...], seed: int) -> list[Ranking]:
        context = self.spec.context
        most = max(context.shots) if set(context.conditions) - {"asr"} else 0
        if not most:
            return [Ranking((), ())] * len(targets)
        retriever = make(context.retriever, seed=seed)
        if "hypothesis" in retriever.uses and not self.heard:
            raise BadInput(
                f"the retriever {context.retriever!r} searches with what an acoustic model heard, and there is nothing",
                present="retrievers without: audio, first, kl, length, random; oracle knows the answer",
                fix='pass data.hypotheses=FILE with lines like {"id": ..., "text": ...}, or another retriever',
            )
        queries = [Query(target, hypothesis=self.heard.get(target.id)) for target in targets]
        return retriever.rank(queries, corpus.pool, k=most)

    def _items(self, one: _Round, condition: Condition, shots: int) -> Iterator[Item]:
        prompt = self._fitting(one, condition, shots)
        yield from self._edited(self._item(one, prompt, shots, "none"))
        for said, (name, options) in self.controls.items():
            if name == "none" or not CONTROLS[name].applies_to(condition, shots=prompt.shots):
                continue
            try:
                changed = apply_control(prompt, name, seed=one.seed, corpus=one.corpus, **options)
            except AttnlensError as error:
                self.left_out[f"{said} at {condition}, {shots} shots: {error.message}"] += 1
                self.refused.setdefault(said, error)
                continue
            self.applied.add(said)
            yield from self._edited(self._item(one, changed, shots, said))

    def _edited(self, item: Item) -> Iterator[Item]:
        """Yield an item without any intervention, and with each that means something in its prompt."""
        yield item
        for one in self.interventions:
            if one.means_something(item.prompt):
                yield item_id(replace(item, intervention=one.name), self.spec)
            else:
                self.left_out[f"{one.name} cuts what {item.prompt.condition} does not show"] += 1

    def _fitting(self, one: _Round, condition: Condition, shots: int) -> Prompt:
        limit, longest = self.counter.front.context_length, 0
        reserve = self.counter.text(one.target.text, "content")
        if condition in self.spec.decoding.conditions:
            reserve = max(reserve, self.spec.decoding.max_new_tokens)
        for count in range(shots, -1, -1):
            context = self.spec.context
            prompt = build_prompt(
                one.target,
                one.shown,
                condition=condition,
                shots=count,
                template=context.template,
                order=context.order,
                pair_order=context.pair_order,
                seed=one.seed,
            )
            try:
                positions = self.counter.count(prompt)
            except DoesNotFit:
                if context.on_overflow != "fewer-shots" or not count:
                    raise
                continue
            longest = longest or positions
            if limit is None or positions + reserve <= limit:
                return prompt
            if context.on_overflow != "fewer-shots":
                break
        raise BadInput(
            f"the prompt for {one.target.id!r} does not fit into the model's context",
            given=f"{condition} with {shots} shots: {longest} positions and {reserve} for the answer",
            present=f"a context of {limit} positions",
            fix="lower context.shots or decoding.max_new_tokens, or set context.on_overflow=fewer-shots",
        )

    def _item(self, one: _Round, prompt: Prompt, asked: int, control: str) -> Item:
        item = Item(
            id="",
            corpus=one.corpus.name,
            speaker=one.target.speaker,
            asked=asked,
            control=control,
            seed=one.seed,
            prompt=prompt,
            positions=self.counter.count(prompt, one.target.text),
            transcribed=prompt.condition in self.spec.decoding.conditions,
        )
        return item_id(item, self.spec)


def allow_cutting(front: Any, spec: RunSpec) -> None:
    """Tell a front end with a window whether recordings may be cut at its end; refuse to cut where there is none."""
    cut = spec.context.on_overflow == "cut-window"
    if cut and not hasattr(front, "overflow"):
        raise BadInput(
            f"{spec.model.name} has no window to cut recordings at",
            given="context.on_overflow: cut-window",
            fix="choose refuse or fewer-shots",
        )
    if hasattr(front, "overflow"):
        front.overflow = "cut" if cut else "refuse"


def _with_corpora(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read the corpus that a control takes its material from."""
    return name, {key: find_corpus(str(value)) if key == "other" else value for key, value in options.items()}


def _distinct(corpora: Sequence[Corpus]) -> None:
    names = [corpus.name for corpus in corpora]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise BadInput(
            f"two corpora are called {listing(repeated)}",
            given=listing(names),
            fix="rename the folder or manifest of one: results are told apart by these names",
        )
