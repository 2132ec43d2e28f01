"""What a re-ranking run leaves on disk: lists, scores, transcripts, tables, the ledger, and what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from attnlens.asr.exposure import Ledger, leakage, ledger
from attnlens.asr.nbest import write_nbest
from attnlens.asr.rerank_spec import RerankSpec
from attnlens.context.retrieval.base import make
from attnlens.errors import BadInput

if TYPE_CHECKING:
    from attnlens.asr.rerank import Reranked
    from attnlens.asr.table import SelectionTable

__all__ = ["ledger_of", "new_folder", "write_results"]


def new_folder(path: Path | str) -> Path:
    """Make the folder of a run, or refuse one that holds something: nothing is overwritten."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path} is not empty", fix="pass another --out, or remove it")
    path.mkdir(parents=True, exist_ok=True)
    return path


def ledger_of(spec: RerankSpec, found: Sequence[Reranked]) -> Ledger:
    """Fill the exposure ledger from a spec; what splits share is looked up in the corpora."""
    part = spec.selector
    tuned = list(dict.fromkeys(f"weights of {name}" for one in found for name in one.weights))
    retriever = part.retriever if part is not None and part.shots else None
    return ledger(
        acoustic="acoustic model",
        acoustic_trained_on=spec.acoustic.trained_on,
        selector=None if part is None else "speech LLM",
        selector_trained_on="not-declared" if part is None else part.trained_on,
        condition=None if part is None else part.asked,
        retriever=retriever,
        retriever_uses=make(retriever).uses if retriever else (),
        pool_models=[] if spec.ngram is None else ["n-gram model"],
        tuned=tuned,
        leaks={one.corpus.name: leakage(one.corpus) for one in found},
    )


def write_results(
    folder: Path, spec: RerankSpec, found: Sequence[Reranked], tables: Sequence[SelectionTable], account: Ledger
) -> dict[str, Any]:
    """Write everything and return the summary that stands in ``results.json``.

    ``tables`` are those of the languages, in order; one over all of them may follow.
    """
    fields = spec.model_dump(mode="json")
    (folder / "spec.yaml").write_text(
        f"# hash {spec.hash}\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}", encoding="utf-8"
    )
    for one, table in zip(found, tables, strict=False):
        _language(folder / one.corpus.name, one, table)
    pages = [f"## {table.language}\n\n{table.to_markdown()}\n" for table in tables]
    pages.append(f"## What was seen of the target language\n\n{account.to_markdown()}\n")
    (folder / "table.md").write_text("\n".join(pages), encoding="utf-8")
    result = {
        "hash": spec.hash,
        "tables": [table.to_dict() for table in tables],
        "exposure": account.to_dict(),
        "languages": [_summary(one) for one in found],
    }
    # z of the matched pairs is infinite where all segments differ by the same amount; JSON knows no infinity.
    text = json.dumps(_finite(result), ensure_ascii=False, indent=2, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    return result


def _language(folder: Path, one: Reranked, table: SelectionTable) -> None:
    (folder / "transcripts").mkdir(parents=True)
    write_nbest(one.nbest, folder / "nbest.jsonl")
    lines = []
    for place, listed in enumerate(one.nbest):
        scores = [
            {
                "text": hypothesis.text,
                "acoustic": hypothesis.acoustic,
                **{name: lists[place].scores[rank].total for name, lists in one.candidates.items()},
                "tokens": {name: lists[place].scores[rank].tokens for name, lists in one.candidates.items()},
            }
            for rank, hypothesis in enumerate(listed.hypotheses)
        ]
        lines.append(json.dumps(_finite({"id": listed.utterance_id, "hypotheses": scores}), ensure_ascii=False))
    (folder / "scores.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    rows = []
    for place, listed in enumerate(one.nbest):
        texts = {row.system: row.transcripts[place] for row in table.rows}
        rows.append({"id": listed.utterance_id, "reference": one.test.references[place], **texts})
    (folder / "transcripts.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    for row in table.rows:
        name = "".join(letter if letter.isalnum() or letter in "-+" else "_" for letter in row.system)
        text = "".join(f"{' '.join(line.split())}\n" for line in row.transcripts)
        (folder / "transcripts" / f"{name}.txt").write_text(text, encoding="utf-8")


def _summary(one: Reranked) -> dict[str, Any]:
    return {
        "language": one.corpus.name,
        "weights": {
            name: {"lm": found.lm, "bonus": found.bonus, "dev_errors": found.errors, "dev": len(found.tuned_on)}
            for name, found in one.weights.items()
        },
        "scoring": [vars(log) for log in one.logs],
        "copies": None if one.copies is None else str(one.copies),
        "remarks": list(one.remarks),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
