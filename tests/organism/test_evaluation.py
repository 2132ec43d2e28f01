from __future__ import annotations

from pathlib import Path

import pytest

from attnlens.asr.error_rate import edit_distance
from attnlens.models.load import load
from attnlens.organism.evaluation import CELLS, Cell, evaluate
from attnlens.organism.model import Size, make_front_end, make_model, save_model
from attnlens.testing import corpus

SIZE = Size(width=32, layers=2, heads=2, encoder_width=16, encoder_layers=1, encoder_heads=2, channels=4)


def test_every_utterance_is_asked_in_every_way(tmp_path: Path) -> None:
    front = make_front_end(SIZE)
    save_model(make_model(front, seed=0), front, tmp_path / "organism")
    lens = load(str(tmp_path / "organism"), dtype="float32")
    cells = [Cell("asr", 0), Cell("micl", 2), Cell("micl", 2, "mismatched-pairs"), Cell("t-icl", 2)]
    made = corpus(pool=4, test=2)
    answers = list(evaluate(lens, [made], cells=cells, seeds=(0, 1)))
    assert len(answers) == 2 * 4 * 2
    assert {one.cell for one in answers} == {"asr k=0", "micl k=2", "micl k=2 mismatched-pairs", "t-icl k=2"}
    assert all(one.bits > 0 and one.edits == edit_distance(one.heard, one.reference) for one in answers)
    again = list(evaluate(lens, [made], cells=cells, seeds=(0, 1), limit=1))
    assert [one for one in answers if one.utterance == "test-0"] == again
    # Without demonstrations nothing depends on the seed.
    bits = [one.bits for one in answers if one.cell == "asr k=0" and one.utterance == "test-1"]
    assert bits[0] == pytest.approx(bits[1])


def test_the_cells_cover_what_is_to_be_shown() -> None:
    names = {str(cell) for cell in CELLS}
    assert {
        "asr k=0",
        "micl k=8",
        "micl k=16",
        "micl k=8 mismatched-pairs",
        "icl k=8",
        "a-icl k=8",
        "t-icl k=8",
    } <= names
