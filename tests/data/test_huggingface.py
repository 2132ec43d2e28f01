from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from attnlens.data.audio import Audio, AudioBytes
from attnlens.data.huggingface import MAPPINGS, read_dataset
from attnlens.errors import BadInput, UnknownName

Clip = Callable[..., Path]
Text = datasets.Value("string")


def encoded(samples: Any, *, format: str = "FLAC") -> bytes:  # noqa: A002
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16_000, format=format)
    return stream.getvalue()


def dataset(audio: Sequence[bytes | Path | None], *, split: str | None = None, **columns: Any) -> Any:
    """Build a data set as `load_dataset` returns it: an Audio column over stored bytes or paths."""
    stored = [
        {
            "bytes": one if isinstance(one, bytes) else None,
            "path": str(one) if isinstance(one, Path) else f"{index}.wav",
        }
        if one is not None
        else None
        for index, one in enumerate(audio)
    ]
    labels = {
        "lang_id": datasets.ClassLabel(names=["gn_py", "es_419"]),
        "gender": datasets.ClassLabel(names=["f", "m"]),
    }
    features: dict[str, Any] = {"audio": {"bytes": datasets.Value("binary"), "path": Text}}
    for name, values in columns.items():
        kind = next((type(value) for value in values if value is not None), str)
        features[name] = labels.get(name) or {int: datasets.Value("int32"), float: datasets.Value("float32")}.get(
            kind, Text
        )
    made = datasets.Dataset.from_dict({"audio": stored, **columns}, features=datasets.Features(features), split=split)
    # Casting, not encoding: writing audio through `datasets` would need torchcodec.
    return made.cast_column("audio", datasets.Audio(sampling_rate=48_000))


@pytest.fixture
def two(make_noise: Callable[..., Any]) -> list[bytes]:
    return [encoded(make_noise(seed=seed)) for seed in range(2)]


def test_fleurs(two: list[bytes]) -> None:
    # The sentence number repeats over speakers, and the file name does not.
    columns: dict[str, Any] = {
        "id": [7, 7],
        "path": ["/data/1001.wav", "/data/1002.wav"],
        "transcription": ["che", "che"],
        "raw_transcription": ["Che.", "Che."],
        "gender": [0, 1],
        "lang_id": [0, 0],
        "language": ["Guarani", "Guarani"],
    }
    corpus = read_dataset(dataset(two, split="validation", **columns), mapping="fleurs")
    assert (corpus.language, corpus.pool, corpus.test) == ("gn_py", (), ())
    assert [(utterance.id, utterance.text, utterance.speaker) for utterance in corpus.dev] == [
        ("1001", "che", None),
        ("1002", "che", None),
    ]


def test_common_voice(two: list[bytes]) -> None:
    columns: dict[str, Any] = {
        "client_id": ["f00d", "beef"],
        "path": ["gn_train_0/common_voice_gn_1.mp3", "common_voice_gn_2.mp3"],
        "sentence": ["Che.", "Nde?"],
        "locale": ["gn", "gn"],
        "up_votes": [2, 3],
    }
    parts = datasets.DatasetDict(train=dataset(two, **columns))
    corpus = read_dataset(parts, mapping="common-voice")
    assert [(utterance.id, utterance.text, utterance.speaker) for utterance in corpus.pool] == [
        ("common_voice_gn_1", "Che.", "f00d"),
        ("common_voice_gn_2", "Nde?", "beef"),
    ]


def test_ml_superb(two: list[bytes]) -> None:
    columns: dict[str, Any] = {
        "id": ["cv_grn_1", "cv_quy_1"],
        "text": ["[grn] CHE [ha] NDE", "[quy] ARI"],
        "language": ["grn", "quy"],
    }
    whole = dataset(two, **columns)
    parts = datasets.DatasetDict(train=whole.select([0]), dev=whole.select([1]))
    with pytest.raises(BadInput, match=r"several languages(.|\n)*grn \(1 rows\), quy \(1 rows\)"):
        read_dataset(parts, mapping="ml-superb-2")
    corpus = read_dataset(parts, mapping="ml-superb-2", language="grn")
    assert [(utterance.id, utterance.text) for utterance in corpus] == [("cv_grn_1", "CHE [ha] NDE")]
    assert corpus.dev == ()


def test_stored_bytes_are_what_is_heard(two: list[bytes], make_noise: Callable[..., Any]) -> None:
    corpus = read_dataset(
        dataset(two, words=["che", "nde"]), mapping={"audio": "audio", "text": "words"}, language="gn"
    )
    assert list(corpus.splits) == ["pool"]
    assert [utterance.id for utterance in corpus] == ["pool-0", "pool-1"]
    for seed, utterance in enumerate(corpus):
        assert isinstance(utterance.audio.source, AudioBytes)
        np.testing.assert_allclose(utterance.audio.load(), make_noise(seed=seed), atol=2**-15)


def test_files_are_not_kept_in_memory(clip: Clip, two: list[bytes]) -> None:
    path = clip("a.wav")
    made = dataset([path, two[0]], text=["che", "nde"])
    corpus = read_dataset(made, mapping={"audio": "audio", "text": "text"}, language="gn")
    assert corpus["pool-0"].audio == Audio(path)
    assert corpus["pool-1"].audio == Audio.from_bytes(two[0])


