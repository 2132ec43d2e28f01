"""Choosing among an acoustic model's hypotheses, from a spec to tables: alone, or as a step after a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlens.asr.rerank_spec import AcousticPart, RerankSpec, SelectorPart
from attnlens.context.controls import parse_control
from attnlens.errors import BadInput, listing
from attnlens.run.corpora import find_corpus
from attnlens.run.folder import LOG, RunFolder
from attnlens.run.load import load_spec
from attnlens.run.spec import RunSpec
from attnlens.run.tables import ALL

if TYPE_CHECKING:
    from attnlens.asr.acoustic import AcousticModel
    from attnlens.asr.exposure import Ledger
    from attnlens.asr.rerank import Reranked
    from attnlens.asr.table import SelectionTable
    from attnlens.data.corpus import Corpus
    from attnlens.models.speechlm import SpeechLM

__all__ = [
    "SHIPPED",
    "Selected",
    "acoustic_name",
    "load_acoustic_for",
    "rerank_spec",
    "select_after_run",
    "select_hypotheses",
]

SHIPPED = "organism"
"""Stands for the acoustic model that is shipped for a corpus."""
Tell = Callable[[str, str, int, int], None]
"""Told of which corpus, what is being done, how much of it is done, and of how much."""
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Selected:
    """What came of it: everything of each language, a table each, the exposure ledger, and plain values of it all.

    With several languages the last of ``tables`` is over all of them together.
    """

    found: tuple[Reranked, ...]
    tables: tuple[SelectionTable, ...]
    account: Ledger
    result: dict[str, Any]

    def rows(self) -> dict[str, Rows]:
        """Return the tables of a run directory: ``selection``, ``oracle`` (error rate by list size) and ``ledger``."""
        return {
            "selection": [row for table in self.tables for row in table.to_rows(corpus=table.language)],
            "oracle": self._curves(),
            "ledger": self.account.to_rows(),
        }

    def _curves(self) -> Rows:
        """Return the word error rate by system and length of list, over all languages that have such lists."""
        tables = self.tables[: len(self.found)]
        words = [table.words for table in tables]
        rows: Rows = []
        for system, curve in tables[0].curves.items():
            for n in curve:
                rates = [table.curves.get(system, {}).get(n) for table in tables]
                if None not in rates:
                    wrong = sum(rate * count for rate, count in zip(rates, words, strict=True) if rate is not None)
                    rows.append({"system": system, "n": n, "estimate": wrong / sum(words), "metric": "wer"})
        return rows


def select_hypotheses(
    spec: RerankSpec, folder: Path, *, lens: SpeechLM | None = None, tell: Tell | None = None
) -> Selected:
    """Do what a re-ranking spec says for each of its corpora, and write everything into a folder.

    Parameters
    ----------
    lens
        The speech LLM of ``spec.selector``, where it is loaded already.
    """
    from attnlens.asr.load_acoustic import require_short
    from attnlens.asr.pooled import pooled
    from attnlens.asr.rerank import rerank_language
    from attnlens.asr.rerank_files import ledger_of, write_results
    from attnlens.asr.tabulate import selection_tables

    part = spec.selector
    corpora = [find_corpus(name) for name in spec.corpora]
    names = [acoustic_name(spec.acoustic.model, corpus) for corpus in corpora]
    for corpus, name in zip(corpora, names, strict=True):
        # Before another corpus is worked on for hours.
        require_short(name, [*corpus.test[: spec.limit], *corpus.dev[: spec.limit]])
    if lens is None and part is not None:
        from attnlens.models.load import load

        lens = load(part.model, revision=part.revision, dtype=part.dtype, device_map=part.device, adapter=part.adapter)
    found = []
    for corpus in corpora:

        def told(what: str, done: int, of: int, *, corpus: Corpus = corpus) -> None:
            if tell is not None:
                tell(corpus.name, what, done, of)

        found.append(rerank_language(spec, corpus, load_acoustic_for(spec.acoustic, corpus), lens, tell=told))
    for one in found:
        for said in (*one.remarks, *(f"{one.corpus.name}: {log}" for log in one.logs)):
            LOG.info("selection: %s", said)
    options: dict[str, Any] = {"unit": spec.unit, "normaliser": spec.normaliser, "seed": spec.seeds[0]}
    tables = selection_tables([one.test for one in found], **options)
    if len(found) > 1:
        tables += selection_tables([pooled(ALL, [one.test for one in found], tables)], **options)
    account = ledger_of(spec, found)
    return Selected(tuple(found), tuple(tables), account, write_results(folder, spec, found, tables, account))


def rerank_spec(spec: RunSpec) -> RerankSpec:
    """Return what selection means in a run: its corpora and model, its controls, as many demonstrations as it has.

    >>> found = rerank_spec(RunSpec(context={"shots": "0,4"}))
    >>> found.corpora, found.selector.shots, found.selector.controls
    (('guarani', 'quechua', 'maori'), 4, ('mismatched-pairs',))
    """
    part, model, context = spec.selection, spec.model, spec.context
    if spec.data.split != "test":
        raise BadInput(
            "weights are tuned on dev and hypotheses chosen for test", given=f"data.split: {spec.data.split}"
        )
    selector = SelectorPart(
        model=model.name,
        revision=model.revision,
        adapter=None if model.adapter is None else str(model.adapter),
        dtype=model.dtype,
        device=None if model.device == "auto" else model.device,
        condition="micl",
        shots=max(context.shots) if part.shots is None else part.shots,
        retriever=part.retriever,
        order=part.order,
        template=context.template,
        controls=tuple(name for name in context.controls if _by_itself(name)),
    )
    return RerankSpec(
        corpora=spec.data.corpora,
        limit=spec.data.limit,
        acoustic=part.acoustic,
        selector=selector,
        ngram=part.ngram,
        rules=part.rules,
        normaliser=spec.data.normaliser,
        seeds=spec.seeds,
    )


def _by_itself(control: str) -> bool:
    """Return whether a control needs nothing but the prompt and its own corpus."""
    name, options = parse_control(control)
    return name != "none" and "other" not in options


def select_after_run(folder: str | Path, *, tick: Callable[[str], None] | None = None) -> Selected:
    """Choose hypotheses with the model of a finished run, into its ``selection/`` and its tables.

    Refused where no acoustic model is named and none is shipped for the corpora.
    """
    from attnlens.run.bench import Bench

    run = RunFolder(Path(folder))
    spec = load_spec(run.path / "spec.yaml")
    wanted = rerank_spec(spec)
    for name in wanted.corpora:
        acoustic_name(wanted.acoustic.model, find_corpus(name))

    def tell(corpus: str, what: str, done: int, of: int) -> None:
        if tick is not None:
            tick(f"{corpus}: {what}, {done} of {of}")

    # Written beside and then moved, so that what is there is whole.
    part, whole = run.path / ".selection", run.path / "selection"
    for one in (part, whole):
        shutil.rmtree(one, ignore_errors=True)
    part.mkdir()
    selected = select_hypotheses(wanted, part, lens=Bench(spec).lens, tell=tell)
    part.rename(whole)
    for name, rows in selected.rows().items():
        run.write_table(run.tables / f"{name}.csv", rows)
    return selected


def load_acoustic_for(part: AcousticPart, corpus: Corpus) -> AcousticModel:
    """Load the acoustic model that is named for a corpus; ``organism`` is the one shipped for it."""
    from attnlens.asr.load_acoustic import load_acoustic

    language = part.language if isinstance(part.language, str | None) else part.language.get(corpus.name)
    return load_acoustic(acoustic_name(part.model, corpus), language=language, device=part.device, cache=part.cache)


def acoustic_name(model: str | Mapping[str, str], corpus: Corpus) -> str:
    """Return the folder or hub name of the acoustic model for a corpus, or refuse where there is none."""
    from attnlens.organism.shipped import TARGETS, acoustic_folder

    name = model if isinstance(model, str) else model.get(corpus.name)
    if name is None or (name == SHIPPED and corpus.name not in TARGETS):
        raise BadInput(
            f"there is no acoustic model for {corpus.name!r}",
            given=f"acoustic.model: {model}",
            present=f"shipped for {listing(TARGETS)}" if name else listing(model),
            fix="name a CTC model or Whisper in acoustic.model, or one for each corpus by its name",
        )
    return str(acoustic_folder(corpus.name)) if name == SHIPPED else name
