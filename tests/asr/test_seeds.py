"""A table over several seeds of demonstrations: rates are means over them, utterances are what is drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlens.asr.candidates import Candidates
from attnlens.asr.error_rate import count_errors
from attnlens.asr.pooled import pooled
from attnlens.asr.rerank import rerank_language
from attnlens.asr.rerank_files import ledger_of, new_folder, write_results
from attnlens.asr.rerank_spec import RerankSpec
from attnlens.asr.table import ACOUSTIC
from attnlens.asr.tabulate import ListTest, selection_tables
from attnlens.errors import BadInput
from attnlens.models.load import load
from attnlens.stats.bootstrap import bootstrap
from attnlens.stats.permutation import sign_flip
from attnlens.testing import corpus
from tests.asr.test_rerank import Hard
from tests.asr.test_table import language

QUICK: Any = {"resamples": 199, "draws": 199}


def other_seed(test: ListTest, seed: int) -> list[Candidates]:
    """The same lists, scored after other demonstrations."""
    rng = np.random.default_rng(seed)
    return [
        replace(one, scores=tuple(replace(s, logprobs=s.logprobs - rng.exponential(3.0)) for s in one.scores))
        for one in test.lists
    ]


def over_seeds(number: int, *, speakers: int = 12) -> ListTest:
    one = language(number, speakers=speakers)
    lists = [*one.lists, *other_seed(one, 7), *other_seed(one, 8)]
    return replace(one, lists=lists, seeds=(0, 1, 2))


def test_figures_are_those_of_a_naive_count_over_seeds_with_the_utterance_as_block() -> None:
    test = over_seeds(0, speakers=2)
    [table] = selection_tables([test], **QUICK)
    row, start = table["sum-logprob"], table[ACOUSTIC]
    said = [*test.references] * 3
    errors = [
        sum(count_errors([reference], [text]).errors[0] for reference, text in zip(said, texts, strict=True))
        for texts in (row.transcripts, start.transcripts)
    ]
    assert len(row.transcripts) == 3 * 24
    assert row.words.rate == pytest.approx(errors[0] / (3 * table.words))
    assert (table.utterances, table.words, table.seeds) == (24, 144, 3)
    # Each utterance with all that was chosen for it is drawn as one.
    counts = [count_errors(said, texts) for texts in (row.transcripts, start.transcripts)]
    blocks = [one.utterance_id for one in test.lists]
    naive = bootstrap(
        counts[0].errors, minus=counts[1].errors, per=counts[0].length, clusters=blocks, resamples=199, seed=0
    )
    assert row.comparison is not None
    found = row.comparison.difference
    assert found is not None
    np.testing.assert_allclose((found.low, found.high), (naive.low, naive.high), atol=1e-12)
    flips = sign_flip(
        counts[0].errors, minus=counts[1].errors, per=counts[0].length, clusters=blocks, draws=199, seed=0
    )
    assert row.comparison.randomisation is not None
    assert row.comparison.randomisation.p == flips.p
    assert (row.comparison.utterances, row.comparison.units) == (24, 144)


def test_a_seed_that_changes_nothing_changes_no_figure() -> None:
    one = language(1)
    [single] = selection_tables([one], **QUICK)
    [double] = selection_tables([replace(one, lists=[*one.lists] * 2, seeds=(0, 5))], **QUICK)
    for row in single.rows:
        other = double[row.system]
        if row.system == "random pick":
            assert other.transcripts[: len(row.transcripts)] == row.transcripts != other.transcripts[24:]
            continue
        assert other.words.rate == pytest.approx(row.words.rate)
        assert other.gap_recovered == pytest.approx(row.gap_recovered)
        for left, right in ((row.rate, other.rate), (row.gap, other.gap)):
            assert (left is None) == (right is None)
            if left is not None and right is not None:
                np.testing.assert_allclose((left.low, left.high), (right.low, right.high), atol=1e-12)
        if row.comparison is not None:
            assert other.comparison is not None
            assert other.comparison.p_holm == row.comparison.p_holm
            assert other.comparison.mapsswe is None
    for name, curve in single.curves.items():
        assert double.curves[name] == pytest.approx(curve)


def test_it_says_how_many_seeds_and_is_json() -> None:
    [table] = selection_tables([over_seeds(2)], **QUICK)
    assert "24 utterances, 144 words, 3 seeds of demonstrations" in table.to_markdown()
    assert "no MAPSSWE" in table.to_markdown()
    told = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert (told["utterances"], told["words"], told["seeds"]) == (24, 144, 3)
    assert {row["seeds"] for row in table.to_rows(corpus="l2")} == {3}


def test_languages_together_keep_the_blocks_apart() -> None:
    tests = [over_seeds(3), over_seeds(4)]
    tables = selection_tables(tests, **QUICK)
    both = pooled("all", tests, tables)
    [whole] = selection_tables([both], **QUICK)
    for name in ("sum-logprob", ACOUSTIC, "oracle", "joint"):
        wrong = sum(table[name].words.errors.sum() for table in tables)
        assert whole[name].words.errors.sum() == wrong, name
    assert (whole.utterances, whole.words, whole.seeds) == (48, 288, 3)
    with pytest.raises(BadInput, match="other seeds"):
        pooled("all", [tests[0], language(4)], tables)


def test_what_is_no_set_of_blocks_is_refused() -> None:
    test = language(5)
    for lists in ([*test.lists, *test.lists[::-1]], test.lists):
        with pytest.raises(BadInput, match="needs its reference"):
            selection_tables([replace(test, lists=lists, seeds=(0, 1))])
    with pytest.raises(BadInput, match="different sizes"):
        count_errors(["a", "b", "c"], ["a", "b", "c"]).folded(2)
    with pytest.raises(BadInput, match="stands twice"):
        RerankSpec(corpora=["synthetic"], seeds=[1, 1])


def spec(retriever: str) -> RerankSpec:
    selector = {"model": "tiny:qwen3-asr", "shots": 2, "retriever": retriever, "controls": ["mismatched-pairs"]}
    return RerankSpec(corpora=["synthetic"], selector=selector, ngram={"order": 2}, seeds=[3, 4], rules=["sum-logprob"])


def test_every_seed_draws_its_own_demonstrations(tmp_path: Path) -> None:
    described, lens = spec("random"), load("tiny:qwen3-asr")
    made = corpus(pool=4, dev=2, test=2)
    found = rerank_language(described, made, Hard(), lens)
    assert len(found.candidates["micl"]) == len(found.candidates["mismatched-pairs"]) == 4
    assert len(found.candidates["n-gram"]) == 2
    assert found.weights["micl"].tuned_on == {"dev-0", "dev-1"}
    # A block is what a run with its seed alone gives.
    alone = rerank_language(described.model_copy(update={"seeds": (4,)}), made, Hard(), lens)
    for name in ("micl", "mismatched-pairs"):
        for left, right in zip(found.candidates[name][2:], alone.candidates[name], strict=True):
            np.testing.assert_allclose(left.lm_totals, right.lm_totals, rtol=1e-4)
    tables = selection_tables([found.test], **QUICK)
    write_results(new_folder(tmp_path / "run"), described, [found], tables, ledger_of(described, [found]))
    folder = tmp_path / "run" / "synthetic"
    rows = [json.loads(line) for line in (folder / "transcripts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["seed"], row["id"]) for row in rows] == [(s, f"test-{n}") for s in (3, 4) for n in range(2)]
    plain = (folder / "transcripts" / "seed-4" / "micl_sum-logprob.txt").read_text(encoding="utf-8").splitlines()
    assert plain == [row["micl sum-logprob"] for row in rows[2:]]
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert scores[3]["hypotheses"][1]["micl"] == pytest.approx(found.candidates["micl"][3].scores[1].total)
    assert scores[3]["hypotheses"][1]["n-gram"] == pytest.approx(found.candidates["n-gram"][1].scores[1].total)


def test_seeds_that_draw_nothing_are_scored_once_and_told() -> None:
    found = rerank_language(spec("first"), corpus(pool=4, dev=1, test=2), Hard(), load("tiny:qwen3-asr"))
    assert found.logs[0].lists == 2
    assert any("all 2 seeds show the same demonstrations" in remark for remark in found.remarks)
    assert found.candidates["micl"][0] is found.candidates["micl"][2]
