"""Table 6, rows Transformer LM and Llama: the lists of a re-ranking, scored by a text model instead of a speech LLM.

python -m experiments.paper.text_lm runs/table6 runs/table6-llama --row llama-3-8b --shots 50 \\
    --model meta-llama/Meta-Llama-3-8B-Instruct --device cuda
python -m experiments.paper.text_lm runs/table6 runs/table6-transformer --row transformer-lm --shots 0 \\
    --model khinalug=lms/khinalug/model,kichwa=lms/kichwa/model,mboshi=lms/mboshi/model

A model that reads demonstrations is shown so many texts of the pool, nearest to the acoustic 1-best first; one trained
on the pool (recipe text-lm) is shown none. How many texts the paper showed is not published; its predecessor showed 50.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from attnlens.asr.candidates import score_candidates
from attnlens.asr.causal_lm import CausalLM, load_causal_lm
from attnlens.asr.error_rate import count_errors
from attnlens.asr.nbest import NBest, read_nbest
from attnlens.asr.selection import make_rule, select
from attnlens.context.retrieval import Query, retrieve
from attnlens.data.corpus import Corpus
from attnlens.run.corpora import find_corpus


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="what `attnlens rerank` wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--row", required=True, choices=("llama-3-8b", "transformer-lm"))
    parser.add_argument("--model", required=True, help="a folder or hub name, or one per corpus: name=folder,...")
    parser.add_argument("--shots", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args(given)
    spec = yaml.safe_load((asked.source / "spec.yaml").read_text(encoding="utf-8"))
    tables = []
    for path in spec["corpora"]:
        corpus = find_corpus(path)
        lm = load_causal_lm(named(asked.model, corpus), separator="\n" if asked.shots else None, device=asked.device)
        tables.append(scored(asked, corpus, lm, normaliser=spec["normaliser"]))
    told = {"model": asked.model, "shots": asked.shots, "condition": "t-icl", "retriever": "text", "template": "lines"}
    (asked.out / "spec.yaml").write_text(
        yaml.safe_dump({"corpora": spec["corpora"], "selector": told}), encoding="utf-8"
    )
    (asked.out / "results.json").write_text(json.dumps({"tables": tables}, indent=2) + "\n", encoding="utf-8")
    print(f"attnlens compare {asked.out} --with paper:table6 --only system={asked.row}")


def named(model: str, corpus: Corpus) -> str:
    by_name = dict(part.split("=", 1) for part in model.split(",") if "=" in part)
    return by_name.get(corpus.name, model)


def scored(asked: argparse.Namespace, corpus: Corpus, lm: CausalLM, *, normaliser: str) -> dict[str, Any]:
    source, target, row = asked.source / corpus.name, asked.out / corpus.name, asked.row
    lists = read_nbest(source / "nbest.jsonl")
    said = {one.id: one.text for one in corpus.test}
    shown = demonstrations(corpus, lists, asked.shots)
    candidates = score_candidates(lists, lm, demonstrations=shown)
    chosen = {
        row: [one.text for one in select(candidates, make_rule("paper-code"))],
        f"{row} default": [one.text for one in select(candidates, make_rule("sum-logprob"))],
    }
    target.mkdir(parents=True, exist_ok=True)
    with (target / "transcripts.jsonl").open("w", encoding="utf-8") as file:
        for place, one in enumerate(lists):
            texts = {system: found[place] for system, found in chosen.items()}
            line = {"id": one.utterance_id, "reference": said[one.utterance_id], **texts}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    for system, found in chosen.items():
        counted = count_errors([said[one.utterance_id] for one in lists], found, normaliser=normaliser)
        print(f"{corpus.name}: {system} WER {100 * counted.rate:.1f} %")
    return {"language": corpus.name, "normaliser": normaliser, "rows": [{"system": one} for one in chosen]}


def demonstrations(corpus: Corpus, lists: list[NBest], shots: int) -> list[list[str]]:
    if not shots:
        return [[] for _ in lists]
    targets = [corpus[one.utterance_id] for one in lists]
    heard = [one.best.text if len(one) else "" for one in lists]
    queries = [Query(target, hypothesis=text) for target, text in zip(targets, heard, strict=True)]
    rankings = retrieve(queries, corpus.pool, k=shots, retriever="text")
    return [[corpus[name].text for name in ranking.ids] for ranking in rankings]


if __name__ == "__main__":
    main()
