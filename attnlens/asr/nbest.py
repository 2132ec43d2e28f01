"""Competing transcripts of one utterance, with the acoustic and the language model's score apart, and their file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnlens.errors import BadInput

__all__ = ["Hypothesis", "NBest", "read_nbest", "write_nbest"]


@dataclass(frozen=True)
class Hypothesis:
    """One transcript with total log-probabilities (natural log): of the sound given the model, and of the text.

    ``lm`` is 0.0 when no language model took part. -inf is a score (impossible); NaN and +inf are refused.

    >>> Hypothesis("ka to", acoustic=-3.5)
    Hypothesis(text='ka to', acoustic=-3.5, lm=0.0)
    """

    text: str
    acoustic: float
    lm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("acoustic", "lm"):
            value = getattr(self, name)
            if math.isnan(value) or value == math.inf:
                raise BadInput(
                    f"the {name} score of a hypothesis is no log-probability",
                    given=f"{value} for {self.text!r}",
                    fix="pass a finite number, or -inf for what is impossible",
                )


@dataclass(frozen=True)
class NBest:
    """The hypotheses of one utterance, best first by the score they were searched with; no text stands twice.

    The list may be shorter than was asked for, and empty when nothing could be decoded.

    >>> NBest("u1", (Hypothesis("ka to", -3.5), Hypothesis("ka do", -4.0))).best.text
    'ka to'
    """

    utterance_id: str
    hypotheses: tuple[Hypothesis, ...]

    def __post_init__(self) -> None:
        texts = [one.text for one in self.hypotheses]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise BadInput(f"a transcript of {self.utterance_id!r} stands twice in its list", given=repr(twice))

    def __len__(self) -> int:
        return len(self.hypotheses)

    @property
    def best(self) -> Hypothesis:
        """The first hypothesis; an empty list is refused."""
        if not self.hypotheses:
            raise BadInput(f"the N-best list of {self.utterance_id!r} is empty", fix="leave the utterance out by name")
        return self.hypotheses[0]


def write_nbest(lists: Iterable[NBest], path: Path | str) -> None:
    """Write lists as JSON lines, one utterance each: ``{"id", "hypotheses": [{"text", "acoustic", "lm"}, ...]}``."""
    lines = []
    for one in lists:
        # JSON knows no infinity: what is impossible is written as null.
        scored = [
            {name: None if value == -math.inf else value for name, value in asdict(each).items()}
            for each in one.hypotheses
        ]
        lines.append(json.dumps({"id": one.utterance_id, "hypotheses": scored}, ensure_ascii=False, allow_nan=False))
    Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_nbest(path: Path | str) -> list[NBest]:
    """Read what :func:`write_nbest` wrote, or what another decoder wrote in that form.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "nbest.jsonl"
    >>> write_nbest([NBest("u1", (Hypothesis("ka", -1.0),))], file)
    >>> read_nbest(file)
    [NBest(utterance_id='u1', hypotheses=(Hypothesis(text='ka', acoustic=-1.0, lm=0.0),))]
    """
    path = Path(path)
    if path.is_file() and not path.stat().st_size:
        return []
    if not path.is_file():
        raise BadInput(f"there is no N-best file {path}", fix="decode first, or correct the path")
    found: dict[str, NBest] = {}
    # Not splitlines: it also parts at characters that a text may hold.
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            hypotheses = tuple(_hypothesis(one) for one in row["hypotheses"])
            name = str(row["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{path.name}:{number} is no N-best list",
                given=line[:120],
                present=str(error).splitlines()[0],
                fix='write {"id": ..., "hypotheses": [{"text": ..., "acoustic": ..., "lm": ...}]}',
            ) from None
        if name in found:
            raise BadInput(f"{path.name}:{number}: {name!r} stands twice", fix="keep one list per utterance")
        found[name] = NBest(name, hypotheses)
    return list(found.values())


def _hypothesis(row: dict[str, Any]) -> Hypothesis:
    scores = {name: row.get(name, 0.0) if name == "lm" else row[name] for name in ("acoustic", "lm")}
    acoustic, lm = (-math.inf if value is None else float(value) for value in scores.values())
    return Hypothesis(str(row["text"]), acoustic, lm)
