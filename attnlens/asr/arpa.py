"""N-gram models in the ARPA text format that every toolkit reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from attnlens.asr.ngram import Gram, NGram
from attnlens.asr.pieces import MARK
from attnlens.asr.symbols import BEGIN, SPACE, UNKNOWN, SymbolUnit
from attnlens.errors import BadInput

__all__ = ["read_arpa", "write_arpa"]

LN10 = math.log(10)
IMPOSSIBLE = -99.0
"""What stands for log10 of nothing, by custom."""


def write_arpa(model: NGram, path: Path | str) -> Path:
    """Write a model with every digit, for other toolkits and for later.

    >>> import tempfile
    >>> from attnlens.asr.kneser_ney import train_ngram
    >>> model = train_ngram(["ka to"], order=2)
    >>> again = read_arpa(write_arpa(model, Path(tempfile.mkdtemp()) / "model.arpa"))
    >>> again.unit, abs(again.score(["to ka"])[0].total - model.score(["to ka"])[0].total) < 1e-12
    ('characters', True)
    """
    path = Path(path)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\\data\\\n")
        for n, table in enumerate(model.probabilities, start=1):
            file.write(f"ngram {n}={len(table)}\n")
        for n, table in enumerate(model.probabilities, start=1):
            file.write(f"\n\\{n}-grams:\n")
            weights = model.backoffs[n - 1]
            for gram, logprob in table.items():
                line = f"{_log10(logprob)}\t{' '.join(gram)}"
                file.write(f"{line}\t{_log10(weights[gram])}\n" if gram in weights else f"{line}\n")
        file.write("\n\\end\\\n")
    return path


def read_arpa(path: Path | str, *, unit: SymbolUnit | None = None, name: str | None = None) -> NGram:
    """Read a model that attnlens or another toolkit wrote.

    Parameters
    ----------
    unit
        What its symbols are. ARPA files do not say; None takes a model that knows ``<space>`` for one of characters,
        one with symbols that begin with ``▁`` for one of pieces, and any other for one of words.
    name
        What tables call it; by default the file's name.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"there is no ARPA file {path}", fix="train an n-gram model first, or correct the path")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no UTF-8 text", fix="pass the ARPA text, not a toolkit's binary") from None
    reader = _Reader(path, enumerate((line.strip() for line in lines), start=1))
    sizes = reader.sizes()
    probabilities, backoffs = zip(*(reader.section(n, size) for n, size in enumerate(sizes, start=1)), strict=True)
    reader.expect("\\end\\")
    if unit is None:
        marked = any(symbol.startswith(MARK) for (symbol,) in probabilities[0])
        unit = "characters" if (SPACE,) in probabilities[0] else "pieces" if marked else "words"
    return NGram(unit, probabilities, backoffs, name or path.stem)


class _Reader:
    def __init__(self, path: Path, lines: Iterator[tuple[int, str]]) -> None:
        self.path = path
        self.lines = ((number, line) for number, line in lines if line)

    def expect(self, wanted: str) -> None:
        number, line = self.next(wanted)
        if line != wanted:
            raise self.wrong(number, line, wanted)

    def next(self, wanted: str) -> tuple[int, str]:
        try:
            return next(self.lines)
        except StopIteration:
            raise BadInput(f"{self.path} ends too early", present=f"expected {wanted}", fix="copy it anew") from None

    def wrong(self, number: int, line: str, wanted: str) -> BadInput:
        return BadInput(
            f"{self.path.name}:{number} is not as ARPA files are",
            given=line[:80],
            present=f"expected {wanted}",
            fix="pass an ARPA text file",
        )

    def sizes(self) -> list[int]:
        self.expect("\\data\\")
        found: list[int] = []
        while True:
            number, line = self.next("\\1-grams:")
            if line == "\\1-grams:" and found:
                return found
            order, equals, size = line.removeprefix("ngram ").partition("=")
            if not (line.startswith("ngram ") and equals and size.strip().isdigit()) or order.strip() != str(
                len(found) + 1
            ):
                raise self.wrong(number, line, f"ngram {len(found) + 1}=<count>")
            found.append(int(size))

    def section(self, n: int, size: int) -> tuple[dict[Gram, float], dict[Gram, float]]:
        if n > 1:
            self.expect(f"\\{n}-grams:")
        logprobs: dict[Gram, float] = {}
        weights: dict[Gram, float] = {}
        for _ in range(size):
            number, line = self.next(f"{size} {n}-grams")
            fields = line.split()
            if len(fields) not in (n + 1, n + 2):
                raise self.wrong(number, line, f"log10 probability, {n} symbols, perhaps a weight")
            gram = tuple(UNKNOWN if one == "<UNK>" else one for one in fields[1 : n + 1])
            if gram in logprobs:
                raise self.wrong(number, line, "every n-gram once")
            try:
                logprobs[gram] = _natural(float(fields[0]))
                if len(fields) == n + 2:
                    weights[gram] = _natural(float(fields[-1]))
            except ValueError:
                raise self.wrong(number, line, "numbers at both ends") from None
            if logprobs[gram] > 0 and gram != (BEGIN,):
                raise self.wrong(number, line, "probabilities of at most 1")
        return logprobs, weights


def _log10(logprob: float) -> str:
    return repr(IMPOSSIBLE if logprob == -math.inf else logprob / LN10)


def _natural(log10: float) -> float:
    if math.isnan(log10):
        raise ValueError(log10)
    return -math.inf if log10 <= IMPOSSIBLE else log10 * LN10
