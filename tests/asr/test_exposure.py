"""The ledger says what each component met, the sentence is made from it, and "unseen" is never claimed."""

from __future__ import annotations

import json

import pytest

from attnlens.asr.exposure import Exposure, leakage, ledger
from attnlens.context.retrieval.base import make
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, UnknownName
from attnlens.testing import corpus


def test_the_published_setting() -> None:
    found = ledger(
        acoustic="MMS",
        acoustic_trained_on="target",
        selector="XFT",
        condition="micl",
        retriever="text",
        retriever_uses=make("text").uses,
        pool_models=["5-gram"],
        text_models=["Llama"],
        tuned=["interpolation weights"],
    )
    rows = {row.component: row for row in found.rows}
    assert list(rows) == ["MMS", "text retriever", "XFT", "5-gram", "Llama", "interpolation weights"]
    assert rows["MMS"].cell("weights", "audio") == rows["MMS"].cell("weights", "text") == "pool"
    assert rows["text retriever"].cell("query", "audio") == "test"
    assert rows["text retriever"].cell("query", "text") == "-"
    assert rows["XFT"].cell("weights", "text") == "not declared"
    assert rows["XFT"].cell("context", "audio") == "pool, test"
    assert rows["5-gram"].cell("weights", "text") == "pool"
    assert rows["interpolation weights"].cell("tuning", "text") == "dev"
    assert "unseen" not in found.to_markdown()
    assert found.sentence in found.to_markdown()
    assert json.loads(json.dumps(found.to_dict()))["sentence"] == found.sentence


@pytest.mark.parametrize(
    ("condition", "audio", "text"),
    [
        ("asr", "test", "-"),
        ("t-icl", "-", "pool"),
        ("icl", "test", "pool"),
        ("micl", "pool, test", "pool"),
        ("a-icl", "pool, test", "-"),
    ],
)
def test_conditions_show_what_they_show(condition: str, audio: str, text: str) -> None:
    found = ledger(acoustic="a", acoustic_trained_on="not-declared", selector="s", condition=condition)  # type: ignore[arg-type]
    row = found.rows[1]
    assert (row.cell("context", "audio"), row.cell("context", "text")) == (audio, text)


def test_an_oracle_retriever_is_told_on() -> None:
    found = ledger(acoustic="a", acoustic_trained_on="target", retriever="oracle", retriever_uses=make("oracle").uses)
    assert found.rows[1].cell("query", "text") == "test"
    assert "text of test in its query" in found.sentence


def test_leaks_stand_beside() -> None:
    made = corpus()
    clean = leakage(made)
    # The stand-in's two speakers are in every split.
    assert (clean["text-in-two-splits"], clean["speaker-in-two-splits"]) == (0, 2)
    leaking = Corpus("leaky", "xx", {"pool": (made.test[0],), "test": (made.test[1],)})
    from dataclasses import replace

    leaking = Corpus("leaky", "xx", {**leaking.splits, "test": (replace(made.test[0], id="again"),)})
    found = leakage(leaking)
    assert found["audio-in-two-splits"] > 0
    text = ledger(acoustic="a", acoustic_trained_on="target", leaks={"leaky": found, "clean": {}}).to_markdown()
    assert "audio-in-two-splits" in text
    assert "splits of clean: nothing found" in text


def test_refusals() -> None:
    with pytest.raises(BadInput, match="not there"):
        Exposure("x", {("weights", "text"): ("train",)})  # type: ignore[dict-item]
    with pytest.raises(UnknownName, match="training"):
        ledger(acoustic="a", acoustic_trained_on="unseen")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="condition"):
        ledger(acoustic="a", acoustic_trained_on="target", selector="s", condition="few")  # type: ignore[arg-type]
