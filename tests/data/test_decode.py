"""Why a clip cannot be heard, in one word that programs can act on; what is refused is tested beside the clips."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile

from attnlens.data.audio import RATE, Audio
from attnlens.data.decode import AudioProblem, UndecodableAudio
from attnlens.data.utterance import PROBLEMS
from attnlens.errors import BadInput

Noise = Callable[..., Any]


def with_nan(noise: Noise) -> Any:
    samples = noise()
    samples[100] = np.nan
    return samples


def from_file(folder: Path, samples: Any, *, rate: int = RATE, subtype: str = "FLOAT") -> Audio:
    path = folder / "a.wav"
    soundfile.write(path, samples, rate, subtype=subtype)
    return Audio(path)


def cut(clip: Audio, start: float, end: float | None = None) -> Audio:
    return Audio(clip.source, start, end)


UNHEARD: list[tuple[str, AudioProblem, Callable[[Path, Noise], Audio]]] = [
    ("no such file", "missing-file", lambda folder, _: Audio(folder / "gone.wav")),
    ("a folder", "missing-file", lambda folder, _: Audio(folder)),
    ("not audio", "undecodable-audio", lambda _, __: Audio.from_bytes(b"ari" * 99)),
    ("raw samples", "undecodable-audio", lambda folder, _: Audio(folder / "a.raw")),
    ("one hertz", "undecodable-audio", lambda folder, noise: from_file(folder, noise(), rate=1)),
    ("no samples", "empty-audio", lambda folder, _: from_file(folder, np.zeros(0))),
    ("less than a sample at 16 kHz", "empty-audio", lambda f, _: from_file(f, np.ones(2), rate=96_000)),
    ("a cut of less than a sample", "empty-audio", lambda f, noise: cut(from_file(f, noise()), 0.5, 0.50001)),
    ("a start beyond the end", "bad-cut", lambda folder, noise: cut(from_file(folder, noise()), 1.0)),
    ("an end beyond the end", "bad-cut", lambda _, noise: cut(Audio.from_array(noise()), 0.5, 1.5)),
    ("NaN in a file", "nan-audio", lambda folder, noise: from_file(folder, with_nan(noise))),
    ("NaN in memory", "nan-audio", lambda _, noise: Audio.from_array(with_nan(noise))),
]


@pytest.mark.parametrize(("problem", "make"), [case[1:] for case in UNHEARD], ids=[case[0] for case in UNHEARD])
def test_each_refusal_says_its_problem_also_in_another_process(
    tmp_path: Path, make_noise: Noise, problem: AudioProblem, make: Callable[[Path, Noise], Audio]
) -> None:
    with pytest.raises(UndecodableAudio) as caught:
        make(tmp_path, make_noise).load()
    error = caught.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is UndecodableAudio
    assert again.problem == error.problem == problem
    assert str(again) == str(error)
    assert error.fix
    assert isinstance(error, BadInput)
    assert error.kind == BadInput.kind


def test_problems_are_those_that_the_check_reports() -> None:
    named = set(get_args(AudioProblem))
    assert named == {problem for _, problem, _ in UNHEARD}
    assert {PROBLEMS[problem][0] for problem in named} == {"error"}
