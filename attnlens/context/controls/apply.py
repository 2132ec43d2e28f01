"""Controls by name, and the one way to apply one: checked first, seeded by name, recorded on the prompt, never void."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from attnlens.context.controls.base import Control, Draw
from attnlens.context.prompt import Prompt
from attnlens.data.corpus import Corpus
from attnlens.errors import BadInput, UnknownName, listing
from attnlens.mapping import parse_named
from attnlens.registry import Registry

__all__ = ["CONTROLS", "apply_control", "parse_control"]

_HERE = "attnlens.context.controls"

CONTROLS: Registry[Control] = Registry(
    "control",
    group="attnlens.controls",
    builtin={
        "none": (f"{_HERE}.base:NONE", "the clean prompt"),
        "mismatched-pairs": (f"{_HERE}.pairs:MISMATCHED_PAIRS", "every audio gets another demonstration's text"),
        "pair-order-swapped": (f"{_HERE}.pairs:PAIR_ORDER_SWAPPED", "the other half of each pair stands first"),
        "word-shuffle": (f"{_HERE}.text:WORD_SHUFFLE", "the words of each text in random order"),
        "character-shuffle": (f"{_HERE}.text:CHARACTER_SHUFFLE", "the characters of each text in random order"),
        "order-reversed": (f"{_HERE}.order:ORDER_REVERSED", "the demonstrations in reverse order"),
        "order-shuffled": (f"{_HERE}.order:ORDER_SHUFFLED", "the demonstrations in another random order"),
        "order-permutation": (f"{_HERE}.order:ORDER_PERMUTATION", "the demonstrations in a numbered order (index=)"),
        "audio-reversed": (f"{_HERE}.audio:AUDIO_REVERSED", "each demonstration's audio played backwards"),
        "audio-chunk-shuffled": (f"{_HERE}.audio:AUDIO_CHUNK_SHUFFLED", "200 ms chunks of each audio in random order"),
        "audio-silenced": (f"{_HERE}.audio:AUDIO_SILENCED", "each demonstration's audio silent, as long as before"),
        "audio-noise": (f"{_HERE}.audio:AUDIO_NOISE", "noise with the spectrum of each demonstration's audio"),
        "other-speaker": (f"{_HERE}.swap:OTHER_SPEAKER", "a clip of another sentence by another speaker, text kept"),
        "same-speaker": (f"{_HERE}.swap:SAME_SPEAKER", "a clip of another sentence by the same speaker, text kept"),
        "target-audio-swapped": (f"{_HERE}.swap:TARGET_AUDIO_SWAPPED", "the target's audio is another utterance's"),
        "other-language": (f"{_HERE}.language:OTHER_LANGUAGE", "demonstrations of another corpus (other=)"),
        "other-language-text": (f"{_HERE}.language:OTHER_LANGUAGE_TEXT", "texts of another corpus, as long (other=)"),
        "gold-inserted": (f"{_HERE}.insert:GOLD_INSERTED", "the target's own pair stands in one slot (slot=, what=)"),
        "decoy-inserted": (f"{_HERE}.insert:DECOY_INSERTED", "another target's pair stands in one slot (slot=, what=)"),
    },
)


def parse_control(text: str) -> tuple[str, dict[str, Any]]:
    """Read a control with its options from one word, as specs and flags hold it.

    Only the name is looked up here; options are checked where they are used, since some need a corpus.

    >>> parse_control("gold-inserted:slot=3:what=text")
    ('gold-inserted', {'slot': 3, 'what': 'text'})
    """
    # A wrong name is told before wrong options are.
    CONTROLS.require(text.partition(":")[0])
    return parse_named(text, what="control", example="gold-inserted:slot=3:what=text")


def apply_control(prompt: Prompt, name: str, *, seed: int, corpus: Corpus | None = None, **options: Any) -> Prompt:
    """Return the prompt with one named control applied and recorded; the prompt passed in stays as it is.

    Parameters
    ----------
    seed
        Together with the control's name and the target's id the only source of chance.
    corpus
        Where controls that need other utterances of the language find them; the rest ignore it.
    options
        The control's own, such as ``slot=2``; `attnlens ls controls` names them.

    >>> from attnlens.context.prompt import Demonstration, Target
    >>> demos = tuple(Demonstration(i, None, t, i, i) for i, t in [("d1", "ima kashka"), ("d2", "ari")])
    >>> prompt = Prompt("t-icl", demos, Target("t1", None, "imata", "que"))
    >>> print(apply_control(apply_control(prompt, "order-reversed", seed=0), "word-shuffle", seed=7))
    t-icl prompt: 2 shots, template 'default'
      made by order-reversed@0, word-shuffle@7:unchanged=1
      demo 0  'ari' of d2
      demo 1  'kashka ima' of d1
      target  no audio | reference, not shown: 'imata'
    """
    control = CONTROLS[name]
    control.require(name, prompt)
    arguments = _arguments(name, control, corpus, options)
    changed = control.change(prompt, Draw(int(seed), name, prompt.target.id), **arguments)
    if control.void == "refused" and _content(changed) == _content(prompt):
        raise BadInput(
            f"the control {name!r} changed nothing in the prompt of target {prompt.target.id!r}",
            given=f"{prompt.shots} demonstrations, {prompt.condition}",
            fix="leave this target out of the comparison, or use demonstrations that differ",
        )
    noted = {key: value for key, value in arguments.items() if key != "corpus" and value is not None}
    if control.unchanged == "recorded":
        noted |= _unchanged(prompt, changed)
    record = f"{name}@{seed}" + (
        ":" + ",".join(f"{key}={_said(value)}" for key, value in noted.items()) if noted else ""
    )
    return replace(changed, applied=(*prompt.applied, record))


def _arguments(name: str, control: Control, corpus: Corpus | None, options: dict[str, Any]) -> dict[str, Any]:
    """Fill in defaults and refuse what the control does not know or cannot do without."""
    # The first two parameters are the prompt and the draw; what follows is the control's own.
    known = dict(list(inspect.signature(control.change).parameters.items())[2:])
    named = [option for option in known if option != "corpus"]
    for option in options:
        if option not in named:
            raise UnknownName.among(f"option of the control {name!r}", option, named, fix="pass no options")
    passed = options if corpus is None else options | {"corpus": corpus}
    filled = {key: passed.get(key, value.default) for key, value in known.items()}
    missing = [key for key, value in filled.items() if value is inspect.Parameter.empty]
    if missing:
        raise BadInput(
            f"the control {name!r} needs {listing(missing)}",
            given=listing(options) or "no options",
            present=f"it takes {listing(known)}",
            fix=f"pass {listing(f'{key}=' for key in missing)}",
        )
    return filled


def _content(prompt: Prompt) -> tuple[object, ...]:
    # Ids are left out: the same words from another utterance are still the same words.
    demonstrations = tuple((demonstration.audio, demonstration.text) for demonstration in prompt.demonstrations)
    return demonstrations, prompt.target.audio, prompt.pair_order


def _unchanged(before: Prompt, after: Prompt) -> dict[str, int]:
    pairs = zip(before.demonstrations, after.demonstrations, strict=True)
    count = sum(old == new for old, new in pairs)
    return {"unchanged": count} if count else {}


def _said(value: object) -> str:
    return value.name if isinstance(value, Corpus) else str(value)
