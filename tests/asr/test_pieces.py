"""N-gram models of pieces of words: learnt, cut, normalised, written, read, and in the beam."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from attnlens.asr.arpa import read_arpa, write_arpa
from attnlens.asr.kenlm_model import KenLM
from attnlens.asr.kneser_ney import train_ngram
from attnlens.asr.pieces import MARK, cut_word, learn_pieces
from attnlens.asr.prefix_beam import beam_search
from attnlens.asr.symbols import joined, symbols
from attnlens.asr.vocabulary import Vocabulary
from attnlens.errors import BadInput

TEXTS = ["kata kato kat", "tok kata", "kato tok tok"]


def test_pieces_are_letters_and_the_most_frequent_merges() -> None:
    pieces = learn_pieces(TEXTS, size=9)
    assert {MARK + "k", MARK + "t", "a", "t", "o", "k"} <= pieces
    assert {"at", MARK + "kat"} & pieces
    assert len(pieces) == 9
    assert learn_pieces(list(reversed(TEXTS)), size=9) == pieces
    assert learn_pieces(["ab"], size=50) == {MARK + "a", "b", MARK + "ab"}, "there is nothing left to merge"


def test_symbols_of_pieces_join_to_their_text() -> None:
    pieces = learn_pieces(TEXTS, size=9)
    for text in (*TEXTS, "zebra kat"):
        assert joined(symbols(text, "pieces", pieces=pieces), "pieces") == text
    assert cut_word("z", pieces) == [MARK + "z"]


def test_a_model_of_pieces_is_a_distribution_and_survives_its_file(tmp_path: Path) -> None:
    model = train_ngram(TEXTS, order=3, unit="pieces", pieces=9)
    for state in ((), (MARK + "kat",), (MARK + "kat", "o")):
        assert math.fsum(math.exp(model.logprob(one, state)) for one in model.vocabulary) == pytest.approx(1, abs=1e-12)
    again = read_arpa(write_arpa(model, tmp_path / "model.arpa"))
    assert (again.unit, again.pieces) == ("pieces", model.pieces)
    for text in ("kata tok", "tak", "zu"):
        assert again.score([text])[0].total == pytest.approx(model.score([text])[0].total, abs=1e-9)
    assert model.score(["kata"])[0].tokens == len(model.symbols_of("kata"))


def test_joint_decoding_with_pieces_is_the_best_of_all_texts() -> None:
    vocabulary = Vocabulary(("", " ", "k", "a", "t", "o"), blank=0)
    model = train_ngram(TEXTS, order=3, unit="pieces", pieces=9)
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1.5, (5, len(vocabulary)))
    frames = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    summed: dict[str, float] = {}
    for path in itertools.product(range(len(vocabulary)), repeat=len(frames)):
        kept = [one for place, one in enumerate(path) if one and (not place or path[place - 1] != one)]
        text = " ".join("".join(vocabulary.pieces[one] for one in kept).split())
        score = float(sum(frames[place, one] for place, one in enumerate(path)))
        summed[text] = float(np.logaddexp(summed.get(text, -np.inf), score))
    ranked = {
        text: acoustic + 0.7 * model.score([text])[0].total + 0.3 * len(model.symbols_of(text))
        for text, acoustic in summed.items()
    }
    best = max(ranked, key=lambda text: ranked[text])
    found = beam_search(frames, vocabulary, n=5, beam=2000, lm=model, lm_weight=0.7, unit_bonus=0.3)
    assert found[0].text == best
    assert found[0].lm == pytest.approx(model.score([best])[0].total)


def test_what_pieces_cannot_do_is_refused() -> None:
    with pytest.raises(BadInput, match="marks the beginnings of words"):
        learn_pieces([f"ka{MARK}"], size=9)
    with pytest.raises(BadInput, match="more letters than pieces"):
        train_ngram(TEXTS, unit="pieces", pieces=2)
    with pytest.raises(BadInput, match="KenLM"):
        KenLM("none.arpa", unit="pieces")
