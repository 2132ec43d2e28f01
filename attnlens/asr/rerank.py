"""From corpora to the table: N-best lists, demonstrations, scores, weights from dev, selection, comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.candidates import Candidates, score_candidates
from attnlens.asr.copying import CopyRate, copy_rate
from attnlens.asr.error_rate import count_errors
from attnlens.asr.instruction import select_by_instruction
from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.nbest import NBest
from attnlens.asr.prompted import ScoringLog, score_lists, write_transcript
from attnlens.asr.rerank_spec import NgramPart, RerankSpec, SelectorPart, TextLmPart
from attnlens.asr.selection import Rule, make_rule, select
from attnlens.asr.tabulate import ListTest
from attnlens.asr.text_lm import load_text_lm, score_by_text_lm
from attnlens.asr.tuning import Interpolated, Weights, tune
from attnlens.asr.unwritable import tell_unwritable
from attnlens.context.controls import apply_control, parse_control
from attnlens.context.prompt import Prompt
from attnlens.context.ranked import ranked_prompts
from attnlens.context.retrieval.base import Query
from attnlens.data.corpus import Corpus
from attnlens.data.normalise import NORMALISERS
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.asr.acoustic import AcousticModel
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Reranked", "Tell", "rerank_language"]

Tell = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""
MEASURED = 3
INTERPOLATED, JOINT, BONUS, SUM = "interpolated", "joint decoding", "token bonus alone", "sum-logprob"
CONTROLLED = (SUM, INTERPOLATED)
"""The rules by which a control's scores are judged too."""


@dataclass(frozen=True, kw_only=True)
class Reranked:
    """Everything of one language: its scored lists and what is to be compared, weights, costs, copies, remarks."""

    corpus: Corpus
    test: ListTest
    nbest: tuple[NBest, ...]
    candidates: Mapping[str, Sequence[Candidates]]
    """By what scored them: the condition, controls, the n-gram model."""
    weights: Mapping[str, Weights]
    logs: tuple[ScoringLog, ...]
    copies: CopyRate | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Heard:
    """Utterances with their lists."""

    utterances: Sequence[Utterance]
    lists: Sequence[NBest]


