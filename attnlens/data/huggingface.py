"""Hugging Face ``datasets`` objects, whichever column names they use, without their audio decoding."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from attnlens.data.audio import Audio
from attnlens.data.corpus import SPLIT_NAMES, SPLITS, Corpus, OnBad, Row, Split, chosen_language, gather, make_row
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, UnknownName, closest, listing

__all__ = ["MAPPINGS", "ColumnMapping", "read_dataset"]

FIELDS = ("id", "audio", "text", "language", "speaker", "recording", "start", "end")
OPTIONAL = ("language", "speaker")


@dataclass(frozen=True)
class ColumnMapping:
    """Where a published data set keeps what an utterance needs.

    ``columns`` is field -> column. ``ids`` says whether ids are taken as they stand or are file names to be shortened;
    ``text`` whether transcripts start with a ``[language]`` tag that is not speech.
    """

    columns: Mapping[str, str]
    ids: Literal["plain", "file-name"] = "plain"
    text: Literal["plain", "tagged"] = "plain"


MAPPINGS: dict[str, ColumnMapping] = {
    # FLEURS numbers sentences, not recordings: its `id` repeats for every speaker who read the sentence.
    "fleurs": ColumnMapping(
        {"id": "path", "audio": "audio", "text": "transcription", "language": "lang_id"}, ids="file-name"
    ),
    "common-voice": ColumnMapping(
        {"id": "path", "audio": "audio", "text": "sentence", "language": "locale", "speaker": "client_id"},
        ids="file-name",
    ),
    "ml-superb-2": ColumnMapping({"id": "id", "audio": "audio", "text": "text", "language": "language"}, text="tagged"),
}
"""The columns of FLEURS, Common Voice and ML-SUPERB 2.0 as these sets publish them."""


def read_dataset(
    dataset: Any,
    *,
    mapping: str | Mapping[str, str],
    language: str | None = None,
    on_bad: OnBad = "refuse",
    splits: Mapping[str, Split] | None = None,
    split: Split | None = None,
) -> Corpus:
    """Read a corpus from a loaded ``datasets.Dataset`` or ``DatasetDict``.

    Its audio column is taken as the stored bytes or paths and decoded by attnlens, so neither torchcodec nor ffmpeg is
    needed. With ``language`` only that language's audio is touched. Clips stored as bytes are kept in memory, encoded.

    Parameters
    ----------
    dataset
        What ``datasets.load_dataset`` returned (not streaming).
    mapping
        ``"fleurs"``, ``"common-voice"``, ``"ml-superb-2"``, or your own as ``{"audio": column, "text": column, ...}``
        with any of id, language, speaker, recording, start, end.
    language
        The language to read. Rows that name no language are taken to be of it.
    on_bad
        Whether bad rows refuse the data set, or are left out and listed in ``corpus.skipped``.
    splits
        For a ``DatasetDict``: which of its splits becomes which of ours; those not named are not read. By default
        train, validation and test become pool, dev and test, and others are refused.
    split
        For a single ``Dataset``: its split; by default what it says itself, or else pool.

    >>> import tempfile, datasets, numpy as np, soundfile
    >>> path = tempfile.mkdtemp() + "/a.wav"
    >>> soundfile.write(path, np.zeros(16000), 16000)
    >>> dataset = datasets.Dataset.from_dict({"file": [path], "words": ["mba'eichapa"]})
    >>> read_dataset(dataset, mapping={"audio": "file", "text": "words"}, language="gn", split="test")["test-0"].text
    "mba'eichapa"
    """
    columns = _mapping(mapping)
    chosen = _chosen(dataset, splits, split)
    name = next((data.info.dataset_name for data, _, _ in chosen if data.info.dataset_name), "dataset")
    source = f"the data set {name!r}"
    parts = []
    for data, label, target in chosen:
        present = _present(data, columns, strict=not isinstance(mapping, str))
        parts.append(_Part(data, label, target, present, _spoken(data, present.get("language"))))
    counts = Counter(chain.from_iterable(part.spoken for part in parts))
    # Settled from the language column alone: the audio of a hundred other languages is never read.
    wanted = chosen_language(counts, language, source) if counts else language
    rows = chain.from_iterable(part.rows(columns, wanted) for part in parts)
    return gather(rows, name=name, source=source, language=wanted, on_bad=on_bad)


def _chosen(dataset: Any, splits: Mapping[str, Split] | None, split: Split | None) -> list[tuple[Any, str, Split]]:
    if importlib.util.find_spec("datasets") is None:
        raise BadInput("reading a Hugging Face data set needs the package datasets", fix="pip install datasets")
    import datasets

    if isinstance(dataset, datasets.Dataset):
        # `train[:10%]` is still train.
        said = re.split(r"\W", str(dataset.split or ""))[0]
        target = split or SPLIT_NAMES.get(said, "pool")
        return [(dataset, said or target, target)]
    if not isinstance(dataset, datasets.DatasetDict):
        streaming = isinstance(dataset, datasets.IterableDataset | datasets.IterableDatasetDict)
        raise BadInput(
            "this is a streaming data set" if streaming else "this is not a Hugging Face data set",
            given=type(dataset).__name__,
            fix="load it without streaming=True" if streaming else "pass what datasets.load_dataset returned",
        )
    read: dict[str, Split] = {name: SPLIT_NAMES[name] for name in dataset if name in SPLIT_NAMES}
    chosen = read if splits is None else dict(splits)
    for name in chosen:
        if name not in dataset:
            raise UnknownName.among("split of the data set", name, dataset)
    for name in dataset if splits is None else chosen:
        if chosen.get(name) not in SPLITS:
            raise BadInput(
                f"the split {name!r} of the data set is none of ours",
                given=listing(dataset),
                present=listing(SPLIT_NAMES),
                fix="say which are read, as splits={'train': 'pool', 'dev': 'test'}",
            )
    return [(dataset[name], name, target) for name, target in chosen.items()]


def _mapping(mapping: str | Mapping[str, str]) -> ColumnMapping:
    if isinstance(mapping, str):
        if mapping not in MAPPINGS:
            raise UnknownName.among("column mapping", mapping, MAPPINGS)
        return MAPPINGS[mapping]
    for field in mapping:
        if field not in FIELDS:
            raise UnknownName.among("field of a column mapping", field, FIELDS)
    if "audio" not in mapping or "text" not in mapping:
        raise BadInput("a column mapping names at least audio and text", given=listing(mapping), fix="add them")
    return ColumnMapping(dict(mapping))


def _present(part: Any, mapping: ColumnMapping, *, strict: bool) -> dict[str, str]:
    present = list(part.column_names)
    found = {}
    for field, column in mapping.columns.items():
        if column in present:
            found[field] = column
        elif strict or field not in OPTIONAL:
            near = closest(column, present)
            raise BadInput(
                f"the data set has no column {column!r} for {field}",
                present=listing(present),
                fix=f"did you mean {near!r}?" if near else "pass another mapping",
            )
    return found


def _spoken(part: Any, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(part)
    named = _names(part, column)
    return [named(value) for value in part.select_columns([column])[column]]


def _names(part: Any, column: str) -> Any:
    import datasets

    feature = part.features[column]
    if isinstance(feature, datasets.ClassLabel):
        # Class labels are stored as numbers, and -1 or None where there is no label.
        return lambda value: feature.int2str(value) if value is not None and value >= 0 else ""
    return lambda value: "" if value is None else str(value)


@dataclass(frozen=True)
class _Part:
    """One split of the data set: its rows, what it is called there and here, its columns, the language of each row."""

    data: Any
    label: str
    split: Split
    columns: Mapping[str, str]
    spoken: list[str]

    def rows(self, mapping: ColumnMapping, wanted: str | None) -> Iterator[Row | Problem]:
        import datasets

        chosen = [index for index, code in enumerate(self.spoken) if code in {wanted, ""}]
        data = self.data.select(chosen).select_columns(sorted(set(self.columns.values())))
        audio = self.columns["audio"]
        if isinstance(data.features[audio], datasets.Audio):
            data = data.cast_column(audio, datasets.Audio(decode=False))
        names = {field: _names(data, self.columns[field]) for field in FIELDS if field in self.columns}
        for index, record in zip(chosen, data, strict=True):
            values = {
                field: record[column] if field in {"audio", "start", "end"} else names[field](record[column])
                for field, column in self.columns.items()
            }
            values["language"] = self.spoken[index]
            yield from self._row(index, values, mapping)

    def _row(self, index: int, values: Mapping[str, Any], mapping: ColumnMapping) -> Iterator[Row | Problem]:
        where, key = f"{self.label}[{index}]", values.get("id") or f"{self.label}-{index}"
        if mapping.ids == "file-name":
            key = Path(key).stem
        text = re.sub(r"^\s*\[[^\]\s]+\]", "", values["text"]) if mapping.text == "tagged" else values["text"]
        try:
            audio = _audio(values["audio"])
            start, end = (None if values.get(name) is None else float(values[name]) for name in ("start", "end"))
        except BadInput as error:
            yield Problem("unsupported-audio", where, key, error.message)
            return
        except (TypeError, ValueError):
            detail = f"start and end should be numbers of seconds: {values.get('start')!r}, {values.get('end')!r}"
            yield Problem("bad-value", where, key, detail)
            return
        if audio is None:
            yield Problem("missing-file", where, key, "there is no audio in this row")
            return
        yield from make_row(
            where,
            split=self.split,
            id=key,
            audio=audio,
            text=text,
            language=values["language"],
            speaker=values.get("speaker") or None,
            recording=values.get("recording") or None,
            start=start,
            end=end,
        )


def _audio(value: Any) -> Audio | Path | None:
    if isinstance(value, str):
        return Path(value)
    if isinstance(value, Mapping):
        path, data = value.get("path"), value.get("bytes")
        if data is None:
            return Path(path) if path else None
        # A file that is there need not be kept in memory.
        return Path(path) if path and Path(path).is_absolute() and Path(path).is_file() else Audio.from_bytes(data)
    if value is None:
        return None
    raise BadInput(f"an audio column holds {type(value).__name__}, not a path or stored bytes")
