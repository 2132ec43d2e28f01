"""Every kind of spec is read from YAML in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnlens.asr.rerank_spec import read_rerank_spec
from attnlens.errors import BadInput
from attnlens.mapping import read_mapping
from attnlens.run.load import load_spec
from attnlens.train.spec import read_train_spec

READERS: list[Callable[[Path], Any]] = [load_spec, read_train_spec, read_rerank_spec]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("text", "said"), [("a: 1\na: 2\n", "stands twice"), ("- a\n", "no mapping"), ("a: [1\n", "no readable YAML")]
)
def test_what_is_no_mapping_is_refused(read: Callable[[Path], Any], text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read(path)


def test_words_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("options: {augment: on, corpora: [no, sv]}\n")
    found = read_mapping(path, keys=(), example="a: 1")
    assert found == {"options": {"augment": "on", "corpora": ["no", "sv"]}}
