from __future__ import annotations

import math
from pathlib import Path

import pytest

from attnlens.asr.nbest import Hypothesis, NBest, read_nbest, write_nbest
from attnlens.errors import BadInput


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    lists = [
        NBest("ñ", (Hypothesis("ka\u2028to", -1.25, -3.0), Hypothesis("", -math.inf))),
        NBest("empty", ()),
    ]
    write_nbest(lists, tmp_path / "n.jsonl")
    assert read_nbest(tmp_path / "n.jsonl") == lists


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_that_are_no_log_probabilities_are_refused(score: float) -> None:
    with pytest.raises(BadInput, match="acoustic score"):
        Hypothesis("ka", score)
    with pytest.raises(BadInput, match="lm score"):
        Hypothesis("ka", -1.0, score)


def test_an_empty_list_has_no_best_and_no_text_stands_twice() -> None:
    with pytest.raises(BadInput, match="is empty"):
        _ = NBest("u", ()).best
    with pytest.raises(BadInput, match="stands twice"):
        NBest("u", (Hypothesis("ka", -1.0), Hypothesis("ka", -2.0)))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": "u"}',
        '{"id": "u", "hypotheses": [{"text": "ka"}]}',
        '{"id": "u", "hypotheses": [{"text": "ka", "acoustic": "x"}]}',
        '{"id": "u", "hypotheses": [{"text": "ka", "acoustic": NaN}]}',
    ],
)
def test_lines_that_are_no_lists_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "n.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(BadInput, match=r"n\.jsonl:1"):
        read_nbest(tmp_path / "n.jsonl")


def test_files_and_ids(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no N-best file"):
        read_nbest(tmp_path / "no.jsonl")
    (tmp_path / "n.jsonl").write_text('{"id": "u", "hypotheses": []}\n' * 2, encoding="utf-8")
    with pytest.raises(BadInput, match="stands twice"):
        read_nbest(tmp_path / "n.jsonl")
