"""Table 6's text models: lists are scored by a causal model, chosen from, and stand beside the paper's rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from attnlens.asr.nbest import Hypothesis, NBest, write_nbest
from attnlens.asr.text_lm_recipe import character_tokenizer
from attnlens.run.published.beside import put_beside
from attnlens.testing import corpus
from experiments.paper.text_lm import main


@pytest.fixture
def reranked(tmp_path: Path) -> Path:
    lists = [
        NBest(one.id, (Hypothesis("ka", -2.0), Hypothesis(one.text, -2.5), Hypothesis("su su", -9.0)))
        for one in corpus().test
    ]
    (tmp_path / "reranked" / "synthetic").mkdir(parents=True)
    write_nbest(lists, tmp_path / "reranked" / "synthetic" / "nbest.jsonl")
    spec = {"corpora": ["synthetic"], "normaliser": "basic-unicode"}
    (tmp_path / "reranked" / "spec.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path / "reranked"


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer([*(one.text for one in corpus().pool), "\n"])
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.mark.parametrize(("row", "shots"), [("llama-3-8b", "3"), ("transformer-lm", "0")])
def test_a_text_model_fills_its_row(reranked: Path, llama: Path, tmp_path: Path, row: str, shots: str) -> None:
    out = tmp_path / "out"
    main([str(reranked), str(out), "--row", row, "--shots", shots, "--model", f"synthetic={llama}"])
    found = put_beside(out, "paper:table6")
    assert {line.where["system"] for line in found.lines} == {row}
    assert all(line.as_published is not None and line.default is not None for line in found.lines)
    assert found.lines[0].printed["khinalug"] == {"llama-3-8b": 41.9, "transformer-lm": 41.6}[row]
