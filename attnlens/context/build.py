"""From ranked demonstrations to a prompt: how many, in which order, and what of each the condition shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np

from attnlens.context.prompt import (
    CONDITIONS,
    SHOWN,
    Condition,
    Demonstration,
    Order,
    PairOrder,
    Prompt,
    Target,
    stable_hash,
)
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput, UnknownName, listing

__all__ = ["build_prompt"]


def build_prompt(
    target: Utterance,
    demonstrations: Sequence[Utterance],
    *,
    condition: Condition,
    shots: int | None = None,
    template: str = "default",
    order: Order = "nearest-first",
    pair_order: PairOrder = "audio-first",
    seed: int = 0,
) -> Prompt:
    """Make the prompt of one target from demonstrations ranked nearest first, as a retriever returns them.

    Parameters
    ----------
    shots
        Take that many from the front; None takes all that were passed.
    order
        ``nearest-first`` puts the best demonstration farthest from the target (the paper), ``nearest-last`` next to
        it. ``as-given`` keeps the sequence, for lists that carry no ranking. ``random`` depends on the seed and the
        target's id and on nothing else.
    seed
        Used by ``order="random"`` alone.

    >>> from attnlens.data.audio import Audio
    >>> clip = Audio.from_array(np.zeros(16000, dtype=np.float32))
    >>> near, far, target = (Utterance(name, clip, f"text of {name}", "que") for name in ("near", "far", "t"))
    >>> print(build_prompt(target, [near, far], condition="icl", order="nearest-last"))
    icl prompt: 2 shots, template 'default'
      demo 0  'text of far' of far
      demo 1  'text of near' of near
      target  audio of t | reference, not shown: 'text of t'
    """
    if condition not in CONDITIONS:
        raise UnknownName.among("condition", condition, CONDITIONS)
    if order not in get_args(Order):
        raise UnknownName.among("order", order, get_args(Order))
    wanted = len(demonstrations) if shots is None else shots
    _refuse(target, demonstrations, condition, wanted)
    chosen = _ordered(list(demonstrations[:wanted]), order, seed, target.id)
    parts = SHOWN[condition]
    return Prompt(
        condition=condition,
        demonstrations=tuple(
            Demonstration(
                id=utterance.id,
                audio=utterance.audio if "audio" in parts else None,
                text=utterance.text if "text" in parts else None,
                audio_id=utterance.id,
                text_id=utterance.id,
                question=utterance.question,
            )
            for utterance in chosen
        ),
        target=Target(
            id=target.id,
            audio=None if condition == "t-icl" else target.audio,
            text=target.text,
            language=target.language,
            question=target.question,
        ),
        template=template,
        pair_order=pair_order,
    )


def _refuse(target: Utterance, demonstrations: Sequence[Utterance], condition: Condition, wanted: int) -> None:
    if wanted < 0:
        raise BadInput("the number of shots is negative", given=str(wanted), fix="pass shots=0 or more")
    if condition == "asr" and wanted > 0:
        raise BadInput(
            "an asr prompt takes no demonstrations",
            given=f"{wanted} shots for target {target.id!r}",
            fix="pass shots=0, or another condition",
        )
    counts = Counter(utterance.id for utterance in demonstrations)
    if target.id in counts:
        raise BadInput(
            f"the target {target.id!r} is among its own demonstrations",
            given=listing(counts, at_most=6),
            fix="retrieve from a pool without the target; `attnlens data check` finds overlaps between splits",
        )
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise BadInput(
            f"demonstrations of target {target.id!r} are repeated",
            given=listing(repeated, at_most=6),
            fix="pass each utterance once",
        )
    if len(demonstrations) < wanted:
        raise BadInput(
            f"too few demonstrations for target {target.id!r}",
            given=f"{wanted} shots",
            present=f"{len(demonstrations)} demonstrations",
            fix="ask for fewer shots, or retrieve from a larger pool",
        )


def _ordered(nearest_first: list[Utterance], order: Order, seed: int, target_id: str) -> list[Utterance]:
    if order == "nearest-last":
        return nearest_first[::-1]
    if order == "random":
        chance = np.random.default_rng(int(stable_hash("order", int(seed), target_id), 16))
        return [nearest_first[place] for place in chance.permutation(len(nearest_first))]
    return nearest_first
