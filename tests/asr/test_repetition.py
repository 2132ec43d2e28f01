"""Guards forbid what they say, in the answer alone unless named for the paper; copies are counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlens.asr.copying import copy_rate
from attnlens.asr.prompted import write_transcript
from attnlens.asr.repetition import GUARDS, Guard, LoopGuard, NoRepeat, forbidden_loops, forbidden_repeats
from attnlens.context.build import build_prompt
from attnlens.errors import BadInput, UnknownName
from attnlens.models.load import load
from attnlens.testing import corpus

QUICK = settings(derandomize=True, max_examples=80, deadline=None)
IDS = st.lists(st.integers(0, 3), max_size=14)


@QUICK
@given(ids=IDS, n=st.integers(1, 4))
def test_repeats_equal_their_definition(ids: list[int], n: int) -> None:
    there = {tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)}
    expected = {token for token in range(4) if len(ids) >= n - 1 and tuple([*ids, token][len(ids) - n + 1 :]) in there}
    assert forbidden_repeats(ids, n) == expected


@QUICK
@given(ids=IDS, times=st.integers(1, 3))
def test_loops_equal_their_definition(ids: list[int], times: int) -> None:
    def loops(text: list[int]) -> bool:
        return any(
            text[-period * (times + 1) :] == text[-period:] * (times + 1)
            for period in range(1, len(text) // (times + 1) + 1)
        )

    assert forbidden_loops(ids, times) == {token for token in range(4) if loops([*ids, token])}


def test_repeats_are_those_of_transformers() -> None:
    from transformers import NoRepeatNGramLogitsProcessor

    torch.manual_seed(0)
    for _ in range(20):
        ids = torch.randint(0, 4, (1, 12))
        scores = torch.randn(1, 5)
        guard = NoRepeat(prompt=ids[0, :8].tolist(), n=3)
        guard.resume(ids[0, 8:].tolist())
        theirs = NoRepeatNGramLogitsProcessor(3)(ids, scores)
        assert torch.equal(guard(ids[:, :0], scores), theirs)


def test_a_guard_follows_one_answer_over_several_calls() -> None:
    guard = LoopGuard(times=2)
    assert guard(torch.tensor([[9, 9, 9, 9]]), torch.zeros(1, 10))[0, 9] == 0
    assert guard(torch.tensor([[9, 9, 9, 9, 9, 9]]), torch.zeros(1, 10))[0, 9] == -float("inf")
    guard.resume([9, 9])
    assert guard(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 10))[0, 9] == -float("inf")
    only = torch.full((1, 10), -float("inf"))
    only[0, 9] = 0
    assert torch.equal(guard(torch.zeros(1, 0, dtype=torch.long), only), only)
    with pytest.raises(BadInput, match="one answer"):
        guard(torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 10))


@pytest.mark.parametrize("model", ["tiny:qwen3-asr", "tiny:whisper"])
def test_guarded_answers(model: str) -> None:
    lens, speech = load(model), corpus()
    condition, demonstrations = ("asr", []) if model == "tiny:whisper" else ("micl", list(speech.pool[:2]))
    prompt = build_prompt(speech.test[0], demonstrations, condition=condition)  # type: ignore[arg-type]
    free = write_transcript(lens, prompt, guard="none", max_new_tokens=20)
    assert free.ids.tolist() == lens.generate(prompt, max_new_tokens=20).ids.tolist()
    ids = write_transcript(lens, prompt, guard="no-repeat", max_new_tokens=20).ids.tolist()
    grams = [tuple(ids[at : at + 3]) for at in range(len(ids) - 2)]
    assert len(set(grams)) == len(grams)
    ids = write_transcript(lens, prompt, guard="loops", max_new_tokens=20).ids.tolist()
    assert not any(ids[at : at + 5] == [ids[at]] * 5 for at in range(len(ids) - 4))
    prompt_ids = lens.encode(prompt).ids.tolist()
    ids = write_transcript(lens, prompt, guard="paper", max_new_tokens=20).ids.tolist()
    there = {tuple(prompt_ids[at : at + 3]) for at in range(len(prompt_ids) - 2)}
    assert not there.intersection(tuple(ids[at : at + 3]) for at in range(len(ids) - 2))
    assert len(set(zip(ids, ids[1:], ids[2:], strict=False))) == max(0, len(ids) - 2)


def test_names_and_refusals() -> None:
    assert set(GUARDS) == {"loops", "no-repeat", "none", "paper"}
    with pytest.raises(UnknownName, match="repetition guard"):
        GUARDS.require("norepeat")
    with pytest.raises(BadInput, match="n=0"):
        NoRepeat(n=0)
    with pytest.raises(BadInput, match="times=0"):
        LoopGuard(times=0)
    with pytest.raises(NotImplementedError):
        Guard().forbidden([])


def test_copies() -> None:
    found = copy_rate(["Ka to, mi!", "su", ""], [["ka to mi su"], ["su"], ["x"]], ["ka to le", "su", "y z w"], n=3)
    assert (found.copied, found.ngrams, found.reference_copied, found.reference_ngrams) == (1, 1, 0, 2)
    assert (found.verbatim, found.rate, found.reference_rate) == (1, 1.0, 0.0)
    nothing = copy_rate(["a"], [[]], ["a"], n=2)
    assert (nothing.rate, nothing.reference_rate) == (None, None)
    assert str(nothing).startswith("none of 0")
    letters = copy_rate(["kato"], [["ka to"]], ["ka"], n=2, unit="characters")
    assert (letters.copied, letters.ngrams) == (2, 3)
    with pytest.raises(BadInput, match="its demonstrations"):
        copy_rate(["a"], [], ["a"])
    with pytest.raises(BadInput, match="n=0"):
        copy_rate([], [], [], n=0)