@dataclass
class _Desk:
    """What is on the table while one language is worked on."""

    spec: RerankSpec
    corpus: Corpus
    acoustic: AcousticModel
    tell: Tell
    scored: dict[str, Sequence[Candidates]] = field(default_factory=dict)
    weights: dict[str, Weights] = field(default_factory=dict)
    others: dict[str, Sequence[str]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    logs: list[ScoringLog] = field(default_factory=list)
    copies: CopyRate | None = None
    remarks: list[str] = field(default_factory=list)
    frames: dict[tuple[str, ...], Sequence[NDArray[np.float32]]] = field(default_factory=dict)

    @property
    def same(self) -> Callable[[str], str]:
        return NORMALISERS[self.spec.normaliser]

    def lists(self, utterances: Sequence[Utterance], what: str, **options: Any) -> list[NBest]:
        if not utterances:
            return []
        if self.spec.acoustic.beam is not None:
            options["beam"] = self.spec.acoustic.beam

        def tick(done: int) -> None:
            self.tell(what, done, len(utterances))

        if isinstance(self.acoustic, CtcModel):
            ids = tuple(one.id for one in utterances)
            if ids not in self.frames:
                self.frames[ids] = self.acoustic.log_probabilities([one.audio for one in utterances])
            options["frames"] = self.frames[ids]
        return self.acoustic.nbest(utterances, n=self.spec.acoustic.n, tick=tick, **options)

    def tuned(self, lists: Sequence[Candidates], dev: Sequence[Utterance], **grid: Sequence[float]) -> Weights:
        spec = self.spec
        said = [one.text for one in dev] * (len(lists) // len(dev))
        return tune(lists, said, unit=spec.unit, normaliser=spec.normaliser, **grid)

    def rules(self, scorer: str, *among: str) -> dict[str, Rule]:
        """Return the spec's rules by name, or those among some; where nothing is tuned, no rule that needs weights."""
        wanted = [name for name in self.spec.rules if not among or name in among]
        made: dict[str, Rule] = {name: make_rule(name) for name in wanted if name != INTERPOLATED}
        if INTERPOLATED in wanted and scorer in self.weights:
            made[INTERPOLATED] = Interpolated(self.weights[scorer])
        return made

    def bonus_alone(self, lists: Sequence[Candidates], dev_lists: Sequence[Candidates], dev: _Heard) -> None:
        """Show what the bonus per token gives without any language model: the rest of a gain is the model's."""
        weights = self.tuned(dev_lists, dev.utterances, lm_weights=(0.0,))
        self.weights[BONUS] = weights
        self.others[BONUS] = [choice.text for choice in select(lists, Interpolated(weights))]
        self.tags[BONUS] = f"no model, bonus {weights.bonus:g}"


def rerank_language(
    spec: RerankSpec, corpus: Corpus, acoustic: AcousticModel, lens: SpeechLM | None, *, tell: Tell | None = None
) -> Reranked:
    """Do everything for one language but the table, whose p-values are corrected over all languages together.

    Weights are tuned on dev; without a dev split the rows that need them are left out, and a remark says so. Without a
    speech LLM the n-gram model scores the lists.
    """
    if (lens is None) != (spec.selector is None):
        raise BadInput("a selector needs its model, and a model its section", given=f"selector: {spec.selector}")
    desk = _Desk(spec, corpus, acoustic, tell or (lambda _what, _done, _of: None))
    test, dev = corpus.test[: spec.limit], corpus.dev[: spec.limit]
    if not test:
        raise BadInput(f"corpus {corpus.name!r} has nothing to transcribe", given="test: 0 utterances")
    if not any(desk.same(one.text).split() for one in test):
        raise BadInput(
            f"no utterance of test in {corpus.name!r} has a word to compare with",
            given=f"{len(test)} references, empty under the normaliser {spec.normaliser!r}",
            fix="add transcripts, or choose another normaliser; `attnlens transcribe` needs none",
        )
    desk.remarks += _unwritable(desk, acoustic, {"test": test, "dev": dev})
    if not dev:
        desk.remarks.append(f"{corpus.name} has no dev split: no tuned weights, so no row {INTERPOLATED!r}")
    heard = _Heard(test, desk.lists(test, "listening to test")), _Heard(dev, desk.lists(dev, "listening to dev"))
    main = "n-gram"
    if spec.ngram is not None:
        _rerank_by_ngram(desk, spec.ngram, *heard)
    for text_lm in spec.text_lms:
        _rerank_by_text_lm(desk, text_lm, *heard)
    if spec.selector is not None and lens is not None:
        main = spec.selector.asked
        _rerank_by_prompt(desk, lens, spec.selector, *heard)
    return Reranked(
        corpus=corpus,
        test=ListTest(
            language=corpus.name,
            lists=desk.scored[main],
            references=[one.text for one in test],
            rules={f"{main} {name}": rule for name, rule in desk.rules(main).items()},
            others=desk.others,
            clusters=_clusters(test),
            tags=desk.tags,
            # An n-gram model is shown nothing: seeds would repeat the same numbers.
            seeds=spec.seeds if spec.selector is not None else spec.seeds[:1],
        ),
        nbest=tuple(heard[0].lists),
        candidates=desk.scored,
        weights=desk.weights,
        logs=tuple(desk.logs),
        copies=desk.copies,
        remarks=tuple(desk.remarks),
    )


def _rerank_by_ngram(desk: _Desk, part: NgramPart, test: _Heard, dev: _Heard) -> None:
    """Re-rank with an n-gram model of the pool's texts, and decode with it in the beam."""
    texts = [desk.same(one.text) for one in desk.corpus.pool]
    ngram = train_ngram(texts, order=part.order, unit=part.unit, pieces=part.pieces, name="n-gram")
    desk.scored["n-gram"] = score_candidates(test.lists, ngram)
    if dev.utterances:
        dev_scored = score_candidates(dev.lists, ngram)
        desk.weights["n-gram"] = desk.tuned(dev_scored, dev.utterances)
        if desk.spec.selector is None:
            desk.bonus_alone(desk.scored["n-gram"], dev_scored, dev)
        else:
            chosen = select(desk.scored["n-gram"], Interpolated(desk.weights["n-gram"]))
            desk.others["n-gram interpolated"] = [choice.text for choice in chosen]
    if not isinstance(desk.acoustic, CtcModel):
        desk.remarks.append("no joint decoding: the acoustic model is no CTC model")
        return
    lm, bonus = part.joint_weights[len(part.joint_weights) // 2], part.joint_bonuses[0]
    if dev.utterances:
        wrong = {}
        for pair in product(part.joint_weights, part.joint_bonuses):
            lists = desk.lists(dev.utterances, "tuning the beam", lm=ngram, lm_weight=pair[0], unit_bonus=pair[1])
            wrong[pair] = _errors(desk, lists, dev.utterances)
        lm, bonus = min(wrong, key=lambda pair: wrong[pair])
        tuned_on = frozenset(one.id for one in dev.utterances)
        desk.weights[JOINT] = Weights(lm=lm, bonus=bonus, tuned_on=tuned_on, errors=wrong[lm, bonus])
    lists = desk.lists(test.utterances, "decoding jointly", lm=ngram, lm_weight=lm, unit_bonus=bonus)
    desk.others[JOINT] = [one.best.text if len(one) else "" for one in lists]
    desk.tags[JOINT] = f"n-gram in the beam, weight {lm:g}, bonus {bonus:g}{'' if dev.utterances else ', untuned'}"


def _rerank_by_text_lm(desk: _Desk, part: TextLmPart, test: _Heard, dev: _Heard) -> None:
    """Re-rank with a text model of transformers, its weights tuned on dev where there is one."""
    lm, seed = load_text_lm(part, desk.corpus), desk.spec.seeds[0]
    rule: str | Rule = SUM
    desk.tell(f"scoring: {part.name}", 0, len(test.lists))
    desk.scored[part.name] = score_by_text_lm(lm, part, desk.corpus, test.utterances, test.lists, seed=seed)
    if dev.utterances:
        scored = score_by_text_lm(lm, part, desk.corpus, dev.utterances, dev.lists, seed=seed)
        desk.weights[part.name] = desk.tuned(scored, dev.utterances)
        rule = Interpolated(desk.weights[part.name])
    name = f"{part.name} {INTERPOLATED if dev.utterances else rule}"
    desk.others[name] = [choice.text for choice in select(desk.scored[part.name], rule)]


def _rerank_by_prompt(desk: _Desk, lens: SpeechLM, part: SelectorPart, test: _Heard, dev: _Heard) -> None:
    """Score the lists after demonstrations, clean and controlled; let the model write or answer where that is asked."""
    main, seeds = part.asked, desk.spec.seeds
    drawn = [_prompts(desk, part, test, seed) for seed in seeds]
    prompts = [one for block in drawn for one in block]
    lists = list(test.lists) * len(seeds)
    if len(seeds) > 1 and all(block == drawn[0] for block in drawn):
        desk.remarks.append(
            f"{desk.corpus.name}: all {len(seeds)} seeds show the same demonstrations (retriever {part.retriever}, "
            f"order {part.order}): only controls and chance differ between them"
        )
    desk.scored[main] = _scored(desk, lens, prompts, lists, main)
    if dev.utterances:
        shown = [one for seed in seeds for one in _prompts(desk, part, dev, seed)]
        scored = _scored(desk, lens, shown, list(dev.lists) * len(seeds), f"{main} on dev")
        desk.weights[main] = desk.tuned(scored, dev.utterances)
        desk.bonus_alone(desk.scored[main], scored, dev)
    for control in part.controls if part.shots else ():
        named, options = parse_control(control)
        changed = [
            apply_control(one, named, seed=seed, corpus=desk.corpus, **options)
            for seed, block in zip(seeds, drawn, strict=True)
            for one in block
        ]
        desk.scored[control] = _scored(desk, lens, changed, lists, control)
        # With weights of the clean prompts, and where none are asked what the scores say by themselves.
        for name, rule in (desk.rules(main, *CONTROLLED) or {SUM: make_rule(SUM)}).items():
            chosen = select(desk.scored[control], rule)
            desk.others[f"control: {control}, {name}"] = [choice.text for choice in chosen]
    if part.controls and not part.shots:
        desk.remarks.append("no controls: there are no demonstrations to change")
    if part.instruction == "on":
        given = {pair: select_by_instruction(lens, *pair) for pair in dict.fromkeys(zip(prompts, lists, strict=True))}
        answers = [given[pair] for pair in zip(prompts, lists, strict=True)]
        desk.others["instruction"] = [one.text for one in answers]
        obeyed = sum(one.how in ("exact", "number") for one in answers)
        desk.tags["instruction"] = f"{obeyed} of {len(answers)} answers name a hypothesis"
    if part.prompted is not None:
        desk.others["prompted"], desk.copies = _written(desk, lens, prompts, part.prompted)
        desk.tags["prompted"] = f"guard {part.prompted}"
        desk.remarks.append(f"{desk.corpus.name}, prompted: {desk.copies}")


def _errors(desk: _Desk, lists: Sequence[NBest], said: Sequence[Utterance]) -> int:
    texts = [one.best.text if len(one) else "" for one in lists]
    found = count_errors([one.text for one in said], texts, unit=desk.spec.unit, normaliser=desk.spec.normaliser)
    return int(found.errors.sum())


def _prompts(desk: _Desk, part: SelectorPart, heard: _Heard, seed: int) -> list[Prompt]:
    queries = [
        Query(one, hypothesis=listed.best.text if len(listed) else "")
        for one, listed in zip(heard.utterances, heard.lists, strict=True)
    ]
    return ranked_prompts(
        queries,
        desk.corpus,
        shots=part.shots,
        retriever=part.retriever,
        condition=part.asked,
        template=part.template,
        order=part.order,
        seed=seed,
    )


def _scored(
    desk: _Desk, lens: SpeechLM, prompts: Sequence[Prompt], lists: Sequence[NBest], what: str
) -> list[Candidates]:
    # Seeds that draw the same demonstrations ask the same: it is answered once.
    asked = dict(zip(prompts, lists, strict=True))

    def tick(done: int) -> None:
        desk.tell(f"scoring: {what}", done, len(asked))

    found, log = score_lists(lens, list(asked), list(asked.values()), measure=0 if desk.logs else MEASURED, tick=tick)
    desk.logs.append(log)
    answered = dict(zip(asked, found, strict=True))
    return [answered[prompt] for prompt in prompts]


def _written(desk: _Desk, lens: SpeechLM, prompts: Sequence[Prompt], guard: str) -> tuple[list[str], CopyRate]:
    written: dict[Prompt, str] = {}
    asked = dict.fromkeys(prompts)
    for number, prompt in enumerate(asked, start=1):
        written[prompt] = write_transcript(lens, prompt, guard=guard).text
        desk.tell("writing transcripts", number, len(asked))
    texts = [written[prompt] for prompt in prompts]
    shown = [[one.text for one in prompt.demonstrations if one.text is not None] for prompt in prompts]
    return texts, copy_rate(texts, shown, [prompt.target.text for prompt in prompts], normaliser=desk.spec.normaliser)


def _unwritable(desk: _Desk, acoustic: AcousticModel, parts: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """Return what is to be said of references that hold characters which no hypothesis can."""
    if not isinstance(acoustic, CtcModel):
        return []
    told = [
        tell_unwritable(
            [one.text for one in part], acoustic.vocabulary, of=f"{desk.corpus.name}'s {name}", normalise=desk.same
        )
        for name, part in parts.items()
    ]
    return [one for one in told if one is not None]


def _clusters(utterances: Sequence[Utterance]) -> list[str] | None:
    """Return speakers, or else recordings, where every utterance names one and there are enough for an interval."""
    for name in ("speaker", "recording"):
        labels = [getattr(one, name) for one in utterances]
        if all(labels) and 1 < len(set(labels)) < len(labels):
            return labels
    return None
