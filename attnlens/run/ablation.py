"""Carry out an ablation spec: grids, heads, nulls, findings and tables in one folder that the report can read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from attnlens.context.prompt import Prompt
from attnlens.context.ranked import ranked_prompts
from attnlens.context.retrieval.base import Query
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, listing
from attnlens.evidence.ablate import ablate, knockout_grid
from attnlens.evidence.edges import windows
from attnlens.evidence.effects import Ablations
from attnlens.evidence.notes import Notes
from attnlens.evidence.observed import observed
from attnlens.run.ablation_spec import AblationSpec, read_ablation_spec
from attnlens.run.corpora import find_corpus
from attnlens.run.folder import differences
from attnlens.run.lock import held
from attnlens.stats.findings import Findings

if TYPE_CHECKING:
    import pandas as pd

    from attnlens.models.speechlm import SpeechLM

__all__ = ["Ablated", "prompts_of", "run_ablation"]

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Ablated:
    """What an ablation run found: the table of all depths, the findings, and the other tables by name."""

    folder: Path
    table: Ablations
    findings: Findings
    tables: dict[str, pd.DataFrame]


def prompts_of(spec: AblationSpec, corpus: Corpus) -> list[Prompt]:
    """Build the clean prompts of one corpus.

    >>> spec = AblationSpec(model="tiny:qwen3-asr", corpora=["synthetic"], limit=2, shots=2, retriever="random")
    >>> [prompt.shots for prompt in prompts_of(spec, find_corpus("synthetic"))]
    [2, 2]
    """
    asked = list(getattr(corpus, spec.split))[: spec.limit]
    if not asked:
        raise BadInput(f"the corpus {corpus.name!r} has no {spec.split}", fix="pass another split")
    return ranked_prompts(
        [Query(one) for one in asked],
        corpus,
        shots=spec.shots,
        retriever=spec.retriever,
        condition=spec.condition,
        template=spec.template,
        order=spec.order,
        seed=spec.seed,
    )


def run_ablation(spec: AblationSpec, folder: Path | str, *, tell: Tell | None = None) -> Ablated:
    """Measure everything a spec asks for and write it into a folder.

    Written are ``spec.yaml``, ``traces.zarr`` of the clean prompts, ``tables/`` and ``findings.json``, so that
    `attnlens plot` and `attnlens report` work on the folder. What is measured is kept in ``notes.jsonl`` at once: the
    same spec and folder go on where they were stopped, and another spec is refused.
    """
    said = tell or (lambda _what: None)
    corpora = [find_corpus(name) for name in spec.corpora]
    by_corpus = [prompts_of(spec, one) for one in corpora]
    prompts = [prompt for some in by_corpus for prompt in some]
    path = _folder(spec, Path(folder))
    with held(path / "lock"):
        return _measured(spec, path, prompts, corpora, said)


def _measured(spec: AblationSpec, path: Path, prompts: list[Prompt], corpora: list[Corpus], said: Tell) -> Ablated:
    from attnlens.models.load import load

    notes = Notes(path / "notes.jsonl")
    if len(notes):
        said(f"going on in {path}: {len(notes)} notes of what is measured are there")
    said(f"loading {spec.model}")
    lens = load(spec.model, revision=spec.revision, dtype=spec.dtype, device_map=spec.device, adapter=spec.adapter)
    said("tracing the clean prompts")
    trace = lens.trace(prompts, measures=("entropy", "received"), seed=spec.seed)
    _save(trace, path / "traces.zarr")
    tables: dict[str, pd.DataFrame] = {}
    (path / "tables").mkdir(exist_ok=True)

    def keep(**frames: pd.DataFrame) -> None:
        # Each as soon as it is there: what comes after may take long, and be stopped.
        for name, frame in frames.items():
            tables[name] = frame
            frame.to_csv(path / "tables" / f"{name}.csv", index=False, lineterminator="\n")

    table = _ablations(spec, lens, prompts, corpora, notes=notes, said=said)
    findings = [table.explain(), observed(trace, seed=spec.seed)]
    _told(findings).write(path)
    keep(ablation=table.to_frame(), **({"knockout": table.knockouts()} if spec.edges else {}), **_label_nulls(trace))
    if spec.heads == "on":
        found, told = _heads(lens, prompts, notes, said)
        keep(**found)
        # In a model that uses nothing there is nothing to foretell: what correlates there is arithmetic.
        findings += [told] if findings[0].supported else []
    if spec.transcribe == "on":
        from attnlens.run.cut_errors import cut_errors, edges_everywhere

        said("transcribing under each cut")
        keep(cut_errors=cut_errors(lens, prompts, edges_everywhere(table), notes=notes))
    if spec.sinks == "on":
        from attnlens.evidence.sinks import find_sinks

        said("looking for sinks")
        keep(sinks=find_sinks(lens, prompts).to_frame())
    if spec.model_null == "on":
        from attnlens.evidence.model_null import model_null

        said("drawing weights anew")
        null = model_null(lens, prompts, notes=notes)
        keep(model_null=null.to_frame())
        findings.append(null.findings(seed=spec.seed))
    together = _told(findings)
    together.write(path)
    return Ablated(path, table, together, tables)


def _folder(spec: AblationSpec, path: Path) -> Path:
    """Make the folder with its spec, or take up one that was begun with the same."""
    from attnlens.asr.rerank_files import new_folder

    begun = path / "spec.yaml"
    if not begun.exists():
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        new_folder(path)
        begun.write_text(text, encoding="utf-8")
        return path
    found = read_ablation_spec(begun)
    if changed := differences(found, spec):
        raise BadInput(
            f"{path} was begun with another spec",
            given=listing(changed, at_most=8),
            fix=f"pass another --out, or go on with `attnlens ablate {begun} --out {path}`",
        )
    return path


def _told(findings: Sequence[Findings]) -> Findings:
    """Join findings; that a trace of clean prompts alone has nothing to compare goes without saying."""
    return Findings(tuple(one for some in findings for one in some if one.name != "costs"))


def _ablations(
    spec: AblationSpec,
    lens: SpeechLM,
    prompts: Sequence[Prompt],
    corpora: Sequence[Corpus],
    *,
    notes: Notes,
    said: Tell,
) -> Ablations:
    parts = []
    options: dict[str, Any] = {"controls": spec.controls, "seed": spec.seed, "how": spec.how, "notes": notes}
    if spec.edges:
        said("cutting edges")
        chosen: Any = windows(lens.n_layers, count=spec.windows) if isinstance(spec.windows, int) else spec.windows
        edges = None if spec.edges == "every" else spec.edges
        parts.append(knockout_grid(lens, prompts, edges=edges, windows=chosen, **options))
    if spec.ablations:
        said("ablating prompts and representations")
        parts.append(ablate(lens, prompts, spec.ablations, corpora=corpora, **options))
    if not parts:
        raise BadInput("nothing is to be ablated", given="no edges, no ablations", fix="name some")
    first = parts[0]
    effects = tuple(one for part in parts for one in part.effects)
    return Ablations(**{**vars(first), "effects": effects}) if len(parts) > 1 else first


def _heads(
    lens: SpeechLM, prompts: Sequence[Prompt], notes: Notes, said: Tell
) -> tuple[dict[str, pd.DataFrame], Findings]:
    from attnlens.evidence.heads import search_heads

    said("taking heads away")
    search = search_heads(lens, prompts, notes=notes)
    said("taking heads away together")
    faithful = search.faithfulness()
    tables = {
        "head_effects": search.to_frame(),
        "faithfulness": faithful.to_frame(),
        "cumulative": search.cumulative(),
    }
    return tables, faithful.findings()


def _label_nulls(trace: Any) -> dict[str, pd.DataFrame]:
    import pandas as pd

    from attnlens.evidence.label_nulls import label_nulls

    try:
        found = [label_nulls(trace, statistic=one).to_frame() for one in ("log_ratio", "bias")]
    except BadInput:
        return {}  # these prompts do not show both modalities; the findings say so
    return {"label_nulls": pd.concat(found, ignore_index=True)}


def _save(trace: Any, path: Path) -> None:
    from attnlens.traces.writing import save

    ids = [f"{place:04d}-{digest}" for place, digest in enumerate(trace["prompt"].values.tolist())]
    # Whole or not there: a kill while it is written leaves the part aside.
    part = path.with_name("traces.part.zarr")
    shutil.rmtree(part, ignore_errors=True)
    save(trace.assign_coords(item=ids), part)
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
