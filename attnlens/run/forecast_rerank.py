"""What a re-ranking will cost: lists to search, hypotheses to score after their prompts, transcripts to write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnlens.asr.prompted import NEW_TOKENS
from attnlens.asr.rerank import MEASURED
from attnlens.asr.rerank_spec import RerankSpec, SelectorPart
from attnlens.context.prompt import Prompt
from attnlens.context.ranked import ranked_prompts
from attnlens.context.retrieval.base import Query
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput
from attnlens.run.forecast import Forecast, Pace, SizedModel, Step, measure_pace, total
from attnlens.run.stand_in import find_or_stand_in

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["forecast_rerank"]

LINE = 120
"""Bytes that stand around a text in a line of lists, scores or transcripts."""


def forecast_rerank(spec: RerankSpec, *, measure: bool = False) -> Forecast:
    """Reckon what a re-ranking costs without an acoustic model or weights; with ``measure`` the speech LLM is timed.

    References stand for the hypotheses, and demonstrations are drawn at random: what will be heard is not known yet.

    >>> found = forecast_rerank(RerankSpec(corpora=["synthetic"], limit=2, selector={"shots": 2, "model": "organism"}))
    >>> [step.does for step in found.steps][2:5]
    ['score the lists of test', 'score the lists of dev', 'score under mismatched-pairs']
    """
    corpora, remarks = find_or_stand_in(spec.corpora)
    part = spec.selector
    model = None if part is None else SizedModel.of(part.model, dtype=part.dtype, revision=part.revision)
    steps: list[Step] = []
    every: list[Prompt] = []
    longest = rows = disk = items = 0
    for corpus in corpora:
        test, dev = corpus.test[: spec.limit], corpus.dev[: spec.limit]
        if not test:
            raise BadInput(f"corpus {corpus.name!r} has nothing to transcribe", given="test: 0 utterances")
        items += len(test) + len(dev)
        steps += _searched(spec, corpus, test, dev)
        texts = sum(len(one.text.encode()) + LINE for one in test)
        scored = 1 + (0 if part is None else 1 + len(part.controls))
        disk += texts * (1 if part is None else len(spec.seeds)) * (spec.acoustic.n * scored + len(spec.rules) + 8)
        if part is None or model is None:
            continue
        prompts = _prompts(spec, part, corpus, test), _prompts(spec, part, corpus, dev)
        steps += _read(spec, part, corpus, model=model, test=prompts[0], dev=prompts[1])
        every += [*prompts[0], *prompts[1]]
        lists = [spec.acoustic.n * model.tokens(one.target.text) for one in every]
        rows = max(rows, *lists)
        sizes = [model.positions(one) + count for one, count in zip(every, lists, strict=True)]
        longest = max(longest, *sizes)
    pace = _pace(spec, part, every) if measure and part is not None else None
    told = [
        *remarks,
        *(() if model is None else model.remarks),
        "left out: the acoustic model and its beam search, which runs on the CPU and has to be tried",
    ]
    if part is not None and part.shots:
        told.append("demonstrations are drawn at random for the plan, and references stand for the hypotheses")
    if spec.text_lms:
        told.append(f"left out: the text models {', '.join(one.name for one in spec.text_lms)}")
    if part is not None and len(spec.seeds) > 1:
        told.append("every seed is counted; seeds that draw the same demonstrations will be scored once")
    return Forecast(
        tuple(steps),
        total(
            steps,
            items=items,
            longest=longest,
            disk=disk,
            memory=None if model is None else model.memory(longest, rows=rows),
            model=model,
            seconds=None if pace is None else sum(pace.seconds(one) for one in steps),
        ),
        tuple(dict.fromkeys(told)),
    )


def _searched(spec: RerankSpec, corpus: Corpus, test: Sequence[Utterance], dev: Sequence[Utterance]) -> list[Step]:
    heard = sum(one.audio.seconds for one in (*test, *dev))
    steps = [Step(corpus.name, f"listen to {heard:,.0f} s of audio, lists of {spec.acoustic.n}", len(test) + len(dev))]
    if spec.ngram is not None:
        tried = len(spec.ngram.joint_weights) * len(spec.ngram.joint_bonuses) if dev else 0
        steps.append(Step(corpus.name, "search again with the n-gram model", len(test) + tried * len(dev)))
    return steps


def _prompts(spec: RerankSpec, part: SelectorPart, corpus: Corpus, asked: Sequence[Utterance]) -> list[Prompt]:
    queries = [Query(one) for one in asked]
    if not queries:
        return []
    made: list[Prompt] = []
    for seed in spec.seeds:
        made += ranked_prompts(
            queries,
            corpus,
            shots=part.shots,
            retriever="random",
            condition=part.asked,
            template=part.template,
            order=part.order,
            seed=seed,
        )
    return made


def _read(
    spec: RerankSpec,
    part: SelectorPart,
    corpus: Corpus,
    *,
    model: SizedModel,
    test: Sequence[Prompt],
    dev: Sequence[Prompt],
) -> list[Step]:
    def scored(does: str, prompts: Sequence[Prompt]) -> Step:
        n, positions, operations = spec.acoustic.n, 0, 0.0
        for prompt in prompts:
            # The prompt is read once, and every hypothesis after what is kept of it.
            before, text = model.positions(prompt), model.tokens(prompt.target.text)
            positions += before + n * text
            operations += model.decoder.operations(before) + n * model.decoder.operations(text, after=before)
        return Step(corpus.name, does, len(prompts), positions, operations=operations)

    steps = [scored("score the lists of test", test)]
    if dev:
        steps.append(scored("score the lists of dev", dev))
    steps += [scored(f"score under {one}", test) for one in part.controls if part.shots]
    again = [prompt for prompt in test[:MEASURED] for _ in range(spec.acoustic.n)]
    read = [model.positions(one, one.target.text) for one in again]
    works = sum(map(model.decoder.operations, read))
    steps.append(Step(corpus.name, "score a few one by one, to tell the speed-up", len(again), sum(read), 0, works))
    for does, asked in (
        ("choose in words", part.instruction == "on"),
        ("write transcripts", part.prompted is not None),
    ):
        if asked:
            read = [model.positions(one) for one in test]
            works = sum(map(model.decoder.operations, read))
            steps.append(Step(corpus.name, does, len(test), sum(read), NEW_TOKENS * len(test), works))
    return steps


def _pace(spec: RerankSpec, part: SelectorPart, prompts: Sequence[Prompt]) -> Pace:
    from attnlens.models.load import load

    def read(lens: SpeechLM, prompt: Prompt) -> int:
        texts = [f"{prompt.target.text}{'a' * number}" for number in range(spec.acoustic.n)]
        encoded = lens.encode(prompt)
        lens.score(encoded, texts)
        return len(encoded.ids) + spec.acoustic.n * len(lens.encode(prompt, prompt.target.text).ids[len(encoded.ids) :])

    lens = load(part.model, revision=part.revision, dtype=part.dtype, device_map=part.device, adapter=part.adapter)
    return measure_pace(lens, prompts, read)
