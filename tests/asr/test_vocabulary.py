from __future__ import annotations

from typing import Any

import pytest

from attnlens.asr.vocabulary import Vocabulary
from attnlens.errors import BadInput, UnsupportedModel


class Tokenizer:
    def __init__(self, vocabulary: dict[str, int], **fields: Any) -> None:
        self.vocabulary = vocabulary
        self.all_special_ids = [number for piece, number in vocabulary.items() if piece.startswith("<")]
        vars(self).update(fields)

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


def test_characters_with_a_delimiter() -> None:
    made = Vocabulary.of_tokenizer(
        Tokenizer({"<pad>": 0, "|": 1, "A": 2}, word_delimiter_token="|", do_lower_case=True), blank=0, size=3
    )
    assert made.pieces == ("", " ", "a")


def test_sentence_pieces_and_a_blank_beyond_them() -> None:
    made = Vocabulary.of_tokenizer(Tokenizer({"<unk>": 0, "▁ka": 1, "to": 2}), blank=3, size=4)
    assert made.pieces == ("", " ka", "to", "")
    assert made.text([1, 2, 1]) == "kato ka"
    with pytest.raises(BadInput, match="many sequences"):
        made.ids("ka")


def test_tokenizers_of_bytes_or_of_another_model_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="writes bytes"):
        Vocabulary.of_tokenizer(Tokenizer({"<pad>": 0, "Ġka": 1}), blank=0, size=2)
    with pytest.raises(BadInput, match="another model"):
        Vocabulary.of_tokenizer(Tokenizer({"<pad>": 0, "a": 1, "b": 2}), blank=0, size=2)


def test_characters_outside_are_named() -> None:
    with pytest.raises(BadInput, match=r"outside its vocabulary: 'ú', 'ñ'|outside its vocabulary: 'ñ', 'ú'"):
        Vocabulary.of(["ka"]).ids("ñú ka")


@pytest.mark.parametrize("texts", [[], [""], ["  "]])
def test_no_text_is_no_vocabulary(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="no text"):
        Vocabulary.of(texts)


def test_a_blank_that_writes_is_refused() -> None:
    with pytest.raises(BadInput, match="writes nothing"):
        Vocabulary(("a", "b"), blank=0)
    with pytest.raises(BadInput, match="no id"):
        Vocabulary(("", "b"), blank=2)
