"""How probable hypotheses are after a prompt: the prompt is read once, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attnlens.context.encode import Encoded
from attnlens.errors import BadInput, UnknownName
from attnlens.models.memory import asking
from attnlens.models.prefix import unmaskable
from attnlens.models.teacher_forcing import ANY_STOP, Around, Item, Job, Layout, Method, not_packed

if TYPE_CHECKING:
    from attnlens.models.speechlm import SpeechLM

__all__ = ["Around", "End", "Layout", "Method", "Score", "score"]

End = Literal["none", "eos"]


@dataclass(frozen=True)
class Score:
    """Log-probabilities of one hypothesis: ``logprobs`` float32 [tokens] of ``ids`` [tokens], the first token included.

    ``text`` is None where token ids were given. With ``end="eos"`` the last of both is the end of the answer.
    """

    text: str | None
    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]

    @property
    def total(self) -> float:
        """The sum of the log-probabilities; 0 where nothing was scored."""
        return float(self.logprobs.sum(dtype=np.float64))

    @property
    def per_token(self) -> float:
        """The mean of the log-probabilities."""
        if not len(self.logprobs):
            raise BadInput(
                "a hypothesis without tokens has no mean log-probability",
                given=repr(self.text or ""),
                fix="score with end='eos', or leave empty hypotheses out",
            )
        return self.total / len(self.logprobs)


def score(
    lens: SpeechLM,
    encoded: Encoded,
    hypotheses: Sequence[str | Sequence[int]],
    *,
    end: End = "none",
    method: Method = "auto",
    pack: int = 512,
    around: Around | None = None,
) -> list[Score]:
    """Get the log-probability of every token of every hypothesis, each read as what follows the prompt.

    The result is that of one forward pass per hypothesis; what is shared is the work. Of equal hypotheses one is
    computed. An empty hypothesis has no tokens and a total of 0, or with ``end="eos"`` the end alone.

    Parameters
    ----------
    encoded
        The prompt; hypotheses start after its last position.
    hypotheses
        Texts, read as data and never as special tokens, or token ids.
    end
        ``eos`` also scores that the answer ends there: the probability of all tokens that end an answer together, of
        which ``ids`` shows the first.
    method
        ``packed``: many hypotheses in one row over the cached prompt, none seeing another. ``sequential``: one after
        another over the cached prompt, in their true positions, which suits interventions given by position.
        ``full``: one forward pass over prompt and hypothesis each, the definition. ``auto``: the first that the model
        can do. A hypothesis that makes the whole longer than the model's cache border, or one whose model keeps a
        cache that cannot be shared, is read in full under any method.
    pack
        About how many tokens go into one row; lower it to save memory. A hypothesis is never split.
    around
        Makes a context for each forward pass, the prompt's included, from what its rows are.

    >>> from attnlens.models.load import load
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.testing import utterance
    >>> lens = load("tiny:qwen3-asr")
    >>> encoded = lens.encode(build_prompt(utterance("t"), [], condition="asr"))
    >>> scores = score(lens, encoded, ["kato", "kat", "kato"], end="eos")
    >>> [len(one.logprobs) for one in scores], scores[0].total == scores[2].total
    ([5, 4, 5], True)
    """
    import torch

    _refuse(hypotheses, end=end, method=method, pack=pack)
    if method == "packed" and (reason := unmaskable(lens.decoder)):
        raise not_packed(lens, reason)
    if not hypotheses:
        return []
    stops = _stops(lens) if end == "eos" else []
    tokens = [_tokens(lens, one) for one in hypotheses]
    lens.require_room(encoded, reserve=max(len(one) for one in tokens))
    first = {ids: index for index, ids in reversed(list(enumerate(tokens)))}
    items = [Item(first[ids], ids, [*ids, ANY_STOP] if stops else list(ids)) for ids in dict.fromkeys(tokens)]
    job = Job(lens, encoded, stops, around or (lambda _layout: nullcontext()))
    what = f"scoring {len(items)} hypotheses of up to {max(map(len, tokens))} tokens after {len(encoded.ids)} positions"
    with asking(what, fix="lower pack, choose method='sequential', or lower the shots"), torch.no_grad():
        found = dict(job.run([item for item in items if item.targets], method=method, pack=pack))
    nothing = np.zeros(0, dtype=np.float32)
    return [
        Score(
            text if isinstance(text, str) else None,
            np.asarray([*ids, *stops[:1]], dtype=np.int64),
            # Of one's own, or a change to one score would change its duplicates.
            found.get(first[ids], nothing).copy(),
        )
        for text, ids in zip(hypotheses, tokens, strict=True)
    ]


def lengths(lens: SpeechLM, hypotheses: Sequence[str | Sequence[int]]) -> list[int]:
    """Return how many tokens each hypothesis has."""
    return [len(_tokens(lens, one)) for one in hypotheses]


def _refuse(hypotheses: Sequence[str | Sequence[int]], *, end: str, method: str, pack: int) -> None:
    if isinstance(hypotheses, str):
        raise BadInput("hypotheses are a list", given=repr(hypotheses), fix=f"pass [{hypotheses!r}]")
    if end not in get_args(End):
        raise UnknownName.among("end", end, get_args(End))
    if method not in get_args(Method):
        raise UnknownName.among("method", method, get_args(Method))
    if pack < 1:
        raise BadInput("a pack holds at least one token", given=f"pack={pack}", fix="pass 1 or more; 512 is usual")


def _tokens(lens: SpeechLM, hypothesis: str | Sequence[int]) -> tuple[int, ...]:
    if isinstance(hypothesis, str):
        return tuple(lens.front.tokenise(hypothesis, kind="content"))
    table = len(lens.decoder.get_input_embeddings().weight)
    ids = tuple(int(token) for token in hypothesis)
    outside = [token for token in ids if not 0 <= token < table]
    if outside:
        raise BadInput(
            f"a hypothesis holds the token id {outside[0]}",
            given=f"{len(ids)} token ids",
            present=f"ids from 0 to {table - 1}",
            fix="tokenise with the model's own tokenizer, or pass texts",
        )
    return ids


def _stops(lens: SpeechLM) -> list[int]:
    """Return the tokens that end an answer; a chat model has several."""
    stops = getattr(getattr(lens.model, "generation_config", None), "eos_token_id", None)
    if stops is None:
        raise BadInput(
            f"{lens.name} does not say which token ends an answer",
            given="end='eos'",
            fix="choose end='none', or put the end token into the hypotheses as token ids",
        )
    return [stops] if isinstance(stops, int) else [int(stop) for stop in stops]
