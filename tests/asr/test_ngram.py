"""The model sums to one after any context, equals a naive Kneser-Ney, and survives its file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.asr.arpa import read_arpa, write_arpa
from attnlens.asr.kenlm_model import KenLM
from attnlens.asr.kneser_ney import Discount, train_ngram
from attnlens.asr.language_model import TextScore
from attnlens.asr.ngram import NGram
from attnlens.asr.symbols import joined, symbols
from attnlens.errors import BadInput, UnknownName

QUICK = settings(derandomize=True, max_examples=15, deadline=None)
TEXTS = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=7).map(" ".join), min_size=1, max_size=12)


class Naive:
    """Kneser-Ney by its definition: every number is counted anew from the texts, and nothing is kept."""

    def __init__(self, texts: list[str], order: int, discount: Discount) -> None:
        self.order, self.discount = order, discount
        self.sentences = [["<s>", *text.split(), "</s>"] for text in texts]
        self.words = [*sorted({word for one in self.sentences for word in one[1:]}), "<unk>"]

    def occurrences(self, gram: tuple[str, ...]) -> int:
        return sum(
            tuple(one[at : at + len(gram)]) == gram for one in self.sentences for at in range(len(one) - len(gram) + 1)
        )

    def count(self, gram: tuple[str, ...]) -> int:
        if len(gram) == self.order or gram[0] == "<s>":
            return self.occurrences(gram)
        return sum(self.occurrences((left, *gram)) > 0 for left in ["<s>", *self.words])

    def discounts(self, n: int) -> tuple[float, ...]:
        grams = {tuple(one[at : at + n]) for one in self.sentences for at in range(len(one) - n + 1)} - {("<s>",)}
        n1, n2, n3, n4 = (sum(self.count(gram) == times for gram in grams) for times in (1, 2, 3, 4))
        if self.discount == "single":
            return (n1 / (n1 + 2 * n2),) * 3 if n1 and n2 else (0.5,) * 3
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
            if all(0 < one <= times for times, one in enumerate(found, start=1)):
                return found
        return (0.5, 1.0, 1.5)

    def p(self, word: str, context: tuple[str, ...]) -> float:
        counts = {other: self.count((*context, other)) for other in self.words}
        total = sum(counts.values())
        below = 1 / len(self.words) if not context else self.p(word, context[1:])
        if not total:
            return below
        cut = self.discounts(len(context) + 1)
        taken = {other: cut[min(count, 3) - 1] if count else 0.0 for other, count in counts.items()}
        spared = sum(min(taken[other], counts[other]) for other in self.words)
        return max(counts[word] - taken[word], 0) / total + spared / total * below


@QUICK
@given(texts=TEXTS, order=st.integers(1, 3), discount=st.sampled_from(["modified", "single"]))
def test_equals_the_naive_definition_and_sums_to_one(texts: list[str], order: int, discount: Discount) -> None:
    model, naive = train_ngram(texts, order=order, unit="words", discount=discount), Naive(texts, order, discount)
    assert sorted(model.vocabulary) == sorted(naive.words)
    contexts = [(), ("<s>",), ("a",), ("a", "b"), ("<s>", "c"), ("never", "a")]
    for context in contexts:
        kept = context[max(0, len(context) - order + 1) :]
        total = 0.0
        for word in naive.words:
            found = math.exp(model.logprob(word, context))
            assert found == pytest.approx(naive.p(word, kept), abs=1e-12)
            total += found
        assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_after_any_state_of_a_search_all_next_symbols_sum_to_one(unit: str, order: int) -> None:
    rng = np.random.default_rng(order)
    texts = [" ".join(rng.choice(["ka", "to", "mi", "sula", "ñi"], rng.integers(1, 9))) for _ in range(60)]
    model = train_ngram(texts, order=order, unit=unit)  # type: ignore[arg-type]
    for text in [*texts[:5], "mi xx to", ""]:
        state, total = model.start, 0.0
        for symbol in symbols(text, model.unit):
            assert sum(math.exp(model.logprob(other, state)) for other in model.vocabulary) == pytest.approx(
                1, abs=1e-12
            )
            logprob, state = model.step(state, symbol)
            total += logprob
            assert len(state) < order
        assert total + model.finish(state) == pytest.approx(model.score([text])[0].total, abs=1e-12)


def test_discounts_say_how_they_were_found() -> None:
    rng = np.random.default_rng(0)
    texts = [
        "".join(rng.choice(list("abcdefgh "), 40, p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05]))
        for _ in range(80)
    ]
    assert train_ngram(texts, order=4).discounts[-1] == "estimated"
    assert train_ngram(["ka"], order=2).discounts == ("fallback", "fallback")


def test_what_was_seen_is_likelier_than_what_was_not() -> None:
    model = train_ngram(["ka to mi", "ka to su", "ka mi"], order=3, unit="words")
    seen, swapped, unknown = (one.total for one in model.score(["ka to mi", "mi to ka", "xx yy zz"]))
    assert seen > swapped > unknown > -math.inf


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_a_file_gives_the_model_back(tmp_path: Path, unit: str) -> None:
    model = train_ngram(["ka to mi", "ñi ka to", "mi"], order=3, unit=unit)  # type: ignore[arg-type]
    again = read_arpa(write_arpa(model, tmp_path / "m.arpa"))
    assert (again.unit, again.order, again.name) == (unit, 3, "m")
    for text in ("ka to", "xx", "mi ñi mi", ""):
        one, other = model.score([text])[0], again.score([text])[0]
        np.testing.assert_allclose([*one.logprobs, one.end], [*other.logprobs, other.end], atol=1e-12)


def test_reads_what_other_toolkits_write(tmp_path: Path) -> None:
    text = "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-1.0 <UNK>\n-99 <s> -0.30103\n-0.5 ka -0.1\n-0.7 </s>\n\n"
    (tmp_path / "o.arpa").write_text(text + "\\2-grams:\n-0.2 <s> ka\n\n\\end\\\n", encoding="utf-8")
    model = read_arpa(tmp_path / "o.arpa")
    score = model.score(["ka zz"])[0]
    np.testing.assert_allclose(np.array([*score.logprobs, score.end]) / math.log(10), [-0.2, -1.1, -0.7], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("\\data\\", "\\dat\\"), "is not as ARPA"),
        (("ngram 1=", "ngram 2="), "is not as ARPA"),
        (("\\end\\", ""), "ends too early"),
        (("\\2-grams:", "\\3-grams:"), "is not as ARPA"),
        (("-99", "nan"), "is not as ARPA"),
    ],
)
def test_damaged_files_are_refused_by_line(tmp_path: Path, change: tuple[str, str], match: str) -> None:
    path = write_arpa(train_ngram(["ka to"], order=2), tmp_path / "m.arpa")
    path.write_text(path.read_text(encoding="utf-8").replace(*change, 1), encoding="utf-8")
    with pytest.raises(BadInput, match=match):
        read_arpa(path)
    with pytest.raises(BadInput, match="no ARPA file"):
        read_arpa(tmp_path / "none.arpa")


def test_kenlm_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    for unit in ("words", "characters"):
        model = train_ngram(["ka to mi", "ñi ka to", "mi ka ka to"], order=3, unit=unit)
        other = KenLM(write_arpa(model, tmp_path / f"{unit}.arpa"), unit=unit)
        texts = ["ka to", "xx ka", "mi ñi mi", ""]
        for one, two in zip(model.score(texts), other.score(texts), strict=True):
            np.testing.assert_allclose([*one.logprobs, one.end], [*two.logprobs, two.end], atol=1e-4)


def test_without_kenlm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(BadInput, match="not installed"):
        KenLM(tmp_path / "m.arpa", unit="words")


def test_refusals() -> None:
    with pytest.raises(BadInput, match="no text"):
        train_ngram(["", "  "])
    with pytest.raises(BadInput, match="order=0"):
        train_ngram(["ka"], order=0)
    with pytest.raises(UnknownName, match="discount"):
        train_ngram(["ka"], discount="none")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unit"):
        train_ngram(["ka"], unit="bytes")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="keeps for itself"):
        train_ngram(["ka <s> to"])
    with pytest.raises(BadInput, match="no demonstrations"):
        train_ngram(["ka"]).score(["ka"], demonstrations=["to"])
    with pytest.raises(BadInput, match="no end"):
        NGram("words", ({("ka",): -1.0},), ({},))
    with pytest.raises(BadInput, match="1 of them NaN"):
        TextScore(np.array([np.nan]), 0.0)
    with pytest.raises(BadInput, match="other than log-prob"):
        TextScore(np.array([0.3]), 0.0)


def test_symbols_join_again() -> None:
    for unit in ("words", "characters"):
        assert joined(symbols("ñu ka n\u0303", unit), unit) == "ñu ka n\u0303"
