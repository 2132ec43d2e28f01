"""Gold insertion with its decoy: does the model find the answer in a slot, or is any such pair enough?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnlens.context.controls.apply import apply_control
from attnlens.context.controls.base import WITH_DEMONSTRATIONS, Control, Draw, What, parts_of
from attnlens.context.controls.donors import split_of, strangers
from attnlens.context.prompt import Demonstration, Prompt
from attnlens.data.corpus import Corpus, Split
from attnlens.errors import BadInput

__all__ = ["DECOY_INSERTED", "GOLD_INSERTED", "GoldSlot", "decoy_inserted", "gold_inserted", "gold_slots"]


@dataclass(frozen=True)
class GoldSlot:
    """One step of a slot sweep: the same slot filled with the answer and with the answer to another question."""

    slot: int
    gold: Prompt
    decoy: Prompt


def gold_inserted(prompt: Prompt, draw: Draw, *, slot: int = 0, what: What = "pair") -> Prompt:
    """Put the target's own audio, text or both into one slot, counted from 0 in prompt order: a test of copying.

    Keeps: every other demonstration, the number and order of slots, the target. ``what="pair"`` is all that the
    condition shows of a demonstration; with ``"text"`` or ``"audio"`` the slot keeps its other half (the published
    variants).
    Destroys: what was replaced in that slot. Compare with ``decoy-inserted``, which does the same without the answer.
    """
    target = prompt.target
    gold = Demonstration(target.id, target.audio, target.text, audio_id=target.audio_id or target.id, text_id=target.id)
    return _inserted(prompt, slot, what, gold)


def decoy_inserted(
    prompt: Prompt, draw: Draw, *, corpus: Corpus, slot: int = 0, what: What = "pair", split: Split | None = None
) -> Prompt:
    """Put another target's audio, text or both into one slot: gold insertion without the answer.

    Keeps: what ``gold-inserted`` keeps. The decoy comes from the target's own split (or ``split``), shares no wording
    with the prompt, and is the same utterance for every slot and ``what``, so that a sweep compares slots, not decoys.
    Destroys: what was replaced in that slot.
    """
    others = strangers(prompt, corpus, split_of(prompt, corpus, split))
    other = others[draw.rng().integers(len(others))]
    return _inserted(prompt, slot, what, Demonstration(other.id, other.audio, other.text, other.id, other.id))


def gold_slots(
    prompt: Prompt, *, corpus: Corpus, seed: int = 0, what: What = "pair", split: Split | None = None
) -> tuple[GoldSlot, ...]:
    """Make the whole sweep: for each slot of a prompt, first to last, the gold and the decoy prompt.

    >>> import numpy as np
    >>> from attnlens.context.build import build_prompt
    >>> from attnlens.data.audio import Audio
    >>> from attnlens.data.utterance import Utterance
    >>> clip = Audio.from_array(np.zeros(16000, dtype=np.float32))
    >>> near, far, target, other = (Utterance(name, clip, f"text of {name}", "que") for name in ("n", "f", "t", "o"))
    >>> corpus = Corpus("kichwa", "que", {"pool": (near, far), "test": (target, other)})
    >>> for step in gold_slots(build_prompt(target, [near, far], condition="icl"), corpus=corpus):
    ...     print(*([demo.text_id for demo in made.demonstrations] for made in (step.gold, step.decoy)))
    ['t', 'f'] ['o', 'f']
    ['n', 't'] ['n', 'o']
    """
    return tuple(
        GoldSlot(
            slot,
            gold=apply_control(prompt, "gold-inserted", seed=seed, slot=slot, what=what),
            decoy=apply_control(prompt, "decoy-inserted", seed=seed, corpus=corpus, slot=slot, what=what, split=split),
        )
        for slot in range(prompt.shots)
    )


def _inserted(prompt: Prompt, slot: int, what: What, giver: Demonstration) -> Prompt:
    if not 0 <= slot < prompt.shots:
        raise BadInput(
            f"there is no slot {slot} in the prompt of target {prompt.target.id!r}",
            given=f"slot={slot}",
            present=f"0 to {prompt.shots - 1}, in prompt order",
            fix="pass one of these",
        )
    parts = parts_of(prompt, what)
    filled = prompt.demonstrations[slot]
    if "audio" in parts:
        filled = replace(filled, audio=giver.audio, audio_id=giver.audio_id)
    if "text" in parts:
        filled = replace(filled, text=giver.text, text_id=giver.text_id)
    before, after = prompt.demonstrations[:slot], prompt.demonstrations[slot + 1 :]
    return replace(prompt, demonstrations=(*before, filled, *after))


GOLD_INSERTED = Control(gold_inserted, conditions=WITH_DEMONSTRATIONS)
DECOY_INSERTED = Control(decoy_inserted, conditions=WITH_DEMONSTRATIONS)
