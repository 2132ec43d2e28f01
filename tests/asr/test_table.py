"""The table has every baseline, its figures are those of the parts, and it prints."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from attnlens.asr.candidates import Candidates
from attnlens.asr.error_rate import count_errors
from attnlens.asr.language_model import TextScore
from attnlens.asr.selection import make_rule
from attnlens.asr.table import ACOUSTIC
from attnlens.asr.tabulate import ListTest, selection_tables
from attnlens.errors import BadInput


def language(seed: int, *, utterances: int = 24, speakers: int = 12) -> ListTest:
    rng = np.random.default_rng(seed)
    lists, references = [], []
    for number in range(utterances):
        said = [f"w{n}" for n in rng.integers(0, 30, 6)]
        texts = [" ".join("x" if rng.random() < 0.3 else word for word in said) for _ in range(8)]
        texts = list(dict.fromkeys(texts))
        wrong = count_errors([" ".join(said)] * len(texts), texts).errors
        lm = -2.0 * wrong + rng.normal(0, 1.0, len(texts))
        scores = tuple(TextScore(np.array([min(0.0, value - 9.0)]), 0.0) for value in lm)
        lists.append(Candidates(f"u{number}", tuple(texts), rng.normal(-9.0, 1.0, len(texts)), scores))
        references.append(" ".join(said))
    return ListTest(
        language=f"l{seed}",
        lists=lists,
        references=references,
        rules={name: make_rule(name) for name in ("sum-logprob", "paper-code")},
        others={"joint": references},
        clusters=[f"s{n % speakers}" for n in range(utterances)],
        tags={"paper-code": "as published"},
    )


def test_rows_and_figures() -> None:
    tables = selection_tables([language(0), language(1)], resamples=499, draws=499)
    names = [ACOUSTIC, "random pick", "LM only", "sum-logprob", "paper-code", "joint", "oracle", "anti-oracle"]
    for table in tables:
        assert [row.system for row in table.rows] == names
        rates = {row.system: row.words.rate for row in table.rows}
        assert rates["oracle"] <= min(rates[name] for name in names[:5])
        assert rates["anti-oracle"] == max(rates.values())
        row = table["sum-logprob"]
        gap = (rates[ACOUSTIC] - rates["sum-logprob"]) / (rates[ACOUSTIC] - rates["oracle"])
        assert row.gap_recovered == pytest.approx(gap, abs=1e-12)
        assert row.gap is not None
        assert row.gap.estimate == pytest.approx(gap, abs=1e-12)
        assert row.gap.low <= gap <= row.gap.high
        assert table["oracle"].gap_recovered == 1.0
        assert table["oracle"].comparison is None
        assert row.comparison is not None
        assert row.comparison.interval is row.comparison.blocked
        assert list(table.curves) == ["sum-logprob", "paper-code", "oracle"]
        for name, curve in table.curves.items():
            assert list(curve) == [1, 2, 5, 8]
            assert curve[8] == pytest.approx(rates[name], abs=1e-12)
        assert table.curves["oracle"][1] == table.curves["sum-logprob"][1] >= table.curves["oracle"][8]
        with pytest.raises(KeyError):
            table["none"]
    corrected = [row.comparison.p_holm for table in tables for row in table.rows if row.comparison]
    assert len(corrected) == 2 * 4
    raw = min(
        row.comparison.randomisation.p
        for t in tables
        for row in t.rows
        if row.comparison and row.comparison.randomisation
    )
    assert min(p for p in corrected if p is not None) == pytest.approx(8 * raw)


def test_it_prints_and_it_is_json() -> None:
    [table] = selection_tables([language(2)], resamples=199, draws=199)
    text = table.to_markdown()
    assert "| paper-code (as published) |" in text
    assert "24 utterances, 144 words" in text
    assert "power" in text
    told = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert [row["kind"] for row in told["rows"]] == ["baseline"] * 3 + ["rule"] * 2 + ["other"] + ["bound"] * 2
    assert told["words"] == 144


def test_nothing_to_gain_and_empty_lists() -> None:
    none = TextScore(np.zeros(0), 0.0)
    lists = [Candidates("a", ("ka",), np.array([-1.0]), (none,)), Candidates("b", (), np.zeros(0), ())]
    [table] = selection_tables([ListTest(language="xx", lists=lists, references=["ka", "to"], rules={})])
    assert table.empty_lists == 1
    assert all(row.gap_recovered is None for row in table.rows)
    assert math.isclose(table[ACOUSTIC].words.rate, 0.5)
    assert "1 lists empty" in table.to_markdown()
    assert "no interval" in table.to_markdown()


def test_refusals() -> None:
    test = language(3)
    with pytest.raises(BadInput, match="its reference"):
        selection_tables([ListTest(language="xx", lists=[], references=[], rules={})])
    clash = ListTest(
        language="xx", lists=test.lists, references=test.references, rules={"oracle": make_rule("z-score")}
    )
    with pytest.raises(BadInput, match="one name"):
        selection_tables([clash])
