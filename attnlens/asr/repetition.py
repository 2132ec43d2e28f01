"""Keep a decoder from running in circles, by name: over what it wrote, or as the paper did, over the prompt as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attnlens.errors import BadInput
from attnlens.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GUARDS", "Guard", "LoopGuard", "NoRepeat", "forbidden_loops", "forbidden_repeats", "guard_options"]

LONGEST = 64
"""Tokens of the longest loop that is looked for."""


def forbidden_repeats(ids: Sequence[int], n: int) -> set[int]:
    """Return the tokens that would write an n-gram a second time.

    >>> forbidden_repeats([5, 6, 7, 5, 6], 3)
    {7}
    """
    start = list(ids[len(ids) - n + 1 :]) if n > 1 else []
    if len(start) != n - 1:
        return set()
    return {ids[at + n - 1] for at in range(len(ids) - n + 1) if list(ids[at : at + n - 1]) == start}


def forbidden_loops(ids: Sequence[int], times: int, longest: int = LONGEST) -> set[int]:
    """Return the tokens that would end the text in more than ``times`` equal runs in a row.

    >>> forbidden_loops([1, 7, 8, 7], times=2), forbidden_loops([1, 7, 7], times=2)
    (set(), {7})
    """
    found = set()
    for period in range(1, min(longest, (len(ids) + 1) // (times + 1)) + 1):
        token = ids[len(ids) - period]
        tail = [*ids[len(ids) + 1 - period * (times + 1) :], token]
        if all(tail[at] == tail[at - period] for at in range(period, len(tail))):
            found.add(token)
    return found


class Guard:
    """What all guards share: they follow the tokens of one answer, and forbid some as the next.

    A logits processor of transformers; one guard serves one answer. Where nothing but forbidden tokens is left, all are
    allowed: an answer cannot stop in the middle of a token.
    """

    def __init__(self, *, prompt: Sequence[int] = ()) -> None:
        self.prompt = [int(token) for token in prompt]
        self.made: list[int] = []
        self._given: int | None = None

    def forbidden(self, made: Sequence[int]) -> set[int]:
        """Return the tokens that may not follow what was made."""
        raise NotImplementedError

    def resume(self, made: Sequence[int]) -> None:
        """Learn what was made before a call of transformers' ``generate``, which begins counting anew."""
        self.made, self._given = list(made), None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Set the scores [1, vocabulary] of forbidden tokens to -inf."""
        if len(input_ids) != 1:
            raise BadInput("a guard follows one answer", given=f"a batch of {len(input_ids)}", fix="pass num_beams=1")
        if self._given is None:
            # Families that read ids show their prompt here, families that read embeddings do not.
            self._given = input_ids.shape[1]
        made = [*self.made, *input_ids[0, self._given :].tolist()]
        banned = [token for token in self.forbidden(made) if token < scores.shape[-1]]
        if not banned:
            return scores
        guarded = scores.clone()
        guarded[:, banned] = -float("inf")
        return guarded if bool(guarded.isfinite().any()) else scores


class NoRepeat(Guard):
    """Forbid a second occurrence of any n-gram of tokens, in the answer or in prompt and answer together.

    Over the prompt it forbids every n-gram of the demonstrations, in an experiment about what is learnt from them: that
    is what the published error rates were decoded with.
    """

    def __init__(self, *, prompt: Sequence[int] = (), n: int = 3) -> None:
        super().__init__(prompt=prompt)
        if n < 1:
            raise BadInput("an n-gram has a token or more", given=f"n={n}")
        self.n = n

    def forbidden(self, made: Sequence[int]) -> set[int]:
        """Return the tokens that would repeat an n-gram."""
        return forbidden_repeats([*self.prompt, *made], self.n)


class LoopGuard(Guard):
    """Forbid an answer to say the same thing more than ``times`` times in a row; nothing else is touched.

    Languages repeat n-grams and reduplicate words; what a stuck decoder does is to repeat without end.
    """

    def __init__(self, *, prompt: Sequence[int] = (), times: int = 4) -> None:
        super().__init__()
        if times < 1:
            raise BadInput("something is said once or more", given=f"times={times}")
        self.times = times

    def forbidden(self, made: Sequence[int]) -> set[int]:
        """Return the tokens that would close one round too many."""
        return forbidden_loops(made, self.times)


def _no_repeat(prompt: Sequence[int]) -> Guard:
    return NoRepeat()


def _paper(prompt: Sequence[int]) -> Guard:
    return NoRepeat(prompt=prompt)


def _loops(prompt: Sequence[int]) -> Guard:
    return LoopGuard()


def _none(prompt: Sequence[int]) -> None:
    return None


GUARDS: Registry[Callable[[Sequence[int]], Guard | None]] = Registry(
    "repetition guard",
    group="attnlens.repetition_guards",
    builtin={
        "loops": ("attnlens.asr.repetition:_loops", "no run of tokens more than 4 times in a row, in the answer alone"),
        "no-repeat": ("attnlens.asr.repetition:_no_repeat", "no 3-gram of tokens twice, in the answer alone"),
        "none": ("attnlens.asr.repetition:_none", "nothing is forbidden"),
        "paper": ("attnlens.asr.repetition:_paper", "no 3-gram of tokens twice in prompt and answer, as published"),
    },
)
"""Guards by name; each value makes one from the token ids of the prompt."""


def guard_options(name: str, prompt: Sequence[int]) -> dict[str, Any]:
    """Return what :meth:`attnlens.models.speechlm.SpeechLM.generate` takes for a guard by name.

    >>> guard_options("none", [1, 2]), type(guard_options("paper", [1, 2])["logits_processor"][0]).__name__
    ({}, 'NoRepeat')
    """
    guard = GUARDS[name](prompt)
    return {} if guard is None else {"logits_processor": [guard]}
