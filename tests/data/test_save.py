"""A corpus in memory becomes a folder that reads back as the same corpus."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from attnlens.data.audio import Audio
from attnlens.data.corpus import Corpus
from attnlens.data.read import read_corpus
from attnlens.data.save import save_corpus
from attnlens.data.utterance import Utterance
from attnlens.errors import BadInput


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(np.arange(8000) / 9), 16000, format=form)
    return buffer.getvalue()


@pytest.fixture
def mixed(tmp_path: Path) -> Corpus:
    loud = Audio.from_array(1.5 * np.sin(np.arange(16000) / 7).astype(np.float32))
    soundfile.write(tmp_path / "there.wav", np.full(16000, 0.1), 16000)
    clips = {
        "a/b c": Audio.from_bytes(encoded("FLAC")),
        "cut": Audio(Audio.from_bytes(encoded("WAV")).source, 0.1, 0.3),
        "loud": loud,
        "turned": Audio.from_bytes(encoded("OGG")).edited("reverse"),
        "there": Audio(tmp_path / "there.wav"),
    }
    pool = tuple(
        Utterance(name, audio, f"text of {name}", "xx", speaker="s1", question="what?") for name, audio in clips.items()
    )
    return Corpus("mixed", "xx", {"pool": pool, "test": (Utterance("t", loud.edited("reverse"), "other", "xx"),)})


def test_what_is_written_reads_back_the_same(mixed: Corpus, tmp_path: Path) -> None:
    folder = save_corpus(mixed, tmp_path / "saved")
    again = read_corpus(folder)
    assert [one.id for one in again] == [one.id for one in mixed]
    for before, after in zip(mixed, again, strict=True):
        assert (before.text, before.speaker, before.question) == (after.text, after.speaker, after.question)
        np.testing.assert_array_equal(before.audio.load(), after.audio.load())
    assert (folder / "pool" / "a%2Fb c.flac").read_bytes() == encoded("FLAC")
    assert "there" not in {path.stem for path in (folder / "pool").iterdir()}


def test_nothing_is_written_over_or_guessed(mixed: Corpus, tmp_path: Path) -> None:
    folder = save_corpus(mixed, tmp_path / "saved")
    with pytest.raises(BadInput, match="already there"):
        save_corpus(mixed, folder)
    save_corpus(mixed, folder, existing="replace")
    noise = Corpus("noise", "xx", {"pool": (Utterance("n", Audio.from_bytes(b"not audio"), "text", "xx"),)})
    with pytest.raises(BadInput, match="no known form"):
        save_corpus(noise, tmp_path / "noise")
