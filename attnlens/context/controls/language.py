"""Controls that take demonstrations from another language: is it the language, or the format of the prompt?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attnlens.context.controls.base import WITH_DEMONSTRATIONS, WITH_TEXT, Control, Draw, What, parts_of
from attnlens.context.prompt import Prompt
from attnlens.data.corpus import Corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput

__all__ = ["OTHER_LANGUAGE", "OTHER_LANGUAGE_TEXT", "other_language", "other_language_text"]


def other_language(prompt: Prompt, draw: Draw, *, other: Corpus, what: What = "pair") -> Prompt:
    """Replace the demonstrations by utterances of another language, to ask whether it is language or format.

    Keeps: the form of the prompt, the number of demonstrations, the target; with ``what="pair"`` (all that the
    condition shows) the pairs are true pairs, with ``what="audio"`` the texts stay and with ``what="text"`` the audios.
    Destroys: the language and the content of what is replaced, its nearness to the target, and its length.
    """
    parts = parts_of(prompt, what)
    pool = _pool(prompt, other)
    chosen = [pool[place] for place in draw.rng().choice(len(pool), size=prompt.shots, replace=False)]
    demonstrations = []
    for old, new in zip(prompt.demonstrations, chosen, strict=True):
        changed = replace(old, audio=new.audio, audio_id=new.id) if "audio" in parts else old
        changed = replace(changed, text=new.text, text_id=new.id) if "text" in parts else changed
        demonstrations.append(changed)
    return replace(prompt, demonstrations=tuple(demonstrations))


def other_language_text(prompt: Prompt, draw: Draw, *, other: Corpus, tolerance: float = 0.25) -> Prompt:
    """Replace every text by one of another language that is about as long, audio kept.

    Keeps: the audios, the number of demonstrations, and the length of each text in characters to within ``tolerance``
    (a share of it): the nearest length that is not yet used wins, a draw decides between equally near ones.
    Destroys: the language and the wording of the texts. Refused where no text of the other pool is near enough.
    """
    pool = _pool(prompt, other)
    free = [pool[place] for place in draw.rng().permutation(len(pool))]
    lengths = np.array([len(donor.text) for donor in free], dtype=np.float64)
    demonstrations = []
    for demonstration in prompt.demonstrations:
        length = len(demonstration.text or "")
        place = int(np.argmin(np.abs(lengths - length)))
        nearest = free[place]
        if abs(len(nearest.text) - length) > tolerance * length:
            raise BadInput(
                f"corpus {other.name!r} has no text as long as that of demonstration {demonstration.id!r}",
                given=f"{length} characters, tolerance {tolerance:.0%}",
                present=f"the nearest text left has {len(nearest.text)}",
                fix="pass a larger corpus, or a larger tolerance=",
            )
        lengths[place] = np.inf
        demonstrations.append(replace(demonstration, text=nearest.text, text_id=nearest.id))
    return replace(prompt, demonstrations=tuple(demonstrations))


def _pool(prompt: Prompt, other: Corpus) -> tuple[Utterance, ...]:
    if other.language == prompt.target.language:
        raise BadInput(
            f"corpus {other.name!r} is of the target's own language",
            given=f"other={other.language!r}, target {prompt.target.language!r}",
            fix="pass a corpus of another language",
        )
    if len(other.pool) < prompt.shots:
        raise BadInput(
            f"the pool of corpus {other.name!r} is too small",
            given=f"{prompt.shots} demonstrations",
            present=f"{len(other.pool)} utterances",
            fix="use fewer shots, or pass a larger corpus",
        )
    return other.pool


OTHER_LANGUAGE = Control(other_language, conditions=WITH_DEMONSTRATIONS)
OTHER_LANGUAGE_TEXT = Control(other_language_text, conditions=WITH_TEXT)
