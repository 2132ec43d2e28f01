"""Specs: one description, whichever way it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.context.prompt import CONDITIONS
from attnlens.errors import BadInput, UnknownName
from attnlens.mapping import parse_value
from attnlens.run.load import dump_spec, load_spec, write_spec
from attnlens.run.spec import RunSpec

subsets = st.lists(st.sampled_from(sorted(CONDITIONS)), min_size=1, unique=True)
counts = st.lists(st.integers(0, 100), min_size=1, max_size=5, unique=True)
specs = st.builds(
    lambda name, conditions, shots, seeds, corpora, limit: RunSpec(
        name=name,
        context={"conditions": conditions, "shots": shots},
        seeds=seeds,
        data={"corpora": corpora, "limit": limit},
    ),
    st.text(max_size=20),
    subsets,
    counts,
    counts,
    st.lists(st.text("abñ/: #-'\"no", min_size=1, max_size=8).filter(str.strip), max_size=3, unique=True),
    st.none() | st.integers(1, 9),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(spec=specs)
def test_yaml_reads_back_the_same(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("spec")
    again = load_spec(write_spec(spec, folder))
    assert again == spec
    assert again.hash == spec.hash


def test_the_hash_names_results_and_nothing_else() -> None:
    spec = RunSpec()
    for changes in (
        {"name": "x"},
        {"execution.executor": "dask", "execution.workers": 3},
        {"execution.on_error": "stop"},
    ):
        assert spec.updated(changes).hash == spec.hash
    for key, value in [
        ("seeds", "1"),
        ("context.shots", "3"),
        ("model.dtype", "float16"),
        ("data.split", "dev"),
        ("convention", "paper"),
    ]:
        assert spec.updated({key: value}).hash != spec.hash


def test_the_hash_does_not_drift_unnoticed() -> None:
    # Stores are told apart by it: a change of this value is a change for every user, and belongs in the changelog.
    assert RunSpec().hash == HASH
    assert RunSpec().canonical().startswith('{"context":{"conditions":["asr","t-icl"')


HASH = "1890a189961ac400"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("[0, 1]", [0, 1]),
        ("null", None),
        ("3", 3),
        ("1.5", 1.5),
        ("2024-01-02", "2024-01-02"),
    ],
)
def test_yaml_has_no_surprises(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_an_empty_file_is_the_default_spec(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_spec(tmp_path / "spec.yaml") == RunSpec()


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_bytes(b"\xef\xbb\xbfseeds: [3]\r\n")
    assert load_spec(tmp_path / "spec.yaml").seeds == (3,)


def test_specs_do_not_change_under_their_holder() -> None:
    spec = RunSpec()
    with pytest.raises(ValueError, match="frozen"):
        spec.seeds = (1,)  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        spec.context.shots = (1,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"modle": {}}, BadInput, "did you mean 'model'"),
        ({"model": {"nmae": "x"}}, BadInput, "did you mean 'model.name'"),
        ({"context": {"retriever": "texts"}}, UnknownName, "did you mean 'text'"),
        ({"data": {"normaliser": "papr"}}, UnknownName, "did you mean 'paper'"),
        ({"context": {"template": "defualt"}}, UnknownName, "did you mean 'default'"),
        ({"convention": "papers"}, BadInput, "did you mean 'paper'"),
        ({"seeds": [1.5]}, BadInput, "seeds"),
        ({"data": {"limit": 0}}, BadInput, "data.limit"),
        ({"context": {"shots": []}}, BadInput, "context.shots"),
        ({"context": {"controls": ["none", "none"]}}, BadInput, "repeated: none"),
    ],
)
def test_bad_fields_from_python(fields: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        RunSpec(**fields)


def test_every_key_is_written_out() -> None:
    text = dump_spec(RunSpec())
    for section in RunSpec.model_fields:
        assert f"{section}:" in text
