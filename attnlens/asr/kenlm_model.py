"""Large n-gram models through KenLM, where it is installed; the same scores as our own reader gives, in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnlens.asr.language_model import TextScore
from attnlens.asr.symbols import SymbolUnit, symbols
from attnlens.errors import BadInput

__all__ = ["KenLM"]

LN10 = math.log(10)


class KenLM:
    """Score texts with an ARPA file or one of KenLM's binaries.

    Parameters
    ----------
    path
        The model's file.
    unit
        What its symbols are; the file does not say.
    """

    def __init__(self, path: Path | str, *, unit: SymbolUnit, name: str | None = None) -> None:
        try:
            import kenlm
        except ImportError:
            raise BadInput(
                "KenLM is not installed",
                given=str(path),
                fix="pip install kenlm, or read an ARPA file with attnlens.asr.arpa.read_arpa",
            ) from None
        if not Path(path).is_file():
            raise BadInput(f"there is no model {path}", fix="check the path")
        if unit == "pieces":
            raise BadInput(
                "pieces of words are learnt with a model, and a KenLM file has none",
                fix="read the ARPA file with read_arpa, or pass unit='words' or 'characters'",
            )
        self.unit = unit
        self.name = name or Path(path).stem
        try:
            self._model = kenlm.Model(str(path))
        except OSError as error:
            raise BadInput(f"KenLM cannot read {path}", present=str(error).splitlines()[0], fix="check it") from None

    def score(self, texts: Sequence[str], *, demonstrations: Sequence[str] = ()) -> list[TextScore]:
        """Score texts; an n-gram model reads no demonstrations."""
        if demonstrations:
            raise BadInput("an n-gram model reads no demonstrations", given=f"{len(demonstrations)} texts")
        found = []
        for text in texts:
            line = " ".join(symbols(text, self.unit))
            *own, end = [LN10 * logprob for logprob, _, _ in self._model.full_scores(line, bos=True, eos=True)]
            found.append(TextScore(np.array(own, dtype=np.float64), end))
        return found
