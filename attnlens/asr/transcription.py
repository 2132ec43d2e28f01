"""Transcripts of recordings from transcribed examples: what can be chosen is chosen on dev, and it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.asr.acoustic import CtcModel
from attnlens.asr.choices import INTERPOLATED, PLAIN, Choices, Wanted
from attnlens.asr.error_rate import count_errors
from attnlens.asr.exposure import Ledger, TrainedOn, ledger
from attnlens.asr.nbest import NBest
from attnlens.asr.prompted import score_lists, write_transcript
from attnlens.asr.selection import Rule, choose, make_rule, select
from attnlens.asr.tuning import Interpolated, OnTuned, Weights, held_out_errors, tune
from attnlens.asr.unwritable import tell_unwritable
from attnlens.context.build import build_prompt
from attnlens.context.prompt import Prompt
from attnlens.context.retrieval.base import Query, make, retrieve
from attnlens.data.corpus import Corpus
from attnlens.data.normalise import NORMALISERS
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput
from attnlens.models.clips import reusing_clips

if TYPE_CHECKING:
    from attnlens.asr.acoustic import AcousticModel
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Transcriber"]

Tell = Callable[[str], None]
SAME_SECONDS = 1e-3
"""Clips whose durations differ by more are not one: they need not be decoded."""


class Transcriber:
    """Transcribe recordings by showing a speech LLM transcribed ones: freely, or among an acoustic model's hypotheses.

    >>> from attnlens.models.load import load
    >>> from attnlens.testing import corpus
    >>> speech = corpus()
    >>> one = Transcriber(speech, load("tiny:qwen3-asr"), wanted=Wanted(shots=(0,)))
    >>> one.choices.shots, one.choices.tuned
    (0, ())
    """

    def __init__(
        self,
        corpus: Corpus,
        lens: SpeechLM,
        *,
        wanted: Wanted,
        acoustic: AcousticModel | None = None,
        asked: Sequence[Utterance] = (),
        tell: Tell | None = None,
    ) -> None:
        wanted.check(corpus, acoustic=None if acoustic is None else acoustic.name)
        self.corpus, self.lens, self.wanted, self.acoustic = corpus, lens, wanted, acoustic
        self.tell = tell or (lambda _what: None)
        self.retriever = wanted.retriever or ("audio" if acoustic is None else "text")
        # What is asked for may stand in dev: nothing is tuned on it. What was not transcribed teaches nothing.
        self.dev = [
            one
            for one in corpus.dev[: wanted.dev]
            if one.text.strip() and not any(_same_clip(one, other) for other in asked)
        ]
        self.remarks = self._remarks()
        # What is asked for is heard first: what cannot be read is refused before anything is tuned.
        self._heard = dict(zip(asked, self._lists(asked) or (), strict=False))
        self.choices = self._choose()

    def transcribe(self, asked: Sequence[Utterance]) -> Iterator[dict[str, Any]]:
        """Transcribe one by one: ``id``, ``text``, ``demonstrations``, and how it was come by."""
        known = [self._heard[one] for one in asked if one in self._heard]
        lists = known if known and len(known) == len(asked) else self._lists(asked)
        rule = None if lists is None else _rule(self.choices.rule or PLAIN, self.choices.weights, on_tuned="refuse")
        for place, prompt in enumerate(self._prompts(asked, lists, self.choices.shots)):
            row: dict[str, Any] = {
                "id": prompt.target.id,
                "demonstrations": [one.id for one in prompt.demonstrations],
                "shots": self.choices.shots,
            }
            if lists is None or rule is None:
                with reusing_clips(self.lens):
                    answer = write_transcript(self.lens, prompt, guard=self.wanted.guard)
                yield {**row, "text": " ".join(answer.text.split()), "ended": answer.ended}
                continue
            [candidates], _ = score_lists(self.lens, [prompt], [lists[place]])
            weights = self.choices.to_dict()["weights"]
            yield {
                **row,
                "text": choose(candidates, rule).text,
                "acoustic_best": _first(lists[place]),
                "hypotheses": len(candidates),
                "rule": self.choices.rule,
                **({} if weights is None else {"weights": weights}),
            }

    def account(self, *, acoustic_trained_on: TrainedOn = "not-declared") -> Ledger:
        """Return what was seen of the language, and where; of the speech LLM's own training nothing is known here."""
        shown = self.choices.shots > 0
        return ledger(
            acoustic=None if self.acoustic is None else "acoustic model",
            acoustic_trained_on=acoustic_trained_on,
            selector="speech LLM",
            condition="micl" if shown else "asr",
            retriever=self.retriever if shown else None,
            retriever_uses=make(self.retriever).uses if shown else (),
            tuned=self.choices.tuned,
        )

    def _remarks(self) -> tuple[str, ...]:
        if not isinstance(self.acoustic, CtcModel):
            return ()
        texts = [one.text for one in self.corpus.pool]
        normalise = NORMALISERS[self.wanted.normaliser]
        told = tell_unwritable(texts, self.acoustic.vocabulary, of="the examples", normalise=normalise)
        return () if told is None else (told,)

    def _choose(self) -> Choices:
        wanted, several = self.wanted, len(self.wanted.shots) > 1
        rule = None
        if self.acoustic is not None:
            # One utterance cannot be judged by another.
            rule = wanted.rule or (INTERPOLATED if len(self.dev) > 1 else PLAIN)
        if (several or rule == INTERPOLATED) and not self.dev:
            raise BadInput(
                "nothing is left to tune on",
                given=f"{len(self.corpus.dev[: wanted.dev])} utterances of dev, all of them asked for or without text",
                fix="transcribe other recordings, or name one number of shots and another rule",
            )
        if not several and rule != INTERPOLATED:
            return Choices(shots=wanted.shots[0], rule=rule, retriever=self.retriever)
        lists = self._lists(self.dev)
        said = [one.text for one in self.dev]
        found: dict[int, tuple[int, int, str, Weights | None]] = {}
        for shots in sorted(wanted.shots):
            self.tell(f"trying {shots} examples on {len(self.dev)} utterances of dev")
            texts, taken, weights = self._tried(lists, rule or PLAIN, shots)
            wrong, finer = (
                int(count_errors(said, texts, unit=unit, normaliser=wanted.normaliser).errors.sum())
                for unit in ("words", "characters")
            )
            found[shots] = wrong, finer, taken, weights
        # Of equals the fewest examples: they cost the least.
        best = min(found, key=lambda shots: (*found[shots][:2], shots))
        wrong, _, taken, weights = found[best]
        compared = rule == INTERPOLATED and wanted.rule is None
        return Choices(
            shots=best,
            rule=rule and taken,
            retriever=self.retriever,
            weights=weights,
            tuned=tuple(
                what
                for what, was in (
                    ("rule", compared),
                    ("weights", weights is not None),
                    ("number of examples", several),
                )
                if was
            ),
            tried={shots: one[0] for shots, one in found.items()} if several else None,
            utterances=len(self.dev),
            wrong=wrong,
            words=int(count_errors(said, said, normaliser=wanted.normaliser).length.sum()),
        )

    def _tried(self, lists: list[NBest] | None, rule: str, shots: int) -> tuple[list[str], str, Weights | None]:
        prompts = list(self._prompts(self.dev, lists, shots))
        if lists is None:
            with reusing_clips(self.lens):
                return [write_transcript(self.lens, one, guard=self.wanted.guard).text for one in prompts], rule, None
        scored, _ = score_lists(self.lens, prompts, lists)
        weights, said, same = None, [one.text for one in self.dev], self.wanted.normaliser
        if rule == INTERPOLATED and self.wanted.rule is None:
            plain = [choice.text for choice in select(scored, PLAIN)]
            untuned = int(count_errors(said, plain, normaliser=same).errors.sum())
            # Weights of a small dev are its own: they must be better where they were not tuned.
            if held_out_errors(scored, said, normaliser=same) >= untuned:
                rule = PLAIN
        if rule == INTERPOLATED:
            weights = tune(scored, said, normaliser=same)
        made = _rule(rule, weights, on_tuned="tagged")
        return [choose(candidates, made).text for candidates in scored], rule, weights

    def _lists(self, utterances: Sequence[Utterance]) -> list[NBest] | None:
        if self.acoustic is None:
            return None
        if not utterances:
            return []

        def tick(done: int) -> None:
            self.tell(f"listened to {done} of {len(utterances)} recordings")

        tick(0)
        return self.acoustic.nbest(utterances, n=self.wanted.n, tick=tick)

    def _prompts(self, utterances: Sequence[Utterance], lists: list[NBest] | None, shots: int) -> Iterator[Prompt]:
        heard = [None] * len(utterances) if lists is None else [_first(one) for one in lists]
        queries = [Query(one, hypothesis=text) for one, text in zip(utterances, heard, strict=True)]
        rankings = retrieve(queries, self.corpus.pool, k=shots, retriever=self.retriever)
        for one, ranking in zip(utterances, rankings, strict=True):
            shown = [self.corpus[name] for name in ranking.ids]
            yield build_prompt(one, shown, condition="micl" if shown else "asr")


def _rule(name: str, weights: Weights | None, *, on_tuned: OnTuned) -> Rule:
    return make_rule(name) if weights is None else Interpolated(weights, on_tuned=on_tuned)


def _first(one: NBest) -> str:
    return one.best.text if len(one) else ""


def _same_clip(one: Utterance, other: Utterance) -> bool:
    left, right = one.audio, other.audio
    if one.id == other.id or (left.source, left.start, left.end) == (right.source, right.start, right.end):
        return True
    return abs(left.seconds - right.seconds) < SAME_SECONDS and left.digest == right.digest
