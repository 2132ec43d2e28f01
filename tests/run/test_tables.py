"""Tables against the same numbers reckoned by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnlens.run.tables import make_tables
from attnlens.stats.multiple import holm
from attnlens.testing import trace
from attnlens.traces.writing import save

REFERENCES = [f"kato mi su{'le' * (n % 3)}" for n in range(12)]
ANSWERS = [text.replace("mi", "mo") if n % 2 else text for n, text in enumerate(REFERENCES)]


@pytest.fixture
def told(tmp_path: Path) -> tuple[list[dict[str, str]], Path]:
    made = trace(items=24, layers=3, heads=4)
    save(made, tmp_path / "traces.zarr")
    rows = []
    for number in range(24):
        control, place = ("none" if number < 12 else "word-shuffle"), number % 12
        rows.append(
            {
                "item": f"item-{number}",
                "status": "finished",
                "corpus": "one" if place < 6 else "two",
                "utterance": f"u{place}",
                "condition": "micl",
                "shots_asked": "2",
                "control": control,
                "n_chars": str(len(REFERENCES[place])),
                "nll": str(10.0 + place + (3.0 if control != "none" else 0.0)),
                "transcribed": "yes",
                "reference": REFERENCES[place],
                "transcription": ANSWERS[place] if control == "none" else "",
            }
        )
    return rows, tmp_path / "traces.zarr"


def test_every_number_is_what_its_name_says(told: tuple[list[dict[str, str]], Path]) -> None:
    rows, path = told
    tables = make_tables(rows, path, normaliser="basic-unicode")
    made = trace(items=24, layers=3, heads=4)
    mass = made.mass.values[:12, :, :, 0].mean(2)
    sources = made.source.values.tolist()
    audio, text = mass[..., sources.index("demo_audio")], mass[..., sources.index("demo_text")]
    tokens = made.tokens.values[:12]
    per_audio, per_text = (tokens[:, sources.index(f"demo_{name}")][:, None] for name in ("audio", "text"))
    found = [row for row in tables["bias"] if row["corpus"] == "all" and row["control"] == "none"]
    assert [row["layer"] for row in found] == [0, 1, 2]
    assert [row["bias"] for row in found] == pytest.approx(((text - audio) / (text + audio)).mean(0), rel=1e-5)
    ratio = np.log((text / per_text) / (audio / per_audio)).mean(0)
    assert [row["log_ratio"] for row in found] == pytest.approx(ratio, rel=1e-5)
    assert all(row["bias_low"] < row["bias"] < row["bias_high"] for row in found)

    letters = sum(len(one) for one in REFERENCES)
    (clean,) = [row for row in tables["errors"] if row["corpus"] == "all" and row["control"] == "none"]
    assert clean["cer"] == pytest.approx(6 / letters)
    assert clean["wer"] == pytest.approx(6 / 36)
    assert clean["nll_per_char"] == pytest.approx(sum(10.0 + n for n in range(12)) / letters)
    (empty,) = [row for row in tables["errors"] if row["corpus"] == "all" and row["control"] != "none"]
    assert empty["cer"] == pytest.approx(1.0)

    by_measure = {row["measure"]: row for row in tables["controls"] if row["corpus"] == "all"}
    assert by_measure["nll_per_char"]["difference"] == pytest.approx(3.0 * 12 / letters)
    assert by_measure["cer"]["difference"] == pytest.approx(1.0 - 6 / letters)
    assert by_measure["cer"]["p"] == pytest.approx(2 / 2**12, abs=2e-4), "every utterance got worse"
    together = [row for row in tables["controls"] if row["corpus"] == "all"]
    assert [row["p_holm"] for row in together] == pytest.approx(holm([row["p"] for row in together]).tolist())
    assert {row["corpus"] for row in tables["controls"]} == {"all", "one", "two"}


def test_seeds_of_an_utterance_are_one_unit(told: tuple[list[dict[str, str]], Path]) -> None:
    rows, path = told
    # The second dozen becomes a second seed of the first.
    seeds = [{**row, "control": "none", "transcription": row["reference"]} for row in rows]
    tables = make_tables(seeds, path, normaliser="none")
    (row,) = [row for row in tables["errors"] if row["corpus"] == "all"]
    assert (row["utterances"], row["items"], row["cer"]) == (12, 24, 0.0)
    assert tables["controls"] == []


def test_without_transcriptions_and_without_results(told: tuple[list[dict[str, str]], Path]) -> None:
    rows, path = told
    silent = [{**row, "transcribed": "no", "transcription": ""} for row in rows]
    tables = make_tables(silent, path, normaliser="none")
    assert {row["cer"] for row in tables["errors"]} == {""}
    assert {row["measure"] for row in tables["controls"]} == {"bias", "log_ratio", "nll_per_char"}
    nothing = make_tables([{**row, "status": "failed"} for row in rows], path, normaliser="none")
    assert nothing == {"bias": [], "errors": [], "controls": []}
