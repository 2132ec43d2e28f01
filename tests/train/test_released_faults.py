"""One test for each fault of the paper's released code: it fails when that fault is put in here."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnlens.asr.error_rate import count_errors
from attnlens.context.build import build_prompt
from attnlens.context.retrieval.base import Query, retrieve
from attnlens.models.load import load
from attnlens.models.rows import rows_of
from attnlens.run.plan import make_plan
from attnlens.run.spec import RunSpec
from attnlens.testing import corpus, tiny
from attnlens.train.adaptation import Xft
from attnlens.train.example import IGNORED, encode_example
from attnlens.train.finetune import EpisodesRecipe
from attnlens.train.recipe import RECIPES
from attnlens.train.spec import read_train_spec
from attnlens.train.tasks import read_mixture

Made = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("attnlens", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]
SPEECH = corpus(pool=4)
ANSWER = "kuna mana"


def prompt(shots: int = 2) -> Any:
    return build_prompt(SPEECH.test[0], SPEECH.pool, condition="micl", shots=shots)


def recipe(folder: Path, **options: Any) -> EpisodesRecipe:
    given: dict[str, Any] = {"model": "tiny:qwen3-asr", "corpora": [str(folder)], "shots": {1: 1}, "batch_size": 3}
    return EpisodesRecipe(seed=0, device="cpu", steps=1, **{**given, **options})


def test_paths_are_arguments_and_none_is_edited_into_the_source() -> None:
    for path in SOURCES:
        assert not re.search(r"['\"](TBD|ROOT\w*)[/'\"]", path.read_text(encoding="utf-8")), path


def test_no_script_is_named_like_a_library_that_it_imports() -> None:
    for path in (
        one for one in SOURCES if "experiments" in one.parts
    ):  # modules of a package have its name before them
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert path.stem not in imported, path


def test_every_fine_tuning_path_can_run() -> None:
    for path in sorted((ROOT / "experiments" / "recipes").glob("*.yaml")):
        spec = read_train_spec(path)
        known = set(inspect.signature(RECIPES[spec.recipe]).parameters)
        assert set(spec.options) <= known, path


def test_no_breakpoint_is_left_in() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "breakpoint(" not in text, path
        assert not re.search(r"^\s*(import pdb|from pdb)", text, re.MULTILINE), path


def test_what_the_paper_used_and_did_not_release_is_there() -> None:
    from attnlens.asr.ctc_recipe import AcousticCtcRecipe
    from attnlens.asr.kneser_ney import __name__ as n_gram
    from attnlens.asr.prefix_beam import __name__ as beam
    from attnlens.asr.rerank import __name__ as rerank
    from attnlens.context.controls import CONTROLS

    assert all((AcousticCtcRecipe, n_gram, beam, rerank))
    assert "gold-inserted" in CONTROLS


def test_no_remote_code_and_both_models_in_one_environment() -> None:
    for path in SOURCES:
        assert not re.search(r"trust_remote_code\s*=\s*True", path.read_text(encoding="utf-8")), path
    assert {tiny(name).family for name in ("phi4-multimodal", "qwen3-omni")} == {"phi4-multimodal", "qwen3-omni"}


def test_the_first_token_of_a_transcript_is_scored_and_trained() -> None:
    lens = tiny("qwen3-asr")
    encoded = lens.encode(prompt(), ANSWER)
    logits = lens.logits(lens.inputs(encoded)).log_softmax(-1)[0]
    gold = encoded.spans.positions("output")
    due = sum(float(logits[place - 1, encoded.ids[place]]) for place in gold)
    assert lens.score(prompt(), [ANSWER])[0].total == pytest.approx(due, abs=1e-3)
    example = encode_example(prompt(), lens.front, end_token=2)
    first = int(example.encoded.spans.positions("output")[0])
    assert example.targets[first - 1] == example.encoded.ids[first]
    assert (example.targets[: first - 1] == IGNORED).all()


def test_perplexity_is_of_the_corpus_and_not_a_truncated_mean_of_means() -> None:
    from attnlens.asr.language_model import TextScore
    from attnlens.asr.perplexity import perplexity

    scores = [TextScore(np.log(np.full(9, 0.5)), end=0.0), TextScore(np.log(np.full(1, 0.001)), end=0.0)]
    found = perplexity(scores, ["a" * 9, "b"], end="left-out", resamples=99)
    nats = 9 * np.log(2) + np.log(1000)
    assert found.per_token == pytest.approx(np.exp(nats / 10))
    assert found.per_token != int(found.per_token)


def test_qwens_turns_are_qwens() -> None:
    lens = tiny("qwen3-omni")
    text = lens.front.tokenizer.decode(lens.encode(prompt()).ids)
    assert text.endswith("<|im_start|>assistant\n")
    assert "<|im_start|>user\n" in text
    assert "<|system|>" not in text


def test_answers_may_repeat_what_demonstrations_say() -> None:
    config = tiny("qwen3-asr").model.generation_config
    assert not config.no_repeat_ngram_size


def test_padding_is_never_trained_and_masks_come_from_lengths(made: Made) -> None:
    one = recipe(made("one", pool=5), shots={1: 1, 2: 1, 3: 1})
    batch = [one.batch(np.random.default_rng(number))[0] for number in range(3)]
    assert len({len(example.targets) for example in batch}) > 1
    with torch.no_grad():
        together, count = one._nll(batch)
        alone = [one._nll([example]) for example in batch]
    # Padding 0 as a label, or attended to, would add to the sum.
    assert count == sum(number for _, number in alone)
    assert float(together) == pytest.approx(sum(float(loss) for loss, _ in alone), rel=1e-4)
    assert count == sum(int((example.targets != IGNORED).sum()) for example in batch)
    for example in batch:
        places = np.flatnonzero(example.targets != IGNORED) + 1
        spans = example.encoded.spans
        assert set(places.tolist()) == {*spans.positions("output").tolist(), len(spans) - 1}
    # A token that happens to have the padding's id is attended to like any other.
    pad = one.lens.front.tokenizer.pad_token_id
    inputs = one.lens.back.inputs([replace(batch[0].encoded, ids=_with(batch[0].encoded.ids, pad))])
    assert bool(inputs["attention_mask"].all())


def _with(ids: Any, token: int) -> Any:
    changed = ids.copy()
    changed[-2] = token
    return changed


def test_a_subset_of_n_languages_has_n_and_is_read_anew(made: Made) -> None:
    folders = [made(f"l{number}", language=code, seed=number) for number, code in enumerate(("fin", "deu", "spa"))]
    chosen = {"asr": {"corpora": [str(folder) for folder in folders[:2]]}}
    mixture, _ = read_mixture(chosen, common={"shots": {1: 1}}, draw="corpora")
    assert mixture.languages == ("deu", "fin")
    manifest = folders[0] / "manifest.jsonl"
    rows = [{**json.loads(line), "language": "est"} for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    assert read_mixture(chosen, common={"shots": {1: 1}}, draw="corpora")[0].languages == ("deu", "est")
    with pytest.raises(Exception, match="target languages"):
        Xft(seed=0, device="cpu", steps=1, model="x", corpora=[str(folders[0])], target_languages=["ekk"], shots={1: 1})


def test_both_sides_of_an_error_rate_are_normalised() -> None:
    said, heard = ["Ima, [kashka]: (sumaq)!"], ["ima kashka sumaq"]
    assert count_errors(said, heard, unit="words", normaliser="basic-unicode").errors.tolist() == [0]
    assert count_errors(heard, said, unit="words", normaliser="basic-unicode").errors.tolist() == [0]


def test_spans_lose_no_token_and_rows_predict() -> None:
    encoded = tiny("phi4-multimodal").encode(prompt(), ANSWER)
    spans = encoded.spans
    assert sum(len(span) for span in spans) == len(encoded.ids)
    audio = tiny("phi4-multimodal").front.audio_token_id
    held = {int(place) for source in ("demo_audio", "target_audio") for place in spans.positions(source)}
    assert set(np.flatnonzero(encoded.ids == audio).tolist()) <= held
    assert not set(spans.positions("demo_label").tolist()) & set(spans.positions("demo_text").tolist())
    output = spans.positions("output")
    assert rows_of(spans, "output").tolist() == (output - 1).tolist()


def test_a_ranking_depends_on_its_own_query() -> None:
    pool = SPEECH.pool
    queries = [Query(SPEECH.test[0], hypothesis=pool[1].text), Query(SPEECH.test[1], hypothesis=pool[3].text)]
    first, second = retrieve(queries, pool, k=1, retriever="text", duplicates="keep-text")
    assert (first.ids[0], second.ids[0]) == (pool[1].id, pool[3].id)


def test_a_prompt_is_read_once_for_all_hypotheses(monkeypatch: pytest.MonkeyPatch) -> None:
    lens = load("tiny:qwen3-asr")
    back, heard = lens.back, []
    embed = back.embed_clip

    def counted(arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        heard.append(1)
        return embed(arrays)

    monkeypatch.setattr(back, "embed_clip", counted)
    with torch.no_grad():
        lens.score(prompt(), [f"ka{number}" for number in range(10)])
    assert len(heard) == 3


def test_demonstrations_do_not_depend_on_the_order_of_the_shots() -> None:
    def chosen(shots: str) -> dict[tuple[str, int], tuple[str, ...]]:
        spec = RunSpec(
            model={"name": "tiny:qwen3-asr"},
            data={"corpora": "synthetic"},
            context={"conditions": "micl", "shots": shots, "retriever": "random", "controls": "none"},
        )
        return {
            (item.prompt.target.id, item.asked): tuple(demo.id for demo in item.prompt.demonstrations)
            for item in make_plan(spec).items
        }

    assert chosen("1,3") == chosen("3,1")
