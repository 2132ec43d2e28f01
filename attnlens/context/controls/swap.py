"""Controls that put in another utterance's clip of the same language: this recording, this voice, or any speech?"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from attnlens.context.controls.base import WITH_AUDIO, WITH_TARGET_AUDIO, Control, Draw
from attnlens.context.controls.donors import assign, ids_in, split_of, strangers
from attnlens.context.prompt import Demonstration, Prompt
from attnlens.data.corpus import Corpus, Split
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

__all__ = [
    "OTHER_SPEAKER",
    "SAME_SPEAKER",
    "TARGET_AUDIO_SWAPPED",
    "other_speaker",
    "same_speaker",
    "target_audio_swapped",
]


def other_speaker(prompt: Prompt, draw: Draw, *, corpus: Corpus) -> Prompt:
    """Put a clip of another sentence by another speaker into every demonstration, text kept.

    Keeps: the texts, the language, the number of clips; every clip is real speech from the pool, outside the prompt.
    Destroys: what the audio says, who says it, and its length. Refused where speakers are unknown.
    """
    return _reclipped(prompt, draw, corpus, "another")


def same_speaker(prompt: Prompt, draw: Draw, *, corpus: Corpus) -> Prompt:
    """Put a clip of another sentence by the same speaker into every demonstration, text kept.

    Keeps: the texts, the voice of each clip, the language; every clip is real speech from the pool, outside the prompt.
    Destroys: what the audio says, and its length. Refused where speakers are unknown.
    """
    return _reclipped(prompt, draw, corpus, "the same")


def target_audio_swapped(prompt: Prompt, draw: Draw, *, corpus: Corpus, split: Split | None = None) -> Prompt:
    """Put another utterance's audio in the target's place, to see what is left when the answer cannot be heard.

    Keeps: the demonstrations, the target's id and reference; the audio is real speech from ``split``, by default the
    target's own, and ``Target.audio_id`` says whose.
    Destroys: what the target audio says, and its length. Its text differs from all that the prompt holds.
    """
    others = strangers(prompt, corpus, split_of(prompt, corpus, split))
    other = others[draw.rng().integers(len(others))]
    return replace(prompt, target=replace(prompt.target, audio=other.audio, audio_id=other.id))


def _reclipped(prompt: Prompt, draw: Draw, corpus: Corpus, speaker: Literal["the same", "another"]) -> Prompt:
    by_id = {utterance.id: utterance for utterance in corpus}
    owners = [_owner(demonstration, by_id, corpus) for demonstration in prompt.demonstrations]
    used = ids_in(prompt)
    # A clip that says the demonstration's sentence would leave the pair intact.
    said = [{owner.text, shown.text} for owner, shown in zip(owners, prompt.demonstrations, strict=True)]

    def fits(place: int, donor: Utterance) -> bool:
        alike = donor.speaker == owners[place].speaker
        known = donor.speaker is not None and donor.id not in used
        return known and alike == (speaker == "the same") and donor.text not in said[place]

    pool = [corpus.pool[place] for place in draw.rng().permutation(len(corpus.pool))]
    donors = assign(prompt.shots, pool, fits)
    if donors is None:
        speakers = {utterance.speaker for utterance in corpus.pool} - {None}
        raise BadInput(
            f"the pool has too few clips by {speaker} speaker for the demonstrations of target {prompt.target.id!r}",
            given=f"{prompt.shots} demonstrations",
            present=f"{len(corpus.pool)} utterances by {len(speakers)} known speakers in corpus {corpus.name!r}",
            fix="use fewer shots, or a pool with more clips and speakers",
        )
    return replace(
        prompt,
        demonstrations=tuple(
            replace(demonstration, audio=donor.audio, audio_id=donor.id)
            for demonstration, donor in zip(prompt.demonstrations, donors, strict=True)
        ),
    )


def _owner(demonstration: Demonstration, by_id: dict[str, Utterance], corpus: Corpus) -> Utterance:
    owner = by_id.get(demonstration.audio_id)
    if owner is None:
        raise BadInput(
            f"the audio of {demonstration.audio_id!r} is not in corpus {corpus.name!r}, so its speaker is unknown",
            present=f"{len(by_id)} utterances",
            fix="pass the corpus that the demonstrations come from",
        )
    if owner.speaker is None:
        raise BadInput(
            f"the speaker of {owner.id!r} is unknown",
            fix="give the manifest a speaker column, or leave this control out",
        )
    return owner


OTHER_SPEAKER = Control(other_speaker, conditions=WITH_AUDIO)
SAME_SPEAKER = Control(same_speaker, conditions=WITH_AUDIO)
TARGET_AUDIO_SWAPPED = Control(target_audio_swapped, conditions=WITH_TARGET_AUDIO, at_least=0)
