"""The demonstrations' sound changed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attnlens.context.prompt import Condition, Prompt
from tests.context.controls.made import (
    AUDIO_EDITS,
    CHANCE,
    WITH_AUDIO,
    applied,
    prompt_of,
    words_of,
)


@pytest.mark.parametrize("condition", WITH_AUDIO)
@pytest.mark.parametrize(("name", "edit"), AUDIO_EDITS.items())
def test_audio_edits_touch_the_demonstrations_audio_alone(name: str, edit: str, condition: Condition) -> None:
    prompt = prompt_of(condition)
    changed = applied(prompt, name, seed=3)
    assert changed.target == prompt.target
    assert words_of(changed) == words_of(prompt)
    assert [demo.audio_id for demo in changed.demonstrations] == [demo.audio_id for demo in prompt.demonstrations]
    given_seeds = []
    for old, new in zip(prompt.demonstrations, changed.demonstrations, strict=True):
        assert old.audio is not None
        assert new.audio is not None
        assert replace(new.audio, edits=()) == old.audio
        assert [step.name for step in new.audio.edits] == [edit]
        given_seeds.append(new.audio.edits[0].seed)
    drawn = name in CHANCE
    assert len(set(given_seeds)) == (len(given_seeds) if drawn else 1)
    assert drawn or set(given_seeds) == {0}


def loaded(prompt: Prompt) -> list[Any]:
    return [demo.audio.load() for demo in prompt.demonstrations if demo.audio is not None]


def test_audio_edits_are_heard_as_promised() -> None:
    prompt = prompt_of("micl", shots=3)
    heard = {name: loaded(applied(prompt, name, seed=1)) for name in AUDIO_EDITS}
    for place, before in enumerate(loaded(prompt)):
        after = {name: clips[place] for name, clips in heard.items()}
        assert all(len(samples) == len(before) for samples in after.values())
        assert np.array_equal(after["audio-reversed"], before[::-1])
        assert not after["audio-silenced"].any()
        assert np.array_equal(np.sort(after["audio-chunk-shuffled"]), np.sort(before))
        assert not np.array_equal(after["audio-chunk-shuffled"], before)
        spectrum = np.abs(np.fft.rfft(before))
        assert np.allclose(np.abs(np.fft.rfft(after["audio-noise"])), spectrum, atol=1e-3 * spectrum.max())
        assert not np.allclose(after["audio-noise"], before, atol=0.01)


def test_edited_prompts_have_digests_of_their_own() -> None:
    prompt = prompt_of("micl", shots=2)
    digests = {
        applied(prompt, name).digest for name in [*AUDIO_EDITS, "mismatched-pairs", "word-shuffle", "order-reversed"]
    }
    assert len(digests | {prompt.digest}) == 8
