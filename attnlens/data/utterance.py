"""The unit of everything: one recording with its transcript, and the list of what can be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnlens.data.audio import Audio

__all__ = ["PROBLEMS", "Problem", "Severity", "Utterance"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Utterance:
    """One transcribed clip of one language.

    ``speaker`` and ``recording`` are None when unknown; leakage checks and clustered intervals use them when present.
    ``question`` is what is asked about this recording, where that is not its transcription: ``text`` then answers it.
    """

    id: str
    audio: Audio
    text: str
    language: str
    speaker: str | None = None
    recording: str | None = None
    question: str | None = None


PROBLEMS: dict[str, tuple[Severity, str]] = {
    # Found while reading, without opening any audio.
    "bad-row": ("error", "the row cannot be parsed: broken JSON, a stray quote, too few or too many fields"),
    "not-utf8": ("error", "the row is not UTF-8"),
    "missing-column": ("error", "a required column is not there"),
    "bad-value": ("error", "a value of the wrong kind: a start that is no number, an end before its start"),
    "unknown-split": ("error", "a split that is neither pool, dev, test nor one of their other names"),
    "duplicate-id": ("error", "the id is taken by an earlier row"),
    "empty-text": ("error", "the transcript is empty"),
    "missing-text": ("error", "a recording without a transcript"),
    "missing-file": ("error", "the audio file is not there"),
    "unsupported-audio": ("error", "audio that would need another program to read"),
    "no-language": ("warning", "no language is named"),
    "unused": ("warning", "a column or file that is not read"),
    # Found by reading the audio and the text.
    "undecodable-audio": ("error", "the audio cannot be decoded, or ends before it should"),
    "empty-audio": ("error", "the audio has no samples"),
    "bad-cut": ("error", "start or end lie beyond the end of the recording"),
    "nan-audio": ("error", "the audio holds NaN or infinite samples"),
    "silent-audio": ("error", "the audio is silent: below -60 dBFS on average"),
    "too-long": ("error", "the clip is longer than the model reads"),
    "too-short": ("warning", "the clip is shorter than 0.1 s"),
    "clipped-audio": ("warning", "more than 0.1 % of the samples are cut off at full scale"),
    "fast-text": ("warning", "more than 40 characters per second: the text may belong to another clip"),
    "odd-characters": ("warning", "control or replacement characters in the text"),
    # Found by comparing rows.
    "audio-in-two-splits": ("error", "the same audio in two splits"),
    "text-in-two-splits": ("error", "nearly the same text in two splits"),
    "duplicate-audio": ("warning", "the same audio twice within a split"),
    "speaker-in-two-splits": ("warning", "a speaker in more than one split"),
    "recording-in-two-splits": ("warning", "a recording in more than one split"),
}
"""Every kind of problem: how severe it is, and what it means. Errors make a row unusable; warnings want a look."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where: what readers refuse or skip, and what ``attnlens data check`` lists.

    ``kind`` is a name of :data:`PROBLEMS`. ``where`` is the place in the source, such as ``manifest.jsonl:3``; ``id``
    is None when the problem belongs to no single utterance.

    >>> problem = Problem("empty-text", where="manifest.jsonl:3", id="u3", detail="the text is empty")
    >>> print(problem, "|", problem.severity)
    manifest.jsonl:3 (u3): the text is empty | error
    """

    kind: str
    where: str
    id: str | None
    detail: str

    @property
    def severity(self) -> Severity:
        """Whether the row is unusable or only wants a look."""
        return PROBLEMS[self.kind][0]

    def to_dict(self) -> dict[str, str | None]:
        """Return plain values, as JSON output has them."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "where": self.where,
            "id": self.id,
            "detail": self.detail,
        }

    def __str__(self) -> str:
        return f"{self.where}{'' if self.id is None else f' ({self.id})'}: {self.detail}"
