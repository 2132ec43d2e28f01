"""Errors say what was given, what is there and what to pass, and survive the way to another process."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from attnlens import errors
from attnlens.errors import AttnlensError, BadInput, UnknownName, closest, listing

KINDS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, AttnlensError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_fields_when_pickled(kind: type[AttnlensError]) -> None:
    error = kind("m", given=3, present="p", fix="f")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "m\n  given:   3\n  present: p\n  fix:     f"


@pytest.mark.parametrize("kind", [one for one in KINDS if one is not AttnlensError])
def test_every_kind_has_a_page(kind: type[AttnlensError]) -> None:
    page = Path(__file__).parents[1] / "docs" / "errors" / f"{kind.kind}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {kind.kind}\n")


def test_kinds_are_caught_as_what_they_are() -> None:
    assert issubclass(BadInput, ValueError)
    assert issubclass(UnknownName, KeyError)


@pytest.mark.parametrize(
    ("name", "meant"), [("conditons", "conditions"), ("MICL", "micl"), ("zzz", None), ("", None), ("t-icl ", "t-icl")]
)
def test_closest(name: str, meant: str | None) -> None:
    assert closest(name, ["conditions", "micl", "t-icl"]) == meant


def test_a_long_list_says_how_much_is_left_out() -> None:
    assert listing(range(30), at_most=2) == "0, 1 and 28 more"
    assert listing([]) == ""


def test_unknown_name_without_any_name() -> None:
    assert "no thing is registered" in str(UnknownName.among("thing", "x", []))
