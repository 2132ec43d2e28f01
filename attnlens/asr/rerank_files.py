"""What a re-ranking run leaves on disk: lists, scores, transcripts, tables, the ledger, and what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from attnlens.asr.exposure import Exposure, Kind, Ledger, Place, leakage, ledger
from attnlens.asr.nbest import write_nbest
from attnlens.asr.rerank_spec import RerankSpec, TextLmPart
from attnlens.context.retrieval.base import make
from attnlens.data.corpus import Split
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
        more=[_text_lm(one) for one in spec.text_lms],
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


def _text_lm(part: TextLmPart) -> Exposure:
    seen: dict[tuple[Place, Kind], tuple[Split, ...]] = {("query", "audio"): ("test",)}
    if part.shots:
        seen["context", "text"] = ("pool",)
    if part.trained_on == "target":
        seen["weights", "text"] = ("pool",)
    return Exposure(part.name, seen, undeclared=part.trained_on == "not-declared")


def _language(folder: Path, one: Reranked, table: SelectionTable) -> None:
    folder.mkdir(parents=True)
    write_nbest(one.nbest, folder / "nbest.jsonl")
    seeds, size = one.test.seeds, len(one.nbest)
    lines, rows = [], []
    for block, seed in enumerate(seeds):
        # One seed is not worth a word; of several each line says which.
        drawn: dict[str, Any] = {"seed": seed} if len(seeds) > 1 else {}
        for place, listed in enumerate(one.nbest, start=block * size):
            # What demonstrations do not change, such as the n-gram model, was scored once.
            scored = {name: lists[place % len(lists)].scores for name, lists in one.candidates.items()}
            scores = [
                {
                    "text": hypothesis.text,
                    "acoustic": hypothesis.acoustic,
                    **{name: found[rank].total for name, found in scored.items()},
                    "tokens": {name: found[rank].tokens for name, found in scored.items()},
                }
                for rank, hypothesis in enumerate(listed.hypotheses)
            ]
            lines.append(_finite({"id": listed.utterance_id, **drawn, "hypotheses": scores}))
            texts = {row.system: row.transcripts[place] for row in table.rows}
            rows.append({"id": listed.utterance_id, **drawn, "reference": one.test.said[place], **texts})
        texts_of = folder / "transcripts" / (f"seed-{seed}" if drawn else "")
        texts_of.mkdir(parents=True, exist_ok=True)
        for row in table.rows:
            name = "".join(letter if letter.isalnum() or letter in "-+" else "_" for letter in row.system)
            here = row.transcripts[block * size : (block + 1) * size]
            (texts_of / f"{name}.txt").write_text(
                "".join(f"{' '.join(line.split())}\n" for line in here), encoding="utf-8"
            )
    for name, part in (("scores", lines), ("transcripts", rows)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


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
