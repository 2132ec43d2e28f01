"""A folder of recordings with their transcripts beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnlens.data.corpus import SPLIT_NAMES, Corpus, OnBad, Row, Split, gather, make_row
from attnlens.data.records import numbered_lines
from attnlens.data.utterance import Problem
from attnlens.errors import BadInput, listing

__all__ = ["AUDIO_SUFFIXES", "LISTS", "folder_rows", "read_folder"]

AUDIO_SUFFIXES = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".sph", ".w64", ".wav")
)
"""Files taken for audio; what they really hold is found out by decoding."""

FOREIGN_SUFFIXES = frozenset((".3gp", ".aac", ".amr", ".g722", ".m4a", ".mka", ".mp4", ".webm", ".wma"))
LISTS = ("transcripts.tsv", "transcripts.txt")
"""Files that hold the transcripts of a whole folder, one ``name: text`` or ``name<TAB>text`` a line."""


@dataclass(frozen=True)
class _Transcript:
    text: str
    where: str
    id: str | None = None
    recording: str | None = None

    @property
    def speaker(self) -> str | None:
        # LibriSpeech names its transcripts speaker-chapter.trans.txt.
        return self.recording.partition("-")[0] if self.recording else None


def read_folder(
    path: str | Path, *, language: str | None = None, on_bad: OnBad = "refuse", split: Split = "pool"
) -> Corpus:
    """Read a corpus from a folder of audio files: the least work for recordings without a manifest.

    The transcript of ``a/x.wav`` is ``a/x.txt``, or a line of ``transcripts.txt`` or ``transcripts.tsv``
    (``name: text`` or ``name<TAB>text``, names relative to that file) or of a LibriSpeech ``*.trans.txt``
    (``name text``). Sub-folders named pool, dev or test (or train, valid, validation) are splits. Hidden files are not
    read.

    Parameters
    ----------
    path
        The folder; it is searched with all its sub-folders.
    language
        The language that is spoken: a folder cannot say it.
    on_bad
        Whether recordings without transcript, and transcripts without recording, refuse the folder, or are left out and
        listed in ``corpus.skipped``.
    split
        The split of recordings outside the sub-folders named above.

    >>> import tempfile, numpy as np, soundfile
    >>> folder = Path(tempfile.mkdtemp()) / "greetings"
    >>> (folder / "test").mkdir(parents=True)
    >>> soundfile.write(folder / "test" / "a.wav", np.zeros(16000), 16000)
    >>> _ = (folder / "test" / "a.txt").write_text("mba'eichapa", encoding="utf-8")
    >>> read_folder(folder, language="gn")
    Corpus('greetings', language='gn', pool=0, dev=0, test=1)
    """
    path = Path(path)
    rows = folder_rows(path, split=split)
    return gather(rows, name=path.resolve().name, source=path, language=language, on_bad=on_bad)


def folder_rows(path: Path, *, split: Split = "pool") -> Iterator[Row | Problem]:
    """Yield a row for every recording below a folder, or what is wrong with it."""
    if not path.is_dir():
        raise BadInput("there is no such folder", given=path, fix="check the path")
    files = {file.relative_to(path).as_posix(): file for file in _walk(path, frozenset())}
    audio = {name: file for name, file in files.items() if file.suffix.lower() in AUDIO_SUFFIXES}
    for name, file in files.items():
        if file.suffix.lower() in FOREIGN_SUFFIXES:
            detail = f"{file.suffix} files cannot be decoded here; convert it to WAV or FLAC"
            yield Problem("unsupported-audio", name, _stem(name), detail)
    if not audio:
        raise BadInput("there are no audio files", given=path, present=_kinds(files), fix=f"looked for {_suffixes()}")

    texts: dict[str, _Transcript] = {}
    read, ambiguous = set(audio), set()
    for found in _transcripts(files, audio, read):
        if isinstance(found, Problem):
            yield found
            continue
        name, transcript = found
        first = texts.setdefault(name, transcript)
        if first.text != transcript.text:
            detail = f"a second, different transcript of {name}; the first is at {first.where}"
            ambiguous.add(name)
            yield Problem("duplicate-id", transcript.where, transcript.id or _stem(name), detail)
    for name, file in audio.items():
        if name not in ambiguous:
            yield from _row(name, file, texts.get(name), split)
    unread = [name for name in files if name not in read and Path(name).suffix.lower() not in FOREIGN_SUFFIXES]
    if unread:
        yield Problem("unused", path.name, None, f"files that are not read: {_kinds(unread)}")


def _row(name: str, file: Path, transcript: _Transcript | None, split: Split) -> Iterator[Row | Problem]:
    if transcript is None:
        looked = f"{_stem(name)}.txt, a line in {' or '.join(LISTS)}, or a line in *.trans.txt"
        yield Problem("missing-text", name, _stem(name), f"no transcript; looked for {looked}")
        return
    top, below, _ = name.partition("/")
    yield from make_row(
        name,
        split=SPLIT_NAMES.get(top.casefold(), split) if below else split,
        id=transcript.id or _stem(name),
        audio=file,
        text=transcript.text,
        speaker=transcript.speaker,
        recording=transcript.recording,
    )


def _walk(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    # Corpora are often linked together from several disks, so links are followed, though never in a circle.
    here = folder.resolve()
    if here in above:
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, above | {here})
        else:
            yield entry


def _transcripts(
    files: dict[str, Path], audio: dict[str, Path], read: set[str]
) -> Iterator[tuple[str, _Transcript] | Problem]:
    by_stem: dict[str, list[str]] = {}
    for name in audio:
        by_stem.setdefault(_stem(name), []).append(name)
    for name, file in files.items():
        if file.suffix.lower() == ".txt" and _stem(name) in by_stem:
            read.add(name)
            text = _whole(name, file)
            yield from (
                [text]
                if isinstance(text, Problem)
                else [(clip, _Transcript(text, name)) for clip in by_stem[_stem(name)]]
            )
        elif file.name in LISTS or file.name.endswith(".trans.txt"):
            read.add(name)
            for entry in _entries(name, file):
                if isinstance(entry, Problem):
                    yield entry
                    continue
                said, transcript = entry
                target = (Path(name).parent / said).as_posix()
                clips = [target] if target in audio else by_stem.get(target, [])
                if not clips:
                    yield Problem("missing-file", transcript.where, said, f"a transcript without audio: no {target}.*")
                yield from ((clip, transcript) for clip in clips)


def _entries(name: str, file: Path) -> Iterator[tuple[str, _Transcript] | Problem]:
    libri = file.name.endswith(".trans.txt")
    label = file.name.removesuffix(".trans.txt")
    recording = label if libri and re.fullmatch(r"\d+-\d+", label) else None
    for number, line, problem in numbered_lines(file):
        where = f"{name}:{number}"
        line = line.strip()  # noqa: PLW2901
        if problem:
            yield Problem(problem.kind, where, None, problem.detail)
        elif libri and line:
            said, *text = line.split(maxsplit=1)
            yield said, _Transcript("".join(text), where, id=said, recording=recording)
        elif line and line[0] not in ";#":
            mark = "\t" if "\t" in line else ":" if line.endswith(":") else ": "
            said, found, text_ = line.partition(mark)
            if not found:
                detail = "a line should read `name: text`, or name and text with a tab between"
                yield Problem("bad-row", where, None, detail)
            else:
                yield said.strip(), _Transcript(text_.strip(), where)


def _whole(name: str, file: Path) -> str | Problem:
    lines = []
    for number, line, problem in numbered_lines(file):
        if problem:
            return Problem(problem.kind, f"{name}:{number}", _stem(name), problem.detail)
        lines.append(line.strip())
    return " ".join(line for line in lines if line)


def _stem(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _kinds(names: list[str] | dict[str, Path]) -> str:
    counts = Counter(Path(name).suffix or Path(name).name for name in names)
    return listing((f"{count} {suffix}" for suffix, count in counts.most_common()), at_most=8) or "nothing"


def _suffixes() -> str:
    return " ".join(sorted(AUDIO_SUFFIXES))
