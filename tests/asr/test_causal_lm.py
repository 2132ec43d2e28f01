"""Scores of a causal model equal one full pass each, with and without demonstrations; a trained one beats chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attnlens.asr.causal_lm import CausalLM, load_causal_lm
from attnlens.asr.text_lm_recipe import character_tokenizer
from attnlens.errors import BadInput, UnsupportedModel
from attnlens.testing import corpus
from attnlens.train.loop import train
from attnlens.train.spec import TrainSpec

TEXTS = ["ka to mi", "su", "", "ka to", "ñandu le ri", "su"]
SHOWN = ["to ka", "mi su le"]


def model(kind: str = "llama", *, positions: int = 128) -> CausalLM:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = character_tokenizer(["ka to mi su le ri\n"])
    torch.manual_seed(0)
    made: torch.nn.Module
    if kind == "llama":
        made = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=positions,
                initializer_range=0.4,
            )
        )
    else:
        made = GPT2LMHeadModel(
            GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=positions)
        )
    return CausalLM(made.eval(), tokenizer, name=kind, batch=3)


def naive(lm: CausalLM, text: str, demonstrations: list[str]) -> list[float]:
    """Score by one forward pass over everything, without a cache."""
    before = "".join(f"{one}\n" for one in demonstrations)
    prompt = [lm.tokenizer.bos_token_id, *lm.tokenizer(before, add_special_tokens=False)["input_ids"]]
    ids = [*prompt, *lm.tokenizer(f"{text}\n", add_special_tokens=False)["input_ids"]]
    with torch.no_grad():
        logprobs = lm.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(len(prompt), len(ids))]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("shown", [[], SHOWN])
def test_scores_equal_one_pass_each(kind: str, shown: list[str]) -> None:
    lm = model(kind)
    for text, score in zip(TEXTS, lm.score(TEXTS, demonstrations=shown), strict=True):
        np.testing.assert_allclose([*score.logprobs, score.end], naive(lm, text, shown), atol=1e-4)
    assert lm.score([]) == []


def test_all_first_symbols_sum_to_one() -> None:
    lm = model()
    first = lm._read(lm._prompt(SHOWN))[1]
    assert float(first.exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_refusals(tmp_path: Path) -> None:
    lm = model(positions=24)
    with pytest.raises(BadInput, match="do not fit"):
        lm.score(["ka to mi su le ri ka to mi su"])
    with pytest.raises(BadInput, match="texts are a list"):
        lm.score("ka")
    single = CausalLM(lm.model, lm.tokenizer, name="single", separator=None)
    with pytest.raises(BadInput, match="no demonstrations"):
        single.score(["ka"], demonstrations=["to"])
    with pytest.raises(BadInput, match="a batch"):
        CausalLM(lm.model, lm.tokenizer, name="x", batch=0)
    with pytest.raises(UnsupportedModel, match="could not be loaded"):
        load_causal_lm(tmp_path / "nothing")


def test_a_gguf_file_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(UnsupportedModel, match="the package that reads it is not installed"):
        load_causal_lm(tmp_path / "m.gguf")


def test_writing_ends_with_its_line() -> None:
    assert "\n" not in model().write("ka to\n", max_new_tokens=20)


def written(folder: Path) -> Path:
    """Write a corpus whose texts have something to learn; nobody listens to its audio."""
    import soundfile

    soundfile.write(folder / "a.wav", np.zeros(1600, dtype=np.float32), 16_000)
    made = corpus(pool=24, dev=4, test=1)
    rows = [
        {"id": one.id, "audio": "a.wav", "text": one.text, "language": "xx", "split": split}
        for split, part in made.splits.items()
        for one in part
    ]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_recipe_learns_the_pool_and_its_export_scores(tmp_path: Path) -> None:
    path = written(tmp_path)
    spec = TrainSpec(
        recipe="text-lm",
        options={"corpora": [str(path)], "width": 32, "layers": 1, "batch_size": 8, "dropout": 0.0},
        steps=60,
        evaluate_every=30,
        save_every=60,
        optimiser={"rate": 1e-2, "warmup": 5},
    )
    outcome = train(spec, tmp_path / "run")
    lm = load_causal_lm(tmp_path / "run" / "model", separator=None)
    made = corpus(pool=24, dev=4, test=1)
    dev = [one.text for one in made.dev]
    scores = lm.score(dev)
    bits = -sum(one.total for one in scores) / np.log(2) / sum(map(len, dev))
    assert outcome.best == pytest.approx(bits, abs=1e-4)
    # A uniform guess among the characters of this corpus needs about 4 bits.
    assert bits < 3
    seen, other = lm.score([made.pool[0].text, made.pool[0].text[::-1]])
    assert seen.total > other.total


def test_a_recipe_without_dev_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if '"dev"' not in line]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="to be chosen by"):
        train(TrainSpec(recipe="text-lm", options={"corpora": [str(path)]}), tmp_path / "run")
