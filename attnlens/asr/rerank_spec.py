"""One typed description of a re-ranking run: acoustic model, speech LLM, language models, rules."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attnlens.asr.exposure import TrainedOn
from attnlens.asr.repetition import GUARDS
from attnlens.asr.selection import RULES
from attnlens.asr.symbols import SymbolUnit
from attnlens.context.controls import parse_control
from attnlens.context.prompt import Condition, Order
from attnlens.context.retrieval import RETRIEVERS
from attnlens.context.retrieval.base import parse_retriever
from attnlens.context.templates import TEMPLATES
from attnlens.data.normalise import NORMALISERS
from attnlens.errors import BadInput, UnknownName
from attnlens.mapping import read_mapping

__all__ = ["RULE_NAMES", "AcousticPart", "NgramPart", "RerankSpec", "SelectorPart", "TextLmPart", "read_rerank_spec"]

RULE_NAMES = ("sum-logprob", "per-token", "paper-text", "paper-code", "z-score", "interpolated")
"""The rules that a table compares when nobody says otherwise."""
Count = Annotated[int, Field(ge=1, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class AcousticPart(_Part):
    """What makes the N-best lists."""

    model: str | dict[str, str] = "organism"
    """A folder or hub name, or one for each corpus by its name; `organism` is the shipped model of each language."""
    trained_on: TrainedOn = "target"
    """Whether the target language is in its training; `not-declared` says that nobody knows."""
    language: str | dict[str, str] | None = None
    """The adapter of an MMS model, or what Whisper is to write, or one for each corpus by its name."""
    device: str = "cpu"
    """Where it runs: cpu, cuda."""
    n: Count = 10
    """Hypotheses per utterance."""
    beam: Count | None = None
    """Prefixes kept by the search; None is the decoder's own choice."""
    cache: str | None = None
    """A folder in which a CTC model's frames are kept by content, so that the next run need not listen again."""


class SelectorPart(_Part):
    """The speech LLM that scores the hypotheses after demonstrations."""

    model: str = "organism"
    """What `attnlens.load` takes."""
    revision: str | None = None
    """The hub revision."""
    adapter: str | None = None
    dtype: str = "auto"
    device: str | None = None
    trained_on: TrainedOn = "not-declared"
    condition: Condition = "micl"
    shots: Annotated[int, Field(ge=0, strict=True)] = 8
    retriever: str = "text"
    """Text retrievers search with the acoustic 1-best."""
    order: Order = "nearest-first"
    template: str = "default"
    controls: tuple[str, ...] = ("mismatched-pairs",)
    """Each gives a row for `sum-logprob` and one for `interpolated`, with the weights of the clean prompts."""
    prompted: str | None = None
    """A repetition guard: let the model also write the transcripts. None: it does not."""
    instruction: Literal["on", "off"] = "off"
    """Whether it is also asked to choose from the list in words."""

    @property
    def asked(self) -> Condition:
        """The condition of the prompts: without demonstrations there is only one."""
        return self.condition if self.shots else "asr"


class NgramPart(_Part):
    """An n-gram model of the pool's texts, as a re-ranker and in the beam."""

    order: Count = 5
    unit: SymbolUnit = "characters"
    pieces: Count = 500
    """How many pieces of words a model of the unit `pieces` has at most."""
    joint_weights: tuple[float, ...] = (0.3, 0.6, 1.0)
    """Weights tried on dev for joint decoding; without dev the middle one stands."""
    joint_bonuses: tuple[float, ...] = (0.0, 0.5)


class TextLmPart(_Part):
    """A text language model of transformers as a re-ranker beside the speech LLM: what hears nothing but reads."""

    model: str | dict[str, str]
    """A folder, hub name or `.gguf` file, or one for each corpus by its name."""
    name: str = "text LM"
    """What its row is called."""
    shots: Annotated[int, Field(ge=0, strict=True)] = 8
    """Texts of the pool shown as lines before a hypothesis; 0 for a model of single texts, as `text-lm` trains them."""
    retriever: str = "text"
    trained_on: TrainedOn = "not-declared"
    device: str = "cpu"


class RerankSpec(_Part):
    """Describe a re-ranking run completely; unknown keys are refused.

    >>> RerankSpec(corpora=["quechua"]).acoustic.n
    10
    >>> RerankSpec(corpora=["quechua"], rules=["z-scor"])
    Traceback (most recent call last):
    attnlens.errors.UnknownName: unknown selection rule 'z-scor'
      present: interpolated, lm-only, paper-code, paper-text, per-token, sum-logprob, z-score
      fix:     did you mean 'z-score'?
    """

    corpora: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names or paths, one language each."""
    limit: Count | None = None
    """At most so many utterances of test, and of dev, from the front."""
    acoustic: AcousticPart = AcousticPart()
    selector: SelectorPart | None = SelectorPart()
    """None leaves the speech LLM out: the n-gram model then scores the lists."""
    ngram: NgramPart | None = NgramPart()
    text_lms: tuple[TextLmPart, ...] = ()
    """Text models that re-rank the same lists, a row each."""
    rules: tuple[str, ...] = RULE_NAMES
    normaliser: str = "basic-unicode"
    unit: Literal["words", "characters"] = "words"
    """What weights are tuned for and comparisons count; both rates are told."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)] = (0,)
    """Each draws demonstrations and controls of its own; rates are means over them, utterances are what is drawn."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise _refusal(error) from None

    @model_validator(mode="after")
    def _known(self) -> Self:
        # Unknown names are refused before anything is loaded.
        for rule in self.rules:
            RULES.require(rule)
        NORMALISERS.require(self.normaliser)
        names = [one.name for one in self.text_lms]
        if len(set(names)) < len(names):
            raise BadInput("two text models have one name", given=", ".join(names), fix="name each otherwise")
        for one in self.text_lms:
            parse_retriever(one.retriever)
        if len(set(self.seeds)) < len(self.seeds):
            raise BadInput("a seed stands twice", given=f"seeds: {list(self.seeds)}", fix="name each once")
        if self.selector is None and self.ngram is None:
            raise BadInput("nothing scores the hypotheses", given="selector: null, ngram: null", fix="name one")
        if self.selector is not None:
            RETRIEVERS.require(self.selector.retriever)
            TEMPLATES.require(self.selector.template)
            for control in self.selector.controls:
                parse_control(control)
            if self.selector.prompted is not None:
                GUARDS.require(self.selector.prompted)
        return self

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name the results this spec describes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_rerank_spec(path: Path | str, **changes: Any) -> RerankSpec:
    """Read a spec from a YAML file; ``changes`` replace its keys."""
    fields = read_mapping(path, keys=RerankSpec.model_fields, example="corpora: [guarani]", what="spec file")
    return RerankSpec(**{**fields, **changes})


def _refusal(error: ValidationError) -> BadInput | UnknownName:
    first = error.errors()[0]
    *parents, last = (str(part) for part in first["loc"]) if first["loc"] else ("spec",)
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"acoustic": AcousticPart, "selector": SelectorPart, "ngram": NgramPart}
        part = parts.get(parents[0], RerankSpec) if parents else RerankSpec
        return UnknownName.among("key of the re-ranking spec", last, sorted(part.model_fields))
    key = ".".join([*parents, last])
    given = None if first["type"] == "missing" else repr(first["input"])
    return BadInput(f"re-ranking spec, {key}: {first['msg']}", given=given, fix="mend that key")