def test_a_column_of_plain_paths_will_do(clip: Clip) -> None:
    made = datasets.Dataset.from_dict({"file": [str(clip("a.wav"))], "text": ["che"], "from": [0.25], "to": [0.5]})
    mapping = {"audio": "file", "text": "text", "start": "from", "end": "to"}
    corpus = read_dataset(made, mapping=mapping, language="gn", split="test")
    assert len(corpus["test-0"].audio.load()) == 4_000


def test_only_the_wanted_language_is_touched(two: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(two, text=["che", "ari"], language=["gn", "quy"])
    heard: list[bytes] = []

    def listen(data: bytes) -> Audio:
        heard.append(data)
        return Audio(Path("x"))

    monkeypatch.setattr(Audio, "from_bytes", listen)
    read_dataset(made, mapping=_PLAIN, language="quy")
    assert heard == [two[1]]
    with pytest.raises(BadInput, match="no rows of language 'qu'"):
        read_dataset(made, mapping=_PLAIN, language="qu")
    assert len(heard) == 1


_PLAIN = {"audio": "audio", "text": "text", "language": "language"}


def test_bad_rows_are_told_with_their_place_and_skipped_only_on_request(two: list[bytes]) -> None:
    made = dataset(
        [two[0], None, two[1], Path("/gone.wav"), two[1], two[0]],
        id=["a", "b", "c", "d", "a", "f"],
        text=["che", "nde", " ", "ha", "ore", None],
    )
    mapping = {"id": "id", "audio": "audio", "text": "text"}
    parts = datasets.DatasetDict(train=made)
    with pytest.raises(BadInput, match=r"(?s)5 problems.*train\[1\] \(b\): there is no audio"):
        read_dataset(parts, mapping=mapping, language="gn")
    corpus = read_dataset(parts, mapping=mapping, language="gn", on_bad="skip")
    assert [utterance.id for utterance in corpus] == ["a"]
    assert [(problem.kind, problem.where) for problem in corpus.skipped] == [
        ("missing-file", "train[1]"),
        ("empty-text", "train[2]"),
        ("missing-file", "train[3]"),
        ("duplicate-id", "train[4]"),
        ("empty-text", "train[5]"),
    ]


def test_times_that_are_no_numbers_are_told(clip: Clip) -> None:
    made = datasets.Dataset.from_dict({"audio": [str(clip("a.wav"))], "text": ["che"], "start": ["soon"]})
    with pytest.raises(BadInput, match="'soon'"):
        read_dataset(made, mapping={"audio": "audio", "text": "text", "start": "start"}, language="gn")
    decoded = datasets.Dataset.from_dict({"audio": [[0.0, 0.1]], "text": ["che"]})
    with pytest.raises(BadInput, match="holds list, not a path"):
        read_dataset(decoded, mapping={"audio": "audio", "text": "text"}, language="gn")


def test_splits_come_from_names_or_from_the_caller(two: list[bytes]) -> None:
    made = dataset(two, text=["che", "nde"])
    mapping = {"audio": "audio", "text": "text"}
    parts = datasets.DatasetDict({"train": made, "validated": made})
    with pytest.raises(BadInput, match=r"(?s)'validated'.*splits=\{"):
        read_dataset(parts, mapping=mapping, language="gn")
    corpus = read_dataset(parts, mapping=mapping, language="gn", splits={"validated": "test"})
    assert [utterance.id for utterance in corpus.test] == ["validated-0", "validated-1"]
    assert list(corpus.splits) == ["test"]
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        read_dataset(parts, mapping=mapping, language="gn", splits={"trian": "pool"})
    with pytest.raises(BadInput, match="none of ours"):
        read_dataset(parts, mapping=mapping, language="gn", splits={"train": "eval"})  # type: ignore[dict-item]
    part = dataset(two, split="test[:50%]", text=["che", "nde"])
    assert len(read_dataset(part, mapping=mapping, language="gn").test) == 2
    assert len(read_dataset(part, mapping=mapping, language="gn", split="dev").dev) == 2


def test_a_mapping_that_does_not_fit_says_what_there_is(two: list[bytes]) -> None:
    made = dataset(two, sentence=["che", "nde"])
    with pytest.raises(UnknownName, match="did you mean 'fleurs'"):
        read_dataset(made, mapping="fluers")
    with pytest.raises(UnknownName, match="did you mean 'speaker'"):
        read_dataset(made, mapping={"audio": "audio", "text": "sentence", "speeker": "x"})
    with pytest.raises(BadInput, match="at least audio and text"):
        read_dataset(made, mapping={"audio": "audio"})
    with pytest.raises(BadInput, match=r"(?s)no column 'sentense' for text.*did you mean 'sentence'"):
        read_dataset(made, mapping={"audio": "audio", "text": "sentense"})
    with pytest.raises(BadInput, match="no column 'path' for id"):
        read_dataset(made, mapping="common-voice")
    with pytest.raises(BadInput, match="does not say which language"):
        read_dataset(made, mapping={"audio": "audio", "text": "sentence"})


def test_what_is_no_loaded_data_set_is_refused(two: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(two, text=["che", "nde"])
    with pytest.raises(BadInput, match="without streaming=True"):
        read_dataset(made.to_iterable_dataset(), mapping="fleurs")
    with pytest.raises(BadInput, match="not a Hugging Face data set"):
        read_dataset("google/fleurs", mapping="fleurs")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BadInput, match="pip install datasets"):
        read_dataset(made, mapping="fleurs")


def test_every_mapping_names_audio_text_and_id() -> None:
    for mapping in MAPPINGS.values():
        assert {"id", "audio", "text", "language"} <= set(mapping.columns)
